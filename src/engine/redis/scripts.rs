//! Lua scripts for steps that must be atomic. They are called by their digests; a server that does not know one gets its
//! text.

/// Prefixes a script with `now`: the engine's time in ms, which follows Redis' clock but never goes back. The hash
/// `clock` stores how far that clock has been set back. Keys: see `Keys::nodes`.
macro_rules! with_now {
    ($($script:expr),+) => {
        concat!(
            r"
local leases, records, dead, status, clock, unsure, speaks, changes, sums, issued = unpack(KEYS)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + (redis.call('HGET', clock, 'set_back') or 0)
",
            $($script),+
        )
    };
}

/// Numbers each change of a node or set, so that a node that knows the state at one number reads what has changed since.
/// `begun` in `changes` is the first number from which all are there.
macro_rules! noting {
    () => {
        r"
local function sorted(names)
  table.sort(names)
  return ipairs(names)
end

local function note(name)
  local number = math.max((redis.call('HGET', clock, 'change') or 0) + 1, now)
  redis.call('HSET', clock, 'change', number)
  if redis.call('ZCARD', changes) == 0 then redis.call('ZADD', changes, number, 'begun') end
  redis.call('ZADD', changes, number, name)
  if redis.call('ZCARD', changes) > 1000 then
    local cut = redis.call('ZRANGE', changes, 500, 500, 'WITHSCORES')[2]
    redis.call('ZREMRANGEBYSCORE', changes, '-inf', cut)
    redis.call('ZADD', changes, cut, 'begun')
  end
end

-- What a dead node owns must be taken over.
local function abandon(node)
  for _, set in sorted(redis.call('HKEYS', records)) do
    if redis.call('HGET', records, set) == node then note(set) end
  end
end
"
    };
}

