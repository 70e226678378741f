//! Lua scripts for steps that must be atomic. Each call sends the full script, so that none must be loaded first.

/// Prefixes a script with `now`: the engine's time in ms, which follows Redis' clock but never goes back. `KEYS[5]`
/// stores how far that clock has been set back. Keys: see `Keys::nodes`.
macro_rules! with_now {
    ($script:literal) => {
        concat!(
            r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + (redis.call('HGET', KEYS[5], 'set_back') or 0)
",
            $script
        )
    };
}

/// Takes `KEYS[1]` for the token `ARGV[1]`, for `ARGV[2]` ms: 1 if the token holds it, 2 if it does and Redis has lost
/// data, 0 if another one does.
///
/// Data is lost if node `ARGV[3]` has less than its last write `ARGV[4]` in `KEYS[2]`, or the data in clock `KEYS[3]`
/// was found new after that write, at `ARGV[5]`.
pub const CLAIM: &str = r"
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if not KEYS[2] then return 1 end
if tonumber(redis.call('HGET', KEYS[2], ARGV[3]) or 0) < tonumber(ARGV[4]) then return 2 end
if tonumber(redis.call('HGET', KEYS[3], 'born') or 0) > tonumber(ARGV[5]) then return 2 end
return 1
";

/// Releases `KEYS[1]`, if the token `ARGV[1]` holds it.
pub const RELEASE: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
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
/// `ARGV[3]`: after so many ms without any renewal the engine was away, and all leases restart. `ARGV[4]`: how long
/// dead nodes are remembered, in ms. `ARGV[5]`: this node's status. `ARGV[6]`: 1 while it is rewriting its data.
/// `ARGV[7]`: the end of its lease as last returned, 0 for none; if Redis has less, it lost data or went back, and the
/// data counts as new. `ARGV[8]`: the installation id, empty if unknown; `ARGV[9]`: a proposal if there is none; the
/// oldest id wins. Keys: see `Keys::nodes`.
///
/// Returns: `renewed`, `registered` (new), `lost`, `doubtful` (lost, and its lease had expired: its death may be part
/// of the loss) or `dead`; the age of the data in ms; the other sets it owns; all live nodes; the statuses of the
/// others; the end of its lease; all sets; the nodes still rewriting data; the nodes that answer about used tokens; the
/// installation id; how far Redis' clock was set back, in ms; dead nodes with their time of death, at least those since
/// the last renewal.
pub const RENEW: &str = with_now!(
    r"
local leases, records, dead, status, clock, unsure, speaks = unpack(KEYS)
local me, lease, last_end = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[7])

local place, known = redis.call('HGET', records, me), tonumber(redis.call('ZSCORE', leases, me) or 0)
local born, tick = unpack(redis.call('HMGET', clock, 'born', 'tick'))
local set_back = tonumber(redis.call('HGET', clock, 'set_back') or 0)
local shown = math.max(tonumber(tick or 0), last_end - lease)
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
  local died = {me, redis.call('ZSCORE', dead, me)}
  return {'dead', now - (born or now), {}, {}, {}, now + lease, {}, {}, {}, '', set_back, died}
end

-- Another node may have extended the lease from old data; only the node itself writes `speaks`.
local is_lost = math.min(known, tonumber(redis.call('HGET', speaks, me) or 0)) < last_end
-- Another node has found the loss since the last renewal, and new leases for all hide it.
local is_reborn = last_end > 0 and born and tonumber(born) > last_end - lease
tick = tonumber(tick or now)
redis.call('HSETNX', clock, 'born', now)
local id = redis.call('HGET', clock, 'installation')
if ARGV[8] ~= '' and (not id or ARGV[8] < id) then
  id = ARGV[8]
elseif not id then
  id = string.format('%015.0f-%s', now, ARGV[9])
end
redis.call('HSET', clock, 'installation', id)
if is_lost and not is_reborn then redis.call('HSET', clock, 'born', now) end
redis.call('HSET', clock, 'tick', now)
if is_lost or now - tick > tonumber(ARGV[3]) then
  for _, node in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
    redis.call('ZADD', leases, now + lease, node)
  end
end
redis.call('ZADD', leases, now + lease, me)
redis.call('HSET', records, me, me)
redis.call('HSET', status, me, ARGV[5])
redis.call('HSET', speaks, me, now + lease)
if is_lost or is_reborn or ARGV[6] == '1' then redis.call('HSET', unsure, me, now) else redis.call('HDEL', unsure, me) end

if last_end > 0 and not place then
  for _, node in ipairs(redis.call('ZRANGE', dead, 0, -1)) do redis.call('HSETNX', records, node, node) end
end

local nodes = redis.call('HKEYS', status)
local owners = redis.call('HGETALL', records)
for i = 2, #owners, 2 do nodes[#nodes + 1] = owners[i] end
for _, node in ipairs(nodes) do
  if not redis.call('ZSCORE', dead, node) then redis.call('ZADD', leases, 'NX', now + lease, node) end
