//! The scripts of the engine, in Rust. `differential.rs` compares each with the Lua that Redis runs.

use wafergate::engine::scripts;

use crate::redis::Data;
use crate::redis::Planted;
use crate::redis::number;
use crate::redis::word;
use crate::resp::Reply;

/// Runs the script with this text.
pub(crate) fn run(
    data: &mut Data,
    text: &str,
    keys: &[String],
    arguments: &[Vec<u8>],
    now_ms: u64,
    planted: Planted,
) -> Reply {
    let now = i64::try_from(now_ms).expect("before the year 292,000,000");
    if matches!(text, scripts::CLAIM | scripts::RELEASE) {
        data.expire(&keys[0], now_ms);
    }
    // The engine's time, of those scripts that ask for it, is ahead of a clock of Redis that has been set back.
    let set_back = |data: &Data| data.hget(&keys[4], "set_back").map_or(0, |ms| number(ms.as_bytes()));
    let now = if matches!(
        text,
        scripts::RENEW | scripts::NODES | scripts::BURY | scripts::LEAVE | scripts::COMPLETE | scripts::HAND_ON
    ) {
        now + set_back(data)
    } else {
        now
    };
    match text {
        scripts::RENEW => renew(data, keys, arguments, now, planted),
        scripts::NODES => nodes(data, keys, arguments, now),
        scripts::CLAIM => claim(data, keys, arguments, now_ms),
        scripts::BURY => bury(data, keys, arguments, now, planted),
        scripts::LEAVE => leave(data, keys, arguments, now),
        scripts::RELEASE => {
            let is_own = data.get(&keys[0]) == Some(&arguments[0][..]);
            Reply::Int(i64::from(is_own && data.del(&keys[0])))
        }
        scripts::COMPLETE => {
            if data.zscore(&keys[0], &word(&arguments[0])).is_some() {
                let born = data.hget(&keys[4], "born").map_or(now, |born| number(born.as_bytes()));
                data.hset(&keys[4], "born", born.min(now - number(&arguments[1])).to_string());
            }
            Reply::Int(1)
        }
        scripts::DISMISS => {
            let set = word(&arguments[1]);
            if data.hget(&keys[1], &set) == Some(word(&arguments[0])) {
                data.hdel(&keys[1], &set);
            }
            Reply::Int(1)
        }
        scripts::HAND_ON => {
            let (me, set) = (word(&arguments[0]), word(&arguments[1]));
            let is_own = me != set && data.hget(&keys[1], &set) == Some(me);
            if is_own {
                data.hset(&keys[1], &set, &set);
                data.zadd(&keys[2], now, &set);
            }
            Reply::Int(i64::from(is_own))
        }
        scripts::TAKE_OUT => {
            for field in &arguments[1..] {
                let change = data.hget(&keys[0], &word(field));
                if change.is_some_and(|change| number(change.as_bytes()) <= number(&arguments[0])) {
                    data.hdel(&keys[0], &word(field));
                }
            }
            Reply::Int(1)
        }
        other => Reply::Error(format!("ERR the model does not know this script: {other}")),
    }
}