/// `news(known)` returns the number of the last change; 1 if the lists below are complete, 0 if only what has changed since
/// number `known` follows; that as name, letters (`l` has a lease, `s` speaks, `u` unsure, `q` unheard since a loss) and
/// owner of the set of this name, empty for none; all live nodes; those that speak; `unsure`; `records`.
macro_rules! reading_changes {
    () => {
        r"
local function names_since(known)
  local number = tonumber(redis.call('HGET', clock, 'change') or 0)
  if known > 0 and known == number then return {} end
  local begun = tonumber(redis.call('ZSCORE', changes, 'begun'))
  if known == 0 or known > number or not begun or begun > known then return nil end
  return redis.call('ZRANGEBYSCORE', changes, string.format('(%.0f', known), '+inf')
end

local function news(known)
  local names, changed = names_since(known), {}
  local number = tonumber(redis.call('HGET', clock, 'change') or 0)
  if not names then
    return {
      number, 1, {}, redis.call('ZRANGE', leases, 0, -1), redis.call('HKEYS', speaks), redis.call('HGETALL', unsure),
      redis.call('HGETALL', records)
    }
  end
  for _, name in ipairs(names) do
    local doubt, letters = redis.call('HGET', unsure, name), ''
    if redis.call('ZSCORE', leases, name) then letters = letters .. 'l' end
    if redis.call('HGET', speaks, name) then letters = letters .. 's' end
    if doubt then letters = letters .. (doubt == '0' and 'q' or 'u') end
    changed[#changed + 1] = name
    changed[#changed + 1] = letters
    changed[#changed + 1] = redis.call('HGET', records, name) or ''
  end
  return {number, 0, changed, {}, {}, {}, {}}
end
"
    };
}

/// Keeps `sums` of all statuses. `quit(node)` takes a node out of them; connect URLs that it issued are listed in `issued`
/// until they expire.
macro_rules! summing {
    () => {
        r"
local function counts(text)
  local is_valid, read = pcall(cjson.decode, text)
  return is_valid and type(read) == 'table' and read or {}
end

local function add(text, sign)
  for name, count in pairs(counts(text)) do
    if type(count) == 'number' and name ~= ' node' and string.sub(name, 1, 8) ~= ' issued ' then
      if redis.call('HINCRBY', sums, name, string.format('%.0f', sign * count)) == 0 then redis.call('HDEL', sums, name) end
    end
  end
end

local function quit(node)
  local text = redis.call('HGET', status, node)
  if not text then return end
  add(text, -1)
  for name, count in pairs(counts(text)) do
    local expiry, tenant = string.match(name, '^ issued (%d+) (.*)$')
    if expiry and type(count) == 'number' then
      redis.call('ZADD', issued, expiry, string.format('%s %.0f %s', node, count, tenant))
    end
  end
  redis.call('HDEL', status, node)
end
"
    };
}

/// Takes `KEYS[1]` for the value `ARGV[1]`, for `ARGV[2]` ms: 1 if its token holds it, 2 if it does and Redis has lost
/// data, 0 if another one does. Values of tunnels: see `entry.rs`.
///
/// Data is lost if node `ARGV[3]` has less than its last write `ARGV[4]` in `KEYS[2]`, or the data in clock `KEYS[3]`
/// was found new after that write, at `ARGV[5]`.
pub const CLAIM: &str = r"
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  local held = redis.call('GET', KEYS[1])
  if held ~= ARGV[1] and string.sub(held, 2, 17) ~= string.sub(ARGV[1], 2, 17) then return 0 end
end
if not KEYS[2] then return 1 end
if tonumber(redis.call('HGET', KEYS[2], ARGV[3]) or 0) < tonumber(ARGV[4]) then return 2 end
if tonumber(redis.call('HGET', KEYS[3], 'born') or 0) > tonumber(ARGV[5]) then return 2 end
return 1
";

/// Releases the claim `KEYS[1]` of a tunnel, if the token `ARGV[1]` holds it.
pub const RELEASE: &str = r"
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 2, 17) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
";

/// Marks the claims `KEYS` of node `ARGV[1]` as closed, until their connect URLs expire. Each has an argument from
/// `ARGV[2]` on: the token that must hold it, `*` for any, or nothing for one whose connect URL must have expired.
pub const CLOSE: &str = r"
local time = redis.call('TIME')
for at, key in ipairs(KEYS) do
  local held, token = redis.call('GET', key), ARGV[at + 1]
  if held and string.sub(held, 18, 33) == ARGV[1] then
    local left = (tonumber(string.sub(held, 34)) or 0) - time[1]
    if left <= 0 then
      redis.call('DEL', key)
    elseif token == '*' or string.sub(held, 2, 17) == token then
      redis.call('SET', key, 'c' .. string.sub(held, 2, 17), 'PX', left * 1000)
    end
  end
end
return 1
";

/// Extends the claims `KEYS` of node `ARGV[1]` to `ARGV[2]` ms, and returns the places of those that it does not hold.
pub const KEEP: &str = r"
local missing = {}
for at, key in ipairs(KEYS) do
  local held = redis.call('GET', key)
  if held and string.sub(held, 18, 33) == ARGV[1] then
    redis.call('PEXPIRE', key, ARGV[2])
  else
    missing[#missing + 1] = at
  end
end
return missing
";

/// Begins the call `KEYS[1]` for the token `ARGV[1]` with the body fingerprint `ARGV[2]`: it counts as running for
/// `ARGV[3]` ms, and its answer is kept for `ARGV[4]` ms. Returns `first`, `lost` (first, and Redis has lost data: see
/// [`CLAIM`], here with `ARGV[5]` to `ARGV[7]`), `reused`, `running`, or `done` and the answer.
pub const BEGIN: &str = r"
local known = redis.call('HMGET', KEYS[1], 'token', 'body', 'answer')
if not known[1] then
  redis.call('HSET', KEYS[1], 'token', ARGV[1], 'body', ARGV[2], 'life', ARGV[4])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
if not known[1] or known[1] == ARGV[1] then
  if not KEYS[2] then return {'first', ''} end
  if tonumber(redis.call('HGET', KEYS[2], ARGV[5]) or 0) < tonumber(ARGV[6]) then return {'lost', ''} end
  if tonumber(redis.call('HGET', KEYS[3], 'born') or 0) > tonumber(ARGV[7]) then return {'lost', ''} end
  return {'first', ''}
end
if known[2] ~= ARGV[2] then return {'reused', ''} end
if known[3] then return {'done', known[3]} end
return {'running', ''}
";

/// Stores the answer `ARGV[2]` of the call `KEYS[1]`, if the token `ARGV[1]` holds it.
pub const FINISH: &str = r"
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'answer', ARGV[2])
redis.call('PEXPIRE', KEYS[1], redis.call('HGET', KEYS[1], 'life'))
return 1
";

/// Writes back the call `KEYS[1]` of the token `ARGV[1]` with the body fingerprint `ARGV[2]`, for `ARGV[4]` ms more,
/// with the answer `ARGV[5]` if not empty; a later answer is kept for `ARGV[3]` ms. No effect if another token holds
/// it.
pub const REMEMBER: &str = r"
local token = redis.call('HGET', KEYS[1], 'token')
if token and token ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'body', ARGV[2], 'life', ARGV[3])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'answer', ARGV[5]) end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
";

