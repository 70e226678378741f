//! What must happen in one step, as scripts that Redis runs. They are sent in full each time: nothing has to be there first.

/// The script, behind one that finds out `now`: the engine's time in ms, which is that of Redis and never goes back. By how much the
/// clock of Redis has been set back stands in `KEYS[5]`. Keys: see `Keys::nodes`.
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

/// Takes `KEYS[1]` for the token `ARGV[1]`, for `ARGV[2]` milliseconds: 1 if it is that token's now, 2 if it is and Redis has lost data.
/// That is found out where `KEYS[2]` has what nodes have written last and `KEYS[3]` the clock: node `ARGV[3]` has written `ARGV[4]` or
/// later, and no other node has found the data to be new since it did so, at `ARGV[5]`.
pub const CLAIM: &str = r"
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if not KEYS[2] then return 1 end
if tonumber(redis.call('HGET', KEYS[2], ARGV[3]) or 0) < tonumber(ARGV[4]) then return 2 end
if tonumber(redis.call('HGET', KEYS[3], 'born') or 0) > tonumber(ARGV[5]) then return 2 end
return 1
";

/// Gives `KEYS[1]` back, if it is the token `ARGV[1]`'s.
pub const RELEASE: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
";

/// Begins the call `KEYS[1]` for the token `ARGV[1]`, whose body has the fingerprint `ARGV[2]`: it counts as running for `ARGV[3]` ms,
/// and its answer will be kept for `ARGV[4]` ms. Gives `first`, `lost` (first, and Redis has lost data: see [`CLAIM`], with `ARGV[5]` to
/// `ARGV[7]` here), `reused`, `running`, or `done` and the answer.
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

/// The call `KEYS[1]` has the answer `ARGV[2]`, if the token `ARGV[1]` still has it in hand.
pub const FINISH: &str = r"
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'answer', ARGV[2])
redis.call('PEXPIRE', KEYS[1], redis.call('HGET', KEYS[1], 'life'))
return 1
";

/// The call `KEYS[1]` was begun for the token `ARGV[1]`, with a body of the fingerprint `ARGV[2]`, and is remembered for `ARGV[4]` ms more,
/// with the answer `ARGV[5]` if that is not empty, which will otherwise be kept for `ARGV[3]` ms; unless somebody else has begun it since.
pub const REMEMBER: &str = r"
local token = redis.call('HGET', KEYS[1], 'token')
if token and token ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'body', ARGV[2], 'life', ARGV[3])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'answer', ARGV[5]) end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
";

/// The call `KEYS[1]` was never made, if the token `ARGV[1]` still has it in hand.
pub const ABANDON: &str = r"
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
";

/// Renews the lease of node `ARGV[1]` for `ARGV[2]` ms, declares dead whose lease is over, and takes over what nobody looks after.
///
/// Whoever is ended stands in `dead`, so that it stops. A node that has no lease and does not stand there, since Redis has lost one of
/// the two, gets a lease and its time: that its own is missing is no death.
///
/// `ARGV[3]`: after so many ms without any renewal it was the engine that was away, and all leases begin anew. `ARGV[4]`: how long
/// the dead are remembered, in ms. `ARGV[5]`: this node's status. `ARGV[6]`: 1 if it has not written all of its part yet. `ARGV[7]`:
/// the end of its lease as it was last told, 0 if it has none: if Redis does not know that, it has lost data, or went back to what it
/// had before; the data is young again then. `ARGV[8]`: the id of the installation, empty if it is not known; `ARGV[9]`: one for the
/// case that there is none: of several the oldest stays. Keys: see `Keys::nodes`.
///
/// Gives: `renewed`, `registered` (it is new), `lost`, `doubtful` (lost, and its own lease was over: it may have been declared dead in
/// what is lost) or `dead`; the age of the data in ms; the sets that the node looks after
/// beside its own; all nodes that live; their statuses, without its own; the end of its lease; all sets; the nodes that have not
/// written all of their part; those that answer what they have used up; the id of the installation; by how many ms the
/// clock of Redis has been set back; the nodes that have died or left since the renewal before, and some longer ago,
/// each with the time when it did.
pub const RENEW: &str = with_now!(
    r"
local leases, records, dead, status, clock, unsure, speaks = unpack(KEYS)
local me, lease, told = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[7])

local place, known = redis.call('HGET', records, me), tonumber(redis.call('ZSCORE', leases, me) or 0)
local born, tick = unpack(redis.call('HMGET', clock, 'born', 'tick'))
local set_back = tonumber(redis.call('HGET', clock, 'set_back') or 0)
local shown = math.max(tonumber(tick or 0), told - lease)
if now < shown then
  set_back, now = set_back + shown - now, shown
  redis.call('HSET', clock, 'set_back', set_back)