fn renew(data: &mut Data, keys: &[String], arguments: &[Vec<u8>], mut now: i64, planted: Planted) -> Reply {
    let [leases, records, dead, status, clock, unsure, speaks] = keys else { panic!("seven keys") };
    let me = word(&arguments[0]);
    let [lease, all_quiet, dead_for] = [1, 2, 3].map(|at| number(&arguments[at]));
    let (own_status, is_unsure, told) = (&arguments[4], arguments[5] == b"1", number(&arguments[6]));
    let (own_id, candidate) = (word(&arguments[7]), word(&arguments[8]));

    let place = data.hget(records, &me);
    let known = data.zscore(leases, &me).unwrap_or(0);
    let [born, tick] = ["born", "tick"].map(|field| data.hget(clock, field).map(|text| number(text.as_bytes())));
    let mut set_back = data.hget(clock, "set_back").map_or(0, |ms| number(ms.as_bytes()));
    let shown = tick.unwrap_or(0).max(told - lease);
    if now < shown {
        set_back += shown - now;
        now = shown;
        data.hset(clock, "set_back", set_back.to_string());
    }
    let is_same = born.is_some_and(|born| born <= told - lease) && tick.is_some_and(|tick| tick >= told - lease);
    let may_be_dead = told > 0 && known == 0 && now > told && is_same && !planted.missing_lease_is_death;
    let is_another_s = place.as_ref().is_some_and(|place| *place != me) && !planted.missing_lease_is_death;
    if data.zscore(dead, &me).is_some() || is_another_s || may_be_dead {
        data.zrem(leases, &me);
        data.zadd_nx(dead, now, &me);
        data.hsetnx(records, &me, &me);
        let none = || Reply::Array(vec![]);
        let end = Reply::Int(now + lease);
        let standing = Reply::text("dead");
        let died = data.zscore(dead, &me).unwrap_or(now).to_string();
        return Reply::Array(vec![
            standing,
            Reply::Int(now - born.unwrap_or(now)),
            none(),
            none(),
            none(),
            end,
            none(),
            none(),
            none(),
            Reply::text(""),
            Reply::Int(set_back),
            Reply::texts([me, died]),
        ]);
    }

    let written = data.hget(speaks, &me).map_or(0, |end| number(end.as_bytes()));
    let is_lost = known.min(written) < told;
    let is_reborn = told > 0 && born.is_some_and(|born| born > told - lease);
    let tick = tick.unwrap_or(now);
    data.hsetnx(clock, "born", now.to_string());
    let id = match data.hget(clock, "installation") {
        Some(id) if own_id.is_empty() || own_id >= id => id,
        None if own_id.is_empty() => format!("{now:015}-{candidate}"),
        _ => own_id,
    };
    data.hset(clock, "installation", &id);
    if is_lost && !is_reborn && !planted.missing_lease_is_death {
        data.hset(clock, "born", now.to_string());
    }
    data.hset(clock, "tick", now.to_string());
    if is_lost || now - tick > all_quiet {
        for (_, node) in data.zrange(leases) {
            data.zadd(leases, now + lease, &node);
        }
    }
    data.zadd(leases, now + lease, &me);
    data.hset(records, &me, &me);
    data.hset(status, &me, own_status);
    data.hset(speaks, &me, (now + lease).to_string());
    if is_lost || is_reborn || is_unsure {
        data.hset(unsure, &me, now.to_string());
    } else {
        data.hdel(unsure, &me);
    }

    if told > 0 && place.is_none() {
        for (_, node) in data.zrange(dead) {
            data.hsetnx(records, &node, &node);
        }
    }
    let mut nodes = data.hkeys(status);
    nodes.extend(data.hash(records).values().map(|owner| word(owner)));
    for node in nodes {
        if data.zscore(dead, &node).is_none() && !planted.missing_lease_is_death {
            data.zadd_nx(leases, now + lease, &node);
        }
    }
    for (_, node) in data.zrange(leases).into_iter().filter(|(end, _)| *end <= now) {
        data.zrem(leases, &node);
        data.zadd(dead, now, &node);
        data.hsetnx(records, &node, &node);
        data.hdel(status, &node);
        data.hdel(unsure, &node);
    }

    let (mut mine, mut sets) = (vec![], vec![]);
    for (set, owner) in data.hash(records) {
        let mut owner = word(&owner);
        sets.push(set.clone());
        if owner != me && data.zscore(leases, &owner).is_none() {
            data.hset(records, &set, &me);
            owner.clone_from(&me);
        }
        if owner == me && set != me {
            mine.push(set);
        }
    }
    for (_, node) in data.zrange(dead).into_iter().filter(|(died, _)| *died <= now - dead_for) {
        data.zrem(dead, &node);
    }
    let others: Vec<Vec<u8>> =
        data.hash(status).into_iter().filter(|(node, _)| *node != me).map(|(_, status)| status).collect();
    let answering = data.hkeys(speaks);
    for node in &answering {
        if data.zscore(leases, node).is_none() {
            data.hdel(speaks, node);
        }
    }
    let born = data.hget(clock, "born").map_or(now, |born| number(born.as_bytes()));
    let standing = match (told, is_lost || is_reborn) {
        (0, _) => "registered",
        (_, true) if now > told && !planted.forgotten_death_is_life => "doubtful",
        (_, true) => "lost",
        (_, false) if place.is_none() => "lost",
        (_, false) => "renewed",
    };
    let since = if told > 0 { told - 2 * lease } else { i64::MIN };
    let died = data.zrange(dead).into_iter().rev().filter(|(died, _)| *died >= since).take(1_000);
    Reply::Array(vec![
        Reply::text(standing),
        Reply::Int(now - born),
        Reply::texts(mine),
        Reply::texts(data.zrange(leases).into_iter().map(|(_, node)| node)),
        Reply::texts(others),
        Reply::Int(now + lease),
        Reply::texts(sets),
        Reply::texts(data.hkeys(unsure)),
        Reply::texts(answering),
        Reply::text(id),
        Reply::Int(set_back),
        Reply::texts(died.flat_map(|(died, node)| [node, died.to_string()])),
    ])
}