/// Removes the call `KEYS[1]`, if the token `ARGV[1]` holds it.
pub const ABANDON: &str = r"
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
";

/// Renews the lease of node `ARGV[1]` for `ARGV[2]` ms, declares nodes with expired leases dead, and takes over sets
/// without a live owner.
///
/// A dead node is listed in `dead`, so that it stops. A node in neither `leases` nor `dead` gets a new lease: Redis has
/// lost one of the two, which is no proof of death.
///
/// `ARGV[3]`: after so many ms without any renewal the engine was away, or its clock was set forward, and all leases restart. `ARGV[4]`: how long
/// dead nodes are remembered, in ms. `ARGV[5]`: this node's status. `ARGV[6]`: 1 while it is rewriting its data.
/// `ARGV[7]`: the end of its lease as last returned, 0 for none; if Redis has less, it lost data or went back, and the
/// data counts as new. `ARGV[8]`: the installation id, empty if unknown; `ARGV[9]`: a proposal if there is none; the
/// oldest id wins. `ARGV[10]`: the number of the last change that it knows, 0 for none. `ARGV[11]`: the time that Redis
/// must have shown by now, in ms, 0 if unknown. `ARGV[12]`: how many sets it knows. Keys: see `Keys::nodes`.
///
/// As long as all is as that node knows it, the work and the answer do not grow with the number of nodes.
///
/// Returns: `renewed`, `registered` (new), `lost`, `doubtful` (lost, and its lease had expired: its death may be part
/// of the loss) or `dead`; the age of the data in ms; the end of its lease; how far Redis' clock was set back, in ms; the
/// installation id; the nodes and sets, see `reading_changes`; dead nodes with their time of death, at least those since
/// the last renewal; the sums of all statuses; what dead nodes have issued: `node count tenant` each.
pub const RENEW: &str = with_now!(
    noting!(),
    reading_changes!(),
    summing!(),
    r"
local me, lease, last_end = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[7])

local place, known = redis.call('HGET', records, me), tonumber(redis.call('ZSCORE', leases, me) or 0)
local born, tick = unpack(redis.call('HMGET', clock, 'born', 'tick'))
local set_back = tonumber(redis.call('HGET', clock, 'set_back') or 0)
local spoken = tonumber(redis.call('HGET', speaks, me) or 0)
-- Another node may have extended the lease from old data; only the node itself writes `speaks`.
local is_lost = math.min(known, spoken) < last_end
local shown = math.max(tonumber(tick or 0), last_end - lease)
-- What Redis showed to other nodes after that is lost too, and so is it with the clock alone.
if is_lost or not tick then shown = math.max(shown, tonumber(ARGV[11])) end
if now < shown then
  set_back, now = set_back + shown - now, shown
  redis.call('HSET', clock, 'set_back', set_back)
end
-- The lease expired and is missing although the data is the same: the entry in `dead` may be lost too.
local is_same = born and tick and tonumber(born) <= last_end - lease and tonumber(tick) >= last_end - lease
local may_be_dead = last_end > 0 and known == 0 and now > last_end and is_same
if redis.call('ZSCORE', dead, me) or place and place ~= me or may_be_dead then
  redis.call('ZREM', leases, me)
  redis.call('ZADD', dead, 'NX', now, me)
  redis.call('HSETNX', records, me, me)
  note(me)
  abandon(me)
  local died = {me, redis.call('ZSCORE', dead, me)}
  return {'dead', now - (born or now), now + lease, set_back, '', {0, 0, {}, {}, {}, {}, {}}, died, {}, {}}
end