end
for _, node in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now)) do
  redis.call('ZREM', leases, node)
  redis.call('ZADD', dead, now, node)
  redis.call('HSETNX', records, node, node)
  redis.call('HDEL', status, node)
  redis.call('HDEL', unsure, node)
end

local mine, sets = {}, {}
owners = redis.call('HGETALL', records)
for i = 1, #owners, 2 do
  local set, owner = owners[i], owners[i + 1]
  sets[#sets + 1] = set
  if owner ~= me and not redis.call('ZSCORE', leases, owner) then
    redis.call('HSET', records, set, me)
    owner = me
  end
  if owner == me and set ~= me then mine[#mine + 1] = set end
end

redis.call('ZREMRANGEBYSCORE', dead, '-inf', now - tonumber(ARGV[4]))

local others = {}
local statuses = redis.call('HGETALL', status)
for i = 1, #statuses, 2 do
  if statuses[i] ~= me then others[#others + 1] = statuses[i + 1] end
end
local answering = redis.call('HKEYS', speaks)
for _, node in ipairs(answering) do
  if not redis.call('ZSCORE', leases, node) then redis.call('HDEL', speaks, node) end
end

local age = now - redis.call('HGET', clock, 'born')
local standing = last_end == 0 and 'registered' or 'renewed'
if last_end > 0 and (is_lost or is_reborn or not place) then standing = 'lost' end
if standing == 'lost' and now > last_end and (is_lost or is_reborn) then standing = 'doubtful' end
local died = redis.call('ZREVRANGEBYSCORE', dead, '+inf', last_end > 0 and last_end - 2 * lease or '-inf', 'WITHSCORES', 'LIMIT', 0, 1000)
return {
  standing, age, mine, redis.call('ZRANGE', leases, 0, -1), others, now + lease, sets, redis.call('HKEYS', unsure), answering, id,
  set_back, died
}
"
);

/// Records node `ARGV[2]` as dead, and every third argument after it, whatever a restored Redis says. The next argument
/// is its burial: `gone`, its set was empty, and node `ARGV[1]` owns any restored content; `mine`, that node owns it
/// anyway; `dead`, another node does. The third is the time since its death in ms. Keys: see `Keys::nodes`.
pub const BURY: &str = with_now!(
    r"
for at = 2, #ARGV, 3 do
  local node, how = ARGV[at], ARGV[at + 1]
  local has_lease = redis.call('ZREM', KEYS[1], node) == 1
  if how == 'mine' or how == 'gone' and (has_lease or redis.call('HGET', KEYS[2], node)) then
    redis.call('HSET', KEYS[2], node, ARGV[1])
  elseif how == 'dead' then
    redis.call('HSETNX', KEYS[2], node, node)
  end
  redis.call('ZADD', KEYS[3], 'NX', now - ARGV[at + 2], node)
  redis.call('HDEL', KEYS[4], node)
  redis.call('HDEL', KEYS[6], node)
end
return 1
"
);

/// Marks the data as complete, after node `ARGV[1]` has found no other node. Keys: see `Keys::nodes`.
///
/// The data then counts as `ARGV[2]` ms old, not older: an isolated node must still see that it is new.
pub const COMPLETE: &str = with_now!(
    r"
local born = tonumber(redis.call('HGET', KEYS[5], 'born') or now)
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then redis.call('HSET', KEYS[5], 'born', math.min(born, now - ARGV[2])) end
return 1
"
);

/// Returns the age of the data in ms, -1 if there is none or the lease of node `ARGV[1]` that ends at `ARGV[2]` is
/// missing; all live nodes; those still rewriting data. Keys: see `Keys::nodes`.
pub const NODES: &str = with_now!(
    r"
local born = redis.call('HGET', KEYS[5], 'born')
local known = math.min(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0, redis.call('HGET', KEYS[7], ARGV[1]) or 0)
local is_lost = known < tonumber(ARGV[2])
local age = not is_lost and born and (now - born) or -1
return {age, redis.call('ZRANGE', KEYS[1], 0, -1), redis.call('HKEYS', KEYS[6])}
"
);

/// Removes node `ARGV[1]`; `ARGV[2]` is 1 if it leaves records or index entries. Keys: see `Keys::nodes`.
pub const LEAVE: &str = with_now!(
    r"
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
redis.call('HDEL', KEYS[6], ARGV[1])
if ARGV[2] == '0' then redis.call('HDEL', KEYS[2], ARGV[1]) end
return 1
"
);

/// Removes the empty set `ARGV[2]`, if node `ARGV[1]` still owns it. Keys: see `Keys::nodes`.
pub const DISMISS: &str = r"
if redis.call('HGET', KEYS[2], ARGV[2]) == ARGV[1] then redis.call('HDEL', KEYS[2], ARGV[2]) end
return 1
";

/// Returns set `ARGV[2]` to its dead node, so that the next node takes it over, if node `ARGV[1]` still owns it; the
/// death is recorded again, so that it is remembered as long. Keys: see `Keys::nodes`.
pub const HAND_ON: &str = with_now!(
    r"
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[1] or ARGV[1] == ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[2])
redis.call('ZADD', KEYS[3], now, ARGV[2])
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