fn nodes(data: &Data, keys: &[String], arguments: &[Vec<u8>], now: i64) -> Reply {
    let born = data.hget(&keys[4], "born").map(|born| number(born.as_bytes()));
    let me = word(&arguments[0]);
    let written = data.hget(&keys[6], &me).map_or(0, |end| number(end.as_bytes()));
    let is_lost = data.zscore(&keys[0], &me).unwrap_or(0).min(written) < number(&arguments[1]);
    let age = born.filter(|_| !is_lost).map_or(-1, |born| now - born);
    let living = data.zrange(&keys[0]).into_iter().map(|(_, node)| node);
    Reply::Array(vec![Reply::Int(age), Reply::texts(living), Reply::texts(data.hkeys(&keys[5]))])
}

fn claim(data: &mut Data, keys: &[String], arguments: &[Vec<u8>], now_ms: u64) -> Reply {
    match data.get(&keys[0]) {
        None => data.set(&keys[0], &arguments[0], now_ms + u64::try_from(number(&arguments[1])).expect("a time")),
        Some(token) if token == arguments[0] => {}
        Some(_) => return Reply::Int(0),
    }
    let [_, speaks, clock] = keys else { return Reply::Int(1) };
    let written = data.hget(speaks, &word(&arguments[2])).map_or(0, |end| number(end.as_bytes()));
    let is_lost = written < number(&arguments[3]);
    let is_reborn = data.hget(clock, "born").is_some_and(|born| number(born.as_bytes()) > number(&arguments[4]));
    Reply::Int(if is_lost || is_reborn { 2 } else { 1 })
}

fn bury(data: &mut Data, keys: &[String], arguments: &[Vec<u8>], now: i64, planted: Planted) -> Reply {
    for burial in arguments[1..].chunks_exact(3) {
        let node = word(&burial[0]);
        if planted.forgotten_death_is_life {
            continue;
        }
        let has_lease = data.zrem(&keys[0], &node);
        match &burial[1][..] {
            b"dead" => data.hsetnx(&keys[1], &node, &node),
            how if how == b"mine" || has_lease || data.hget(&keys[1], &node).is_some() => {
                data.hset(&keys[1], &node, &arguments[0]);
            }
            _ => {}
        }
        data.zadd_nx(&keys[2], now - number(&burial[2]), &node);
        data.hdel(&keys[3], &node);
        data.hdel(&keys[5], &node);
    }
    Reply::Int(1)
}

fn leave(data: &mut Data, keys: &[String], arguments: &[Vec<u8>], now: i64) -> Reply {
    let me = word(&arguments[0]);
    data.zrem(&keys[0], &me);
    data.zadd(&keys[2], now, &me);
    data.hdel(&keys[3], &me);
    data.hdel(&keys[5], &me);
    if arguments[1] == b"0" {
        data.hdel(&keys[1], &me);
    }
    Reply::Int(1)
}