-- Another node has found the loss since the last renewal, and new leases for all hide it.
local is_reborn = last_end > 0 and born and tonumber(born) > last_end - lease
-- How long it was is unknown without the clock.
local is_quiet = not tick or now - tick > tonumber(ARGV[3])
local names = names_since(tonumber(ARGV[10]))
local living = redis.call('ZCARD', leases)
local is_whole = last_end > 0 and place and born and tick and names and not is_lost and not is_reborn and not is_quiet
  and living == redis.call('HLEN', speaks) and living == redis.call('HLEN', status)
  and (#names > 0 or redis.call('HLEN', records) == tonumber(ARGV[12]))

redis.call('HSETNX', clock, 'born', now)
local id = redis.call('HGET', clock, 'installation')
if ARGV[8] ~= '' and (not id or ARGV[8] < id) then
  id = ARGV[8]
elseif not id then
  id = string.format('%015.0f-%s', now, ARGV[9])
end
redis.call('HSET', clock, 'installation', id, 'tick', now)
if is_lost and not is_reborn then
  redis.call('HSET', clock, 'born', now)
  -- No node has said yet that its part is there.
  for _, node in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
    if redis.call('HSETNX', unsure, node, 0) == 1 then note(node) end
  end
end
if is_lost or is_quiet then
  for _, node in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
    redis.call('ZADD', leases, now + lease, node)
  end
end
if known == 0 or spoken == 0 or place ~= me then note(me) end
redis.call('ZADD', leases, now + lease, me)
redis.call('HSET', records, me, me)
redis.call('HSET', speaks, me, now + lease)
local doubt = redis.call('HGET', unsure, me)
if is_lost or is_reborn or ARGV[6] == '1' then
  redis.call('HSET', unsure, me, now)
  if not doubt or doubt == '0' then note(me) end
elseif doubt then
  redis.call('HDEL', unsure, me)
  note(me)
end

local before = redis.call('HGET', status, me)
if before ~= ARGV[5] then
  if before then
    add(before, -1)
  elseif last_end > 0 then
    redis.call('DEL', sums)
  end
  add(ARGV[5], 1)
  redis.call('HSET', status, me, ARGV[5])
end

if last_end > 0 and not place then
  for _, node in ipairs(redis.call('ZRANGE', dead, 0, -1)) do
    if redis.call('HSETNX', records, node, node) == 1 then note(node) end
  end
end

if not is_whole then
  local nodes = redis.call('HKEYS', status)
  local owners = redis.call('HGETALL', records)
  for at = 2, #owners, 2 do nodes[#nodes + 1] = owners[at] end
  for _, node in sorted(nodes) do
    if not redis.call('ZSCORE', dead, node) and redis.call('ZADD', leases, 'NX', now + lease, node) == 1 then note(node) end
  end
end
local expired = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, is_whole and 8 or -1)
for _, node in ipairs(expired) do
  redis.call('ZREM', leases, node)
  redis.call('ZADD', dead, now, node)
  redis.call('HSETNX', records, node, node)
  redis.call('HDEL', unsure, node)
  redis.call('HDEL', speaks, node)
  quit(node)
  note(node)
end

-- Sets without a live owner: a death may leave any, else only what has changed may be one.
local sets = names
if not is_whole or #expired > 0 then
  sets = redis.call('HKEYS', records)
  table.sort(sets)
end
for _, set in ipairs(sets) do
  local owner = redis.call('HGET', records, set)
  if owner and owner ~= me and not redis.call('ZSCORE', leases, owner) then
    redis.call('HSET', records, set, me)
    note(set)
  end
end

redis.call('ZREMRANGEBYSCORE', dead, '-inf', now - tonumber(ARGV[4]))
redis.call('ZREMRANGEBYSCORE', issued, '-inf', string.format('(%.0f', math.floor(now / 1000)))

if not is_whole then
  for _, node in sorted(redis.call('HKEYS', speaks)) do
    if not redis.call('ZSCORE', leases, node) then
      redis.call('HDEL', speaks, node)
      note(node)
    end
  end
  for _, node in ipairs(redis.call('HKEYS', status)) do
    if not redis.call('ZSCORE', leases, node) then quit(node) end
  end
end
-- Nodes of the last release do not keep the sums.
local is_mixed = redis.call('ZCARD', leases) ~= redis.call('HLEN', speaks)
if is_mixed or not redis.call('HGET', sums, ' whole') then
  redis.call('DEL', sums)
  local texts = redis.call('HGETALL', status)
  for at = 2, #texts, 2 do add(texts[at], 1) end
  if not is_mixed then redis.call('HSET', sums, ' whole', 1) end
end

local age = now - redis.call('HGET', clock, 'born')
local standing = last_end == 0 and 'registered' or 'renewed'
if last_end > 0 and (is_lost or is_reborn or not place) then standing = 'lost' end
if standing == 'lost' and now > last_end and (is_lost or is_reborn) then standing = 'doubtful' end
local died = redis.call('ZREVRANGEBYSCORE', dead, '+inf', last_end > 0 and last_end - 2 * lease or '-inf', 'WITHSCORES', 'LIMIT', 0, 1000)
return {
  standing, age, now + lease, set_back, id, news(is_whole and tonumber(ARGV[10]) or 0), died, redis.call('HGETALL', sums),
  redis.call('ZRANGE', issued, 0, 999)
}
"
);

