//! The model of Redis beside Redis: the same commands, the same answers, the same data behind them.
//!
//! Redis runs the scripts as they are, but for its clock: `TIME` is replaced by the time that the model is given.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use wafergate::engine::scripts;

use crate::dice::Dice;
use crate::redis::Data;
use crate::redis::Planted;
use crate::redis::Value;
use crate::redis::word;
use crate::resp;
use crate::resp::Reply;

const OPERATIONS: usize = 6_000;
const NODES: [&str; 4] = ["a", "b", "c", "d"];
const LEASE_MS: u64 = 8_000;
/// When Redis' clock shows the beginning.
const START_MS: u64 = 1_700_000_000_000;
const NODES_KEYS: [&str; 10] =
    ["leases", "records", "dead", "status", "clock", "unsure", "speaks", "changes", "sums", "issued"];

/// A redis-server of the test's own, with one connection to it.
struct Server {
    child: Starting,
    stream: TcpStream,
    _dir: tempfile::TempDir,
}

impl Server {
    /// An empty one.
    fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        for _ in 0..20 {
            let dir = tempfile::tempdir().expect("a directory");
            // Below the ports that the system gives to clients.
            let turn = NEXT.fetch_add(1, Ordering::Relaxed);
            let port = u16::try_from(22_000 + (std::process::id() * 37 + turn * 131) % 9_000).expect("a port");
            let child = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .arg("--dir")
                .arg(dir.path())
                .stdin(Stdio::null())
                .stdout(fs::File::create(dir.path().join("redis.log")).expect("created"))
                .stderr(Stdio::null())
                .spawn()
                .expect("redis-server is installed");
            let mut starting = Starting(child);
            if let Some(stream) = starting.comes_up(port) {
                let mut server = Self { child: starting, stream, _dir: dir };
                let info = word(&text(server.ask(&words(&["INFO", "server"]))));
                if info.contains(&format!("process_id:{}\r", server.child.0.id())) {
                    return server;
                }
            }
            // Another process took the port first.
        }
        panic!("no redis-server could be started: is the package installed?");
    }

    fn ask(&mut self, words: &[Vec<u8>]) -> Reply {
        self.stream.write_all(&resp::command(words)).expect("sent");
        let (mut answer, mut buffer) = (vec![], [0; 16_384]);
        loop {
            let count = self.stream.read(&mut buffer).expect("an answer");
            assert_ne!(count, 0, "the server has hung up");
            answer.extend(&buffer[..count]);
            if let Some((reply, _)) = Reply::read(&answer) {
                return reply;
            }
        }
    }

    /// All that it has.
    fn data(&mut self) -> BTreeMap<String, Value> {
        let texts = |reply: Reply| match reply {
            Reply::Array(items) => items.into_iter().map(text).collect::<Vec<_>>(),
            other => panic!("not a list: {other:?}"),
        };
        let keys = texts(self.ask(&words(&["KEYS", "*"])));
        let mut data = BTreeMap::new();
        for key in keys {
            let key = word(&key);
            let kind = self.ask(&words(&["TYPE", &key]));
            let value = match kind {
                Reply::Simple(kind) if kind == "hash" => {
                    let fields = texts(self.ask(&words(&["HGETALL", &key])));
                    Value::Hash(fields.chunks_exact(2).map(|pair| (word(&pair[0]), pair[1].clone())).collect())
                }
                Reply::Simple(kind) if kind == "zset" => {
                    let members = texts(self.ask(&words(&["ZRANGE", &key, "0", "-1", "WITHSCORES"])));
                    let score = |score: &[u8]| word(score).parse().expect("whole milliseconds");
                    Value::Scores(members.chunks_exact(2).map(|pair| (word(&pair[0]), score(&pair[1]))).collect())
                }
                _ => Value::Text(text(self.ask(&words(&["GET", &key])))),
            };
            data.insert(key, value);
        }
        data
    }
}

/// A server's process; it is killed when dropped.
struct Starting(Child);

