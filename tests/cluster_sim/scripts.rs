//! The scripts of the engine, in Rust. `differential.rs` compares each with the Lua that Redis runs.

use std::collections::BTreeMap;

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
    let claims = match text {
        scripts::CLAIM | scripts::RELEASE => &keys[..1],
        scripts::CLOSE | scripts::KEEP => keys,
        scripts::NODES => &keys[10..],
        _ => &[],
    };
    claims.iter().for_each(|key| data.expire(key, now_ms));
    // The engine's time, of those scripts that ask for it, is ahead of a clock of Redis that has been set back.
    let set_back = |data: &Data| data.hget(&keys[4], "set_back").map_or(0, |ms| number(ms.as_bytes()));
    let asks_for_it = [
        scripts::RENEW,
        scripts::NODES,
        scripts::BURY,
        scripts::LEAVE,
        scripts::COMPLETE,
        scripts::DISMISS,
        scripts::HAND_ON,
    ];
    let now = if asks_for_it.contains(&text) { now + set_back(data) } else { now };
    match text {
        scripts::RENEW => renew(data, keys, arguments, now, planted),
        scripts::NODES => nodes(data, keys, arguments, now),
        scripts::CLAIM => claim(data, keys, arguments, now_ms),
        scripts::BURY => bury(data, keys, arguments, now, planted),
        scripts::LEAVE => leave(data, keys, arguments, now),
        scripts::RELEASE => {
            let is_own = data.get(&keys[0]).is_some_and(|held| part(held, 1, 17) == arguments[0]);
            Reply::Int(i64::from(is_own && data.del(&keys[0])))
        }
        scripts::CLOSE => {
            close(data, keys, arguments, now);
            Reply::Int(1)
        }
        scripts::KEEP => {
            let mut missing = vec![];
            for (key, place) in keys.iter().zip(1..) {
                if data.get(key).is_some_and(|held| part(held, 17, 33) == arguments[0]) {
                    let life_ms = u64::try_from(number(&arguments[1])).expect("a time");
                    data.ends_ms.insert(key.clone(), now_ms + life_ms);
                } else {
                    missing.push(Reply::Int(place));
                }
            }
            Reply::Array(missing)
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
                Shared::new(keys, now).note(data, &set);
            }
            Reply::Int(1)
        }
        scripts::HAND_ON => {
            let (me, set) = (word(&arguments[0]), word(&arguments[1]));
            let is_own = me != set && data.hget(&keys[1], &set) == Some(me);
            if is_own {
                data.hset(&keys[1], &set, &set);
                data.zadd(&keys[2], now, &set);
                Shared::new(keys, now).note(data, &set);
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

/// The keys that the nodes share, by what they hold.
struct Shared<'a> {
    leases: &'a str,
    records: &'a str,
    dead: &'a str,
    status: &'a str,
    clock: &'a str,
    unsure: &'a str,
    speaks: &'a str,
    changes: &'a str,
    sums: &'a str,
    issued: &'a str,
    now: i64,
}

impl<'a> Shared<'a> {
    fn new(keys: &'a [String], now: i64) -> Self {
        let key = |at: usize| keys[at].as_str();
        Self {
            leases: key(0),
            records: key(1),
            dead: key(2),
            status: key(3),
            clock: key(4),
            unsure: key(5),
            speaks: key(6),
            changes: key(7),
            sums: key(8),
            issued: key(9),
            now,
        }
    }

    fn change(&self, data: &Data) -> Option<i64> {
        data.hget(self.clock, "change").map(|number| self::number(number.as_bytes()))
    }

    fn note(&self, data: &mut Data, name: &str) {
        let number = (self.change(data).unwrap_or(0) + 1).max(self.now);
        data.hset(self.clock, "change", number.to_string());
        if data.count(self.changes) == 0 {
            data.zadd(self.changes, number, "begun");
        }
        data.zadd(self.changes, number, name);
        if data.count(self.changes) > 1_000 {
            let all = data.zrange(self.changes);
            let cut = all[500].0;
            all.into_iter().filter(|(number, _)| *number <= cut).for_each(|(_, name)| {
                data.zrem(self.changes, &name);
            });
            data.zadd(self.changes, cut, "begun");
        }
    }

    fn abandon(&self, data: &mut Data, node: &str) {
        let owned = data.hash(self.records).into_iter().filter(|(_, owner)| word(owner) == node);
        owned.for_each(|(set, _)| self.note(data, &set));
    }

    fn names_since(&self, data: &Data, known: i64) -> Option<Vec<String>> {
        let number = self.change(data).unwrap_or(0);
        if known > 0 && known == number {
            return Some(vec![]);
        }
        let begun = data.zscore(self.changes, "begun");
        if known == 0 || known > number || begun.is_none_or(|begun| begun > known) {
            return None;
        }
        Some(data.zrange(self.changes).into_iter().filter(|(at, _)| *at > known).map(|(_, name)| name).collect())
    }

    fn news(&self, data: &Data, known: i64) -> Reply {
        let number = self.change(data).unwrap_or(0);
        let none = || Reply::Array(vec![]);
        let Some(names) = self.names_since(data, known) else {
            let pairs = |key| data.hash(key).into_iter().flat_map(|(field, value)| [field.into_bytes(), value]);
            return Reply::Array(vec![
                Reply::Int(number),
                Reply::Int(1),
                none(),
                Reply::texts(data.zrange(self.leases).into_iter().map(|(_, node)| node)),
                Reply::texts(data.hkeys(self.speaks)),
                Reply::texts(pairs(self.unsure)),
                Reply::texts(pairs(self.records)),
            ]);
        };
        let changed = names.into_iter().flat_map(|name| {
            let mut letters = String::new();
            letters.extend(data.zscore(self.leases, &name).map(|_| 'l'));
            letters.extend(data.hget(self.speaks, &name).map(|_| 's'));
            letters.extend(data.hget(self.unsure, &name).map(|since| if since == "0" { 'q' } else { 'u' }));
            let owner = data.hget(self.records, &name).unwrap_or_default();
            [name, letters, owner]
        });
        let changed = Reply::texts(changed);
        Reply::Array(vec![Reply::Int(number), Reply::Int(0), changed, none(), none(), none(), none()])
    }

    fn add(&self, data: &mut Data, text: &[u8], sign: i64) {
        for (name, count) in counts(text) {
            if name != " node" && !name.starts_with(" issued ") {
                let sum = data.hget(self.sums, &name).map_or(0, |sum| number(sum.as_bytes())) + sign * count;
                data.hset(self.sums, &name, sum.to_string());
                if sum == 0 {
                    data.hdel(self.sums, &name);
                }
            }
        }
    }

    fn quit(&self, data: &mut Data, node: &str) {
        let Some(text) = data.hget(self.status, node) else { return };
        self.add(data, text.as_bytes(), -1);
        for (name, count) in counts(text.as_bytes()) {
            if let Some((expiry, tenant)) = name.strip_prefix(" issued ").and_then(|rest| rest.split_once(' ')) {
                data.zadd(self.issued, number(expiry.as_bytes()), &format!("{node} {count} {tenant}"));
            }
        }
        data.hdel(self.status, node);
    }
}

/// What a status counts.
fn counts(text: &[u8]) -> BTreeMap<String, i64> {
    serde_json::from_slice(text).unwrap_or_default()
}

fn renew(data: &mut Data, keys: &[String], arguments: &[Vec<u8>], now: i64, planted: Planted) -> Reply {
    let mut all = Shared::new(keys, now);
    let Shared { leases, records, dead, status, clock, unsure, speaks, sums, issued, .. } = all;
    let mut now = now;
    let me = word(&arguments[0]);
    let [lease, all_quiet, dead_for] = [1, 2, 3].map(|at| number(&arguments[at]));
    let (own_status, is_unsure, told) = (&arguments[4], arguments[5] == b"1", number(&arguments[6]));
    let (own_id, candidate, known_change) = (word(&arguments[7]), word(&arguments[8]), number(&arguments[9]));

    let place = data.hget(records, &me);
    let known = data.zscore(leases, &me).unwrap_or(0);
    let [born, tick] = ["born", "tick"].map(|field| data.hget(clock, field).map(|text| number(text.as_bytes())));
    let mut set_back = data.hget(clock, "set_back").map_or(0, |ms| number(ms.as_bytes()));
    let spoken = data.hget(speaks, &me).map_or(0, |end| number(end.as_bytes()));
    let is_lost = known.min(spoken) < told;
    let shown =
        tick.unwrap_or(0).max(told - lease).max(if is_lost || tick.is_none() { number(&arguments[10]) } else { 0 });
    if now < shown {
        set_back += shown - now;
        now = shown;
        data.hset(clock, "set_back", set_back.to_string());
    }
    all.now = now;
    let is_same = born.is_some_and(|born| born <= told - lease) && tick.is_some_and(|tick| tick >= told - lease);
    let may_be_dead = told > 0 && known == 0 && now > told && is_same && !planted.missing_lease_is_death;
    let is_another_s = place.as_ref().is_some_and(|place| *place != me) && !planted.missing_lease_is_death;
    let none = || Reply::Array(vec![]);
    if data.zscore(dead, &me).is_some() || is_another_s || may_be_dead {
        data.zrem(leases, &me);
        data.zadd_nx(dead, now, &me);
        data.hsetnx(records, &me, &me);
        all.note(data, &me);
        all.abandon(data, &me);
        let died = data.zscore(dead, &me).unwrap_or(now).to_string();
        let nothing = vec![Reply::Int(0), Reply::Int(0), none(), none(), none(), none(), none()];
        return Reply::Array(vec![
            Reply::text("dead"),
            Reply::Int(now - born.unwrap_or(now)),
            Reply::Int(now + lease),
            Reply::Int(set_back),
            Reply::text(""),
            Reply::Array(nothing),
            Reply::texts([me, died]),
            none(),
            none(),
        ]);
    }

    let is_reborn = told > 0 && born.is_some_and(|born| born > told - lease);
    let is_quiet = tick.is_none_or(|tick| now - tick > all_quiet);
    let names = all.names_since(data, known_change);
    let living = data.count(leases);
    let is_whole = told > 0
        && place.is_some()
        && born.is_some()
        && tick.is_some()
        && names.is_some()
        && !is_lost
        && !is_reborn
        && !is_quiet
        && living == data.count(speaks)
        && living == data.count(status)
        && (names.as_ref().is_some_and(|names| !names.is_empty())
            || data.count(records) == usize::try_from(number(&arguments[11])).expect("few"));
    data.hsetnx(clock, "born", now.to_string());
    let id = match data.hget(clock, "installation") {
        Some(id) if own_id.is_empty() || own_id >= id => id,
        None if own_id.is_empty() => format!("{now:015}-{candidate}"),
        _ => own_id,
    };
    data.hset(clock, "installation", &id);
    data.hset(clock, "tick", now.to_string());
    if is_lost && !is_reborn && !planted.missing_lease_is_death {
        data.hset(clock, "born", now.to_string());
        for (_, node) in data.zrange(leases) {
            if data.hget(unsure, &node).is_none() {
                data.hset(unsure, &node, "0");
                all.note(data, &node);
            }
        }
    }
    if is_lost || is_quiet {
        for (_, node) in data.zrange(leases) {
            data.zadd(leases, now + lease, &node);
        }
    }
    if known == 0 || spoken == 0 || place.as_ref() != Some(&me) {
        all.note(data, &me);
    }
    data.zadd(leases, now + lease, &me);
    data.hset(records, &me, &me);
    data.hset(speaks, &me, (now + lease).to_string());
    let doubt = data.hget(unsure, &me);
    if is_lost || is_reborn || is_unsure {
        data.hset(unsure, &me, now.to_string());
        if doubt.is_none_or(|doubt| doubt == "0") {
            all.note(data, &me);
        }
    } else if doubt.is_some() {
        data.hdel(unsure, &me);
        all.note(data, &me);
    }

    let before = data.hget(status, &me);
    if before.as_ref().is_none_or(|before| before.as_bytes() != own_status) {
        match before {
            Some(before) => all.add(data, before.as_bytes(), -1),
            None if told > 0 => drop(data.del(sums)),
            None => {}
        }
        all.add(data, own_status, 1);
        data.hset(status, &me, own_status);
    }

    if told > 0 && place.is_none() {
        for (_, node) in data.zrange(dead) {
            if data.hget(records, &node).is_none() {
                data.hset(records, &node, &node);
                all.note(data, &node);
            }
        }
    }
    if !is_whole {
        let mut nodes = data.hkeys(status);
        nodes.extend(data.hash(records).values().map(|owner| word(owner)));
        nodes.sort();
        for node in nodes {
            let is_new = data.zscore(dead, &node).is_none() && data.zscore(leases, &node).is_none();
            if is_new && !planted.missing_lease_is_death {
                data.zadd(leases, now + lease, &node);
                all.note(data, &node);
            }
        }
    }
    let most = if is_whole { 8 } else { usize::MAX };
    let expired: Vec<_> = data.zrange_to(leases, now).into_iter().take(most).collect();
    for (_, node) in &expired {
        data.zrem(leases, node);
        data.zadd(dead, now, node);
        data.hsetnx(records, node, node);
        data.hdel(unsure, node);
        data.hdel(speaks, node);
        all.quit(data, node);
        all.note(data, node);
    }

    let sets = names.filter(|_| is_whole && expired.is_empty()).unwrap_or_else(|| data.hkeys(records));
    for set in sets {
        let owner = data.hget(records, &set);
        if owner.is_some_and(|owner| owner != me && data.zscore(leases, &owner).is_none()) {
            data.hset(records, &set, &me);
            all.note(data, &set);
        }
    }
    for (_, node) in data.zrange_to(dead, now - dead_for) {
        data.zrem(dead, &node);
    }
    for (_, of) in data.zrange(issued).into_iter().filter(|(expiry, _)| *expiry < now / 1_000) {
        data.zrem(issued, &of);
    }
    if !is_whole {
        for node in data.hkeys(speaks) {
            if data.zscore(leases, &node).is_none() {
                data.hdel(speaks, &node);
                all.note(data, &node);
            }
        }
        for node in data.hkeys(status) {
            if data.zscore(leases, &node).is_none() {
                all.quit(data, &node);
            }
        }
    }
    let is_mixed = data.count(leases) != data.count(speaks);
    if is_mixed || data.hget(sums, " whole").is_none() {
        data.del(sums);
        data.hash(status).values().for_each(|text| all.add(data, text, 1));
        if !is_mixed {
            data.hset(sums, " whole", "1");
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
        Reply::Int(now + lease),
        Reply::Int(set_back),
        Reply::text(id),
        all.news(data, if is_whole { known_change } else { 0 }),
        Reply::texts(died.flat_map(|(died, node)| [node, died.to_string()])),
        Reply::texts(data.hash(sums).into_iter().flat_map(|(name, sum)| [name.into_bytes(), sum])),
        Reply::texts(data.zrange(issued).into_iter().take(1_000).map(|(_, of)| of)),
    ])
}

fn nodes(data: &Data, keys: &[String], arguments: &[Vec<u8>], now: i64) -> Reply {
    let all = Shared::new(keys, now);
    let born = data.hget(all.clock, "born").map(|born| number(born.as_bytes()));
    let me = word(&arguments[0]);
    let written = data.hget(all.speaks, &me).map_or(0, |end| number(end.as_bytes()));
    let is_lost = data.zscore(all.leases, &me).unwrap_or(0).min(written) < number(&arguments[1]);
    let age = born.filter(|_| !is_lost).map_or(-1, |born| now - born);
    let values = keys[10..].iter().map(|key| data.get(key).map_or(Reply::Nil, Reply::text));
    Reply::Array(vec![Reply::Int(age), all.news(data, number(&arguments[2])), Reply::Array(values.collect())])
}

fn claim(data: &mut Data, keys: &[String], arguments: &[Vec<u8>], now_ms: u64) -> Reply {
    match data.get(&keys[0]) {
        None => data.set(&keys[0], &arguments[0], now_ms + u64::try_from(number(&arguments[1])).expect("a time")),
        Some(held) if held == arguments[0] || part(held, 1, 17) == part(&arguments[0], 1, 17) => {}
        Some(_) => return Reply::Int(0),
    }
    let [_, speaks, clock] = keys else { return Reply::Int(1) };
    let written = data.hget(speaks, &word(&arguments[2])).map_or(0, |end| number(end.as_bytes()));
    let is_lost = written < number(&arguments[3]);
    let is_reborn = data.hget(clock, "born").is_some_and(|born| number(born.as_bytes()) > number(&arguments[4]));
    Reply::Int(if is_lost || is_reborn { 2 } else { 1 })
}

/// These bytes of a value, as far as there are.
fn part(value: &[u8], from: usize, to: usize) -> &[u8] {
    &value[from.min(value.len())..to.min(value.len())]
}

fn close(data: &mut Data, keys: &[String], arguments: &[Vec<u8>], now: i64) {
    for (key, token) in keys.iter().zip(&arguments[1..]) {
        let Some(held) = data.get(key).map(<[u8]>::to_vec) else { continue };
        if part(&held, 17, 33) != arguments[0] {
            continue;
        }
        let expires_secs: i64 = word(part(&held, 33, usize::MAX)).parse().unwrap_or(0);
        let left_secs = expires_secs - now / 1_000;
        if left_secs <= 0 {
            data.del(key);
        } else if token == b"*" || part(&held, 1, 17) == token {
            let ends_ms = u64::try_from(now + left_secs * 1_000).expect("a time");
            data.set(key, &[b"c", part(&held, 1, 17)].concat(), ends_ms);
        }
    }
}

fn bury(data: &mut Data, keys: &[String], arguments: &[Vec<u8>], now: i64, planted: Planted) -> Reply {
    let all = Shared::new(keys, now);
    for burial in arguments[1..].chunks_exact(3) {
        let node = word(&burial[0]);
        if planted.forgotten_death_is_life {
            continue;
        }
        let has_lease = data.zrem(all.leases, &node);
        let owner = data.hget(all.records, &node);
        match &burial[1][..] {
            b"dead" => data.hsetnx(all.records, &node, &node),
            how if how == b"mine" || has_lease || owner.is_some() => {
                data.hset(all.records, &node, &arguments[0]);
            }
            _ => {}
        }
        data.zadd_nx(all.dead, now - number(&burial[2]), &node);
        data.hdel(all.unsure, &node);
        data.hdel(all.speaks, &node);
        all.quit(data, &node);
        if has_lease || owner != data.hget(all.records, &node) {
            all.note(data, &node);
        }
        if has_lease {
            all.abandon(data, &node);
        }
    }
    Reply::Int(1)
}

fn leave(data: &mut Data, keys: &[String], arguments: &[Vec<u8>], now: i64) -> Reply {
    let all = Shared::new(keys, now);
    let me = word(&arguments[0]);
    data.zrem(all.leases, &me);
    data.zadd(all.dead, now, &me);
    data.hdel(all.unsure, &me);
    data.hdel(all.speaks, &me);
    all.quit(data, &me);
    if arguments[1] == b"0" {
        data.hdel(all.records, &me);
    }
    all.note(data, &me);
    all.abandon(data, &me);
    Reply::Int(1)
}