/// Records node `ARGV[2]` as dead, and every third argument after it, whatever a restored Redis says. The next argument
/// is its burial: `gone`, its set was empty, and node `ARGV[1]` owns any restored content; `mine`, that node owns it
/// anyway; `dead`, another node does. The third is the time since its death in ms. Keys: see `Keys::nodes`.
pub const BURY: &str = with_now!(
    noting!(),
    summing!(),
    r"
for at = 2, #ARGV, 3 do
  local node, how = ARGV[at], ARGV[at + 1]
  local has_lease, owner = redis.call('ZREM', leases, node) == 1, redis.call('HGET', records, node)
  if how == 'mine' or how == 'gone' and (has_lease or owner) then
    redis.call('HSET', records, node, ARGV[1])
  elseif how == 'dead' then
    redis.call('HSETNX', records, node, node)
  end
  redis.call('ZADD', dead, 'NX', now - ARGV[at + 2], node)
  redis.call('HDEL', unsure, node)
  redis.call('HDEL', speaks, node)
  quit(node)
  if has_lease or owner ~= redis.call('HGET', records, node) then note(node) end
  if has_lease then abandon(node) end
end
return 1
"
);

/// Marks the data as complete, after node `ARGV[1]` has found no other node. Keys: see `Keys::nodes`.
///
/// The data then counts as `ARGV[2]` ms old, not older: an isolated node must still see that it is new.
pub const COMPLETE: &str = with_now!(
    r"
local born = tonumber(redis.call('HGET', clock, 'born') or now)
if redis.call('ZSCORE', leases, ARGV[1]) then redis.call('HSET', clock, 'born', math.min(born, now - ARGV[2])) end
return 1
"
);

/// Returns the age of the data in ms, -1 if there is none or the lease of node `ARGV[1]` that ends at `ARGV[2]` is
/// missing; the nodes and sets, as far as they have changed since number `ARGV[3]`, see `reading_changes`; and the values of
/// all keys behind those of `Keys::nodes`.
pub const NODES: &str = with_now!(
    reading_changes!(),
    r"
local born = redis.call('HGET', clock, 'born')
local known = math.min(redis.call('ZSCORE', leases, ARGV[1]) or 0, redis.call('HGET', speaks, ARGV[1]) or 0)
local is_lost = known < tonumber(ARGV[2])
local age = not is_lost and born and (now - born) or -1
local values = {}
if KEYS[11] then values = redis.call('MGET', unpack(KEYS, 11)) end
return {age, news(tonumber(ARGV[3])), values}
"
);

/// Removes node `ARGV[1]`; `ARGV[2]` is 1 if it leaves records or index entries. Keys: see `Keys::nodes`.
pub const LEAVE: &str = with_now!(
    noting!(),
    summing!(),
    r"
redis.call('ZREM', leases, ARGV[1])
redis.call('ZADD', dead, now, ARGV[1])
redis.call('HDEL', unsure, ARGV[1])
redis.call('HDEL', speaks, ARGV[1])
quit(ARGV[1])
if ARGV[2] == '0' then redis.call('HDEL', records, ARGV[1]) end
note(ARGV[1])
abandon(ARGV[1])
return 1
"
);

/// Removes the empty set `ARGV[2]`, if node `ARGV[1]` still owns it. Keys: see `Keys::nodes`.
pub const DISMISS: &str = with_now!(
    noting!(),
    r"
if redis.call('HGET', records, ARGV[2]) == ARGV[1] then
  redis.call('HDEL', records, ARGV[2])
  note(ARGV[2])
end
return 1
"
);

/// Returns set `ARGV[2]` to its dead node, so that the next node takes it over, if node `ARGV[1]` still owns it; the
/// death is recorded again, so that it is remembered as long. Keys: see `Keys::nodes`.
pub const HAND_ON: &str = with_now!(
    noting!(),
    r"
if redis.call('HGET', records, ARGV[2]) ~= ARGV[1] or ARGV[1] == ARGV[2] then return 0 end
redis.call('HSET', records, ARGV[2], ARGV[2])
redis.call('ZADD', dead, now, ARGV[2])
note(ARGV[2])
return 1
"
);

/// Deletes the fields `ARGV[2]` and further from the hash `KEYS[1]`, except those with a number above `ARGV[1]`, which
/// were written later.
pub const TAKE_OUT: &str = r"
for at = 2, #ARGV do
  local number = redis.call('HGET', KEYS[1], ARGV[at])
  if number and tonumber(number) <= tonumber(ARGV[1]) then redis.call('HDEL', KEYS[1], ARGV[at]) end
end
return 1
";