impl Starting {
    fn comes_up(&mut self, port: u16) -> Option<TcpStream> {
        let patience = Instant::now() + Duration::from_secs(20);
        while self.0.try_wait().expect("a child").is_none() && Instant::now() < patience {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                return Some(stream);
            }
            std::thread::yield_now();
        }
        None
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn text(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Bulk(bytes) => bytes,
        other => panic!("not a text: {other:?}"),
    }
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn eval(script: &str, keys: &[&str], arguments: &[String]) -> Vec<Vec<u8>> {
    let mut all = words(&["EVAL", script, &keys.len().to_string()]);
    all.extend(words(keys));
    all.extend(arguments.iter().map(|argument| argument.as_bytes().to_vec()));
    all
}

/// The same command for Redis, at this time.
fn at_time(mut words: Vec<Vec<u8>>, now_ms: u64) -> Vec<Vec<u8>> {
    let time = format!("{{'{}', '{}'}}", now_ms / 1_000, now_ms % 1_000 * 1_000);
    if words[0] == b"EVAL" {
        words[1] = word(&words[1]).replace("redis.call('TIME')", &time).into_bytes();
    }
    words
}

/// A node renews its lease, which ends at `end` as far as it knows.
fn renew(me: &str, status: &str, is_unsure: bool, end: u64, id: String, change: u64) -> Vec<Vec<u8>> {
    let [lease, quiet, dead_for] = [LEASE_MS, 3_000, 60_000].map(|ms| ms.to_string());
    let (unsure, candidate) = (u8::from(is_unsure).to_string(), format!("candidate-{me}"));
    let (end, change) = (end.to_string(), change.to_string());
    // It has seen Redis' time of its last renewal, and knows how much later it is at least.
    let passed = end.parse::<u64>().expect("a time").saturating_sub(LEASE_MS - 100).to_string();
    let arguments =
        [me.into(), lease, quiet, dead_for, status.into(), unsure, end, id, candidate, change, passed, "4".into()];
    eval(scripts::RENEW, &NODES_KEYS, &arguments)
}

/// A token of 16 bytes, and a node's name.
fn token(number: &str) -> String {
    number.repeat(16)
}

fn name(node: &str) -> String {
    node.repeat(16)
}

fn entry(number: &str, node: &str, expires_secs: u64) -> String {
    format!("o{}{}{expires_secs}", token(number), name(node))
}

/// A random command of the gateway; `told` has the lease ends known to nodes, `change` is the number of the last change.
fn any(dice: &mut Dice, told: &mut BTreeMap<&'static str, u64>, change: u64, now_ms: u64) -> Vec<Vec<u8>> {
    let (me, other) = (dice.pick(&NODES), dice.pick(&NODES));
    let end = told.get(me).copied().unwrap_or(0);
    let small = dice.range(1, 9).to_string();
    let known = change.saturating_sub(dice.pick(&[0, 0, 1, 2, 700, 5_000, u64::MAX]));
    match dice.range(0, 20) {
        0..=8 => {
            if dice.once_in(12) {
                told.remove(me);
            }
            let end = told.insert(me, now_ms + LEASE_MS).unwrap_or(0);
            let id = if dice.once_in(4) { format!("00000000000000{small}-x") } else { String::new() };
            let expiry = now_ms / 1_000 + dice.range(0, 20);
            let status = match dice.range(0, 4) {
                0 => "no status".to_owned(),
                _ => {
                    format!("{{\" node\":1,\"shop\":{small},\" pending shop\":-3,\" issued {expiry} a shop\":{small}}}")
                }
            };
            renew(me, &status, dice.once_in(4), end, id, known)
        }
        9 => {
            let keys: Vec<&str> = NODES_KEYS.into_iter().chain(["claim", "unclaimed"]).collect();
            eval(scripts::NODES, &keys, &[me.into(), end.to_string(), known.to_string()])
        }
        10 => {
            let how = |dice: &mut Dice| dice.pick(&["gone", "mine", "dead"]).to_owned();
            let (first, second) = (how(dice), how(dice));
            let arguments = [
                me.into(),
                other.into(),
                first,
                small,
                dice.pick(&NODES).into(),
                second,
                dice.range(0, 9_000).to_string(),
            ];
            eval(scripts::BURY, &NODES_KEYS, &arguments)
        }
        11 if dice.once_in(3) => eval(scripts::LEAVE, &NODES_KEYS, &[me.into(), u8::from(dice.once_in(2)).to_string()]),
        11 => eval(scripts::COMPLETE, &NODES_KEYS, &[me.into(), "4000".into()]),
        12 if dice.once_in(2) => eval(scripts::HAND_ON, &NODES_KEYS, &[me.into(), other.into()]),
        12 => eval(scripts::DISMISS, &NODES_KEYS, &[me.into(), other.into()]),
        13 => eval(scripts::TAKE_OUT, &["homes"], &[small, me.into(), other.into()]),
        14 => words(&["HSET", "homes", me, &small]),
        15 => words(&["HDEL", "homes", me, other]),
        16 => words(&["HKEYS", "homes"]),
        17 => {
            let renewed = end.saturating_sub(LEASE_MS);
            // Real Redis does not wait for the time of the test: expired, or far from that.
            let value = entry(&small, me, now_ms / 1_000 - 10 + dice.pick(&[0, 10, 100_000_000]));
            let arguments = [value, "100000000".into(), me.into(), end.to_string(), renewed.to_string()];
            eval(scripts::CLAIM, &["claim", "speaks", "clock"], &arguments)
        }
        18 => match dice.range(0, 2) {
            0 => eval(scripts::RELEASE, &["claim"], &[token(&small)]),
            1 => {
                let token = token(&small);
                let arguments = [name(me), dice.pick(&["*", "", &token]).to_owned(), "*".to_owned()];
                eval(scripts::CLOSE, &["claim", "unclaimed"], &arguments)
            }
            _ => eval(scripts::KEEP, &["claim", "unclaimed"], &[name(me), "100000000".to_owned()]),
        },
        19 => words(&["HSCAN", "homes", "0", "COUNT", "500"]),
        // Redis loses a key.
        _ => words(&["DEL", dice.pick(&NODES_KEYS)]),
    }
}

#[test]
fn the_model_answers_and_keeps_what_redis_does() {
    let (mut server, mut model, mut dice) = (Server::start(), Data::default(), Dice::new(1, 9));
    let (mut now_ms, mut told) = (START_MS, BTreeMap::new());
    let mut standings: BTreeMap<String, usize> = BTreeMap::new();
    for operation in 0..OPERATIONS {
        now_ms += dice.pick(&[0, 1, 200, 700, 1_000, 2_500]);
        if dice.once_in(300) {
            now_ms -= 4_000;
        }
        let change = model.hget("clock", "change").map_or(0, |number| number.parse().expect("a number"));
        let command = any(&mut dice, &mut told, change, now_ms);
        let expected = server.ask(&at_time(command.clone(), now_ms));
        let actual = model.execute(&command, now_ms, Planted::default());
        if let Reply::Array(items) = &actual
            && items.len() == 9
        {
            *standings.entry(format!("{:?}", items[0])).or_default() += 1;
        }
        let shown: Vec<String> = command.iter().map(|text| word(text)).collect();
        assert_eq!(actual.sorted(), expected.sorted(), "operation {operation} at {now_ms}: {shown:?}");
        assert_eq!(model.keys, server.data(), "after operation {operation} at {now_ms}: {shown:?}");
    }
    println!("{OPERATIONS} operations: {standings:?}");
    assert_eq!(standings.len(), 5, "each standing was seen: {standings:?}");
}

/// Renews a lease so long after the beginning: the standing of the node, and the end of its new lease.
fn renewed(server: &mut Server, me: &str, at_ms: u64, told: u64) -> (String, u64) {
    let reply = server.ask(&at_time(renew(me, "", false, told, String::new(), 0), START_MS + at_ms));
    let Reply::Array(items) = reply else { panic!("not a list: {reply:?}") };
    let Reply::Int(end) = items[2] else { panic!("no time: {items:?}") };
    (word(&text(items[0].clone())), u64::try_from(end).expect("a time"))
}

/// The node that finds a loss first gives all others new leases. Those must not hide it from them: one that believes that nothing is missing
/// takes a node that Redis does not know again yet for gone, and buries it while it lives.
#[test]
fn a_loss_that_another_node_has_found_first_is_told_to_each() {
    let mut server = Server::start();
    for node in ["a", "b"] {
        assert_eq!(renewed(&mut server, node, 0, 0).0, "registered");
    }
    // The content of a snapshot taken now; leases are renewed after it.
    let old_ms = START_MS + LEASE_MS;
    let (_, told_a) = renewed(&mut server, "a", 5_000, old_ms);
    let (_, told_b) = renewed(&mut server, "b", 5_500, old_ms);
    for node in ["a", "b"] {
        server.ask(&words(&["ZADD", "leases", &old_ms.to_string(), node]));
    }
    server.ask(&words(&["HSET", "clock", "born", "1", "tick", &START_MS.to_string()]));

    let (standing, told_a) = renewed(&mut server, "a", 6_000, told_a);
    assert_eq!(standing, "lost");
    let (standing, told_b) = renewed(&mut server, "b", 6_500, told_b);
    assert_eq!(standing, "lost", "the lease that a gave it does not hide it");
    assert_eq!(renewed(&mut server, "a", 7_000, told_a).0, "renewed");
    assert_eq!(renewed(&mut server, "b", 7_500, told_b).0, "renewed");
}

/// A node that comes new to old data gives all others leases that begin anew. Those must not hide from them what is lost: one that
/// believes that nothing is grants a connect URL that another one had used.
#[test]
fn a_newcomer_on_old_data_hides_no_loss() {
    let mut server = Server::start();
    renewed(&mut server, "a", 0, 0);
    // It renews its lease, and Redis returns to its data from before.
    let told = START_MS + 5_000 + LEASE_MS;
    assert_eq!(renewed(&mut server, "c", 12_000, 0).0, "registered");

    let nodes = server.ask(&at_time(
        eval(scripts::NODES, &NODES_KEYS, &["a".into(), told.to_string(), "0".into()]),
        START_MS + 13_000,
    ));
    let Reply::Array(items) = nodes else { panic!("not a list: {nodes:?}") };
    assert_eq!(items[0], Reply::Int(-1), "it cannot be said which nodes there are");
    let claim = ["token".into(), "60000".into(), "a".into(), told.to_string(), (told - LEASE_MS).to_string()];
    assert_eq!(server.ask(&eval(scripts::CLAIM, &["claim", "speaks", "clock"], &claim)), Reply::Int(2));
    assert_eq!(renewed(&mut server, "a", 13_000, told).0, "lost");
}