end
-- Its lease was over and is gone, in the same data that it was told of: the word that it is dead may be lost as well.
local is_same = born and tick and tonumber(born) <= told - lease and tonumber(tick) >= told - lease
local may_be_dead = told > 0 and known == 0 and now > told and is_same
if redis.call('ZSCORE', dead, me) or place and place ~= me or may_be_dead then
  redis.call('ZREM', leases, me)
  redis.call('ZADD', dead, 'NX', now, me)
  redis.call('HSETNX', records, me, me)
  local died = {me, redis.call('ZSCORE', dead, me)}
  return {'dead', now - (born or now), {}, {}, {}, now + lease, {}, {}, {}, '', set_back, died}
end

-- Others may have given it a longer lease, from old data too: what it has written itself does not lie.
local is_lost = math.min(known, tonumber(redis.call('HGET', speaks, me) or 0)) < told
-- Another node has found that since this one was last here, and has given all of them new leases, which hide it.
local is_reborn = told > 0 and born and tonumber(born) > told - lease
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

if told > 0 and not place then
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
local standing = told == 0 and 'registered' or 'renewed'
if told > 0 and (is_lost or is_reborn or not place) then standing = 'lost' end
if standing == 'lost' and now > told and (is_lost or is_reborn) then standing = 'doubtful' end
local died = redis.call('ZREVRANGEBYSCORE', dead, '+inf', told > 0 and told - 2 * lease or '-inf', 'WITHSCORES', 'LIMIT', 0, 1000)
return {
  standing, age, mine, redis.call('ZRANGE', leases, 0, -1), others, now + lease, sets, redis.call('HKEYS', unsure), answering, id,
  set_back, died
}
"
);

/// The node `ARGV[2]` is dead, and so are those of each third argument behind it, whatever a Redis from the past has of them. How it
/// is buried says the argument behind its name: `gone`, nothing was left of it, and node `ARGV[1]` looks after what is there again;
/// `mine`, it does so anyway; `dead`, another one does. The third one says how long ago it died, in ms. Keys: see `Keys::nodes`.
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

/// The data is complete, however young it is: node `ARGV[1]` has found that no other one is there. Keys: see `Keys::nodes`.
///
/// It counts as `ARGV[2]` ms old from now on, and not as older: a node that was cut off meanwhile must still see that it is new.
pub const COMPLETE: &str = with_now!(
    r"
local born = tonumber(redis.call('HGET', KEYS[5], 'born') or now)
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then redis.call('HSET', KEYS[5], 'born', math.min(born, now - ARGV[2])) end
return 1
"
);

/// The age of the data in ms, -1 if there is none or the lease of node `ARGV[1]` is missing that ends at `ARGV[2]`, as it wrote it; all nodes that
/// live; those that have not written all of their part. Keys: see `Keys::nodes`.
pub const NODES: &str = with_now!(
    r"
local born = redis.call('HGET', KEYS[5], 'born')
local known = math.min(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0, redis.call('HGET', KEYS[7], ARGV[1]) or 0)
local is_lost = known < tonumber(ARGV[2])
local age = not is_lost and born and (now - born) or -1
return {age, redis.call('ZRANGE', KEYS[1], 0, -1), redis.call('HKEYS', KEYS[6])}
"
);

/// Node `ARGV[1]` leaves; `ARGV[2]` is 1 if it leaves something behind. Keys: see `Keys::nodes`.
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

/// Node `ARGV[1]` has emptied set `ARGV[2]`, if it is still the one that looks after it. Keys: see `Keys::nodes`.
pub const DISMISS: &str = r"
if redis.call('HGET', KEYS[2], ARGV[2]) == ARGV[1] then redis.call('HDEL', KEYS[2], ARGV[2]) end
return 1
";

/// Node `ARGV[1]` leaves what is left in set `ARGV[2]` to whoever comes next, if it is still the one that looks after it: the set is its dead
/// node's own again, which is remembered as dead for as long. Keys: see `Keys::nodes`.
pub const HAND_ON: &str = with_now!(
    r"
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[1] or ARGV[1] == ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[2])
redis.call('ZADD', KEYS[3], now, ARGV[2])
return 1
"
);

/// Takes the fields `ARGV[2]` and further out of the hash `KEYS[1]`, but those whose number is greater than `ARGV[1]`: they were put in
/// again, and it is this that comes late.
pub const TAKE_OUT: &str = r"
for at = 2, #ARGV do
  local number = redis.call('HGET', KEYS[1], ARGV[at])
  if number and tonumber(number) <= tonumber(ARGV[1]) then redis.call('HDEL', KEYS[1], ARGV[at]) end
end
return 1
";
