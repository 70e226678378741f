//! The way between the nodes and Redis, and Redis at its end: connections that can be cut, broken, and late.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use parking_lot::Mutex;
use sha1::Digest;
use sha1::Sha1;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use wafergate::protocol::text::hex;

use crate::dice::Dice;
use crate::redis::Data;
use crate::redis::Planted;
use crate::redis::word;
use crate::resp::Reply;
use crate::resp::command;
use crate::resp::take_commands;

/// The kind of a message between nodes that repeats a request, in its second byte.
const REPEAT: u8 = 5;

/// A channel, and a message published on it.
type Publication = (String, Vec<u8>);

/// One connection, as both ends see it.
#[derive(Debug, Default)]
struct Pipe {
    to_redis: Vec<u8>,
    to_node: VecDeque<u8>,
    is_broken: bool,
    /// Whether the node has given it up.
    is_left: bool,
    reader: Option<Waker>,
}

impl Pipe {
    fn break_off(&mut self) {
        self.is_broken = true;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// The node's end of a connection.
#[derive(Debug)]
pub(crate) struct Wire(Arc<Mutex<Pipe>>);

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.0.lock();
        if pipe.to_node.is_empty() && !pipe.is_broken {
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = pipe.to_node.len().min(into.remaining());
        let bytes: Vec<u8> = pipe.to_node.drain(..count).collect();
        into.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.lock();
        if pipe.is_broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        pipe.to_redis.extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.0.lock().is_left = true;
    }
}

/// Redis' end of a connection.
struct Peer {
    slot: usize,
    pipe: Arc<Mutex<Pipe>>,
    channels: Vec<String>,
}

/// Faults for the next commands of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Loss {
    /// They never arrive, and the connection breaks.
    Before,
    /// They are carried out, and the connection breaks before the answer.
    After,
}

/// What Redis has had to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) commands: u64,
    /// Of commands and their replies, and of messages to each receiver.
    pub(crate) bytes: u64,
    /// Messages from one node to another one.
    pub(crate) messages: u64,
    /// Reads of the index of tunnels.
    pub(crate) reads: u64,
}

impl Counts {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            commands: self.commands - before.commands,
            bytes: self.bytes - before.bytes,
            messages: self.messages - before.messages,
            reads: self.reads - before.reads,
        }
    }

    fn count(&mut self, words: &[Vec<u8>], reply: &Reply) {
        let mut bytes = command(words);
        reply.write(&mut bytes);
        self.commands += 1;
        self.bytes += bytes.len() as u64;
        let is_publication = words[0] == b"PUBLISH";
        if is_publication {
            self.bytes += words[2].len() as u64;
        }
        // A probe is a message of a node to itself.
        self.messages += u64::from(is_publication && words[2].get(1) != Some(&0));
        let keys = words.get(2).and_then(|keys| word(keys).parse::<usize>().ok()).filter(|_| words[0] == b"EVALSHA");
        self.reads += u64::from(keys.is_some_and(|keys| keys > 10 && word(&words[3]).contains("{nodes}")));
    }
}

/// Redis and the ways to it.
pub(crate) struct Network {
    /// Whether it counts what is done; nothing is traced then.
    pub(crate) is_counting: bool,
    pub(crate) counts: Counts,
    pub(crate) data: Data,
    peers: Vec<Peer>,
    /// Connections that nodes have made since the last step.
    arriving: Arc<Mutex<Vec<Peer>>>,
    /// Until when the way of each node is cut, in milliseconds of the simulation; one for all of them is Redis itself.
    cut_until: Vec<u64>,
    loss: Option<(usize, Loss)>,
    /// The node whose next message of another one is lost.
    deaf: Option<usize>,
    /// Until when no message reaches a node, though its connections stay up.
    deaf_until: Vec<u64>,
    /// When messages between nodes were lost.
    pub(crate) lost_ms: Vec<u64>,
    /// When Redis was started.
    started_ms: u64,
    /// The scripts that it knows, by their digests.
    scripts: BTreeMap<String, Vec<u8>>,
    planted: Planted,
    /// Of all commands and replies.
    trace: DefaultHasher,
}

impl Network {
    pub(crate) fn new(slots: usize, planted: Planted) -> Self {
        let (data, arriving) = (Data::default(), Arc::default());
        Self {
            is_counting: false,
            counts: Counts::default(),
            data,
            peers: vec![],
            arriving,
            cut_until: vec![0; slots],
            loss: None,
            deaf: None,
            deaf_until: vec![0; slots],
            lost_ms: vec![],
            started_ms: 0,
            scripts: BTreeMap::new(),
            planted,
            trace: DefaultHasher::new(),
        }
    }

    /// The connector of node `slot`.
    pub(crate) fn dial(&self, slot: usize) -> impl Fn() -> Wire + Send + Sync + 'static {
        let arriving = Arc::clone(&self.arriving);
        move || {
            let pipe = Arc::new(Mutex::new(Pipe::default()));
            arriving.lock().push(Peer { slot, pipe: Arc::clone(&pipe), channels: vec![] });
            Wire(pipe)
        }
    }

    pub(crate) fn cut(&mut self, slot: usize, until_ms: u64) {
        self.cut_until[slot] = self.cut_until[slot].max(until_ms);
    }

    pub(crate) fn is_cut(&self, slot: usize, now_ms: u64) -> bool {
        now_ms < self.cut_until[slot]
    }

    /// The next commands of a node are lost, or their answers.
    pub(crate) fn lose(&mut self, slot: usize, loss: Loss) {
        self.loss = Some((slot, loss));
    }

    /// The next message of another node to this one is lost.
    pub(crate) fn lose_message(&mut self, slot: usize) {
        self.deaf = Some(slot);
    }

    /// No message reaches a node until then; its connections stay up, and its commands are answered.
    pub(crate) fn deafen(&mut self, slot: usize, until_ms: u64) {
        self.deaf_until[slot] = self.deaf_until[slot].max(until_ms);
    }

    /// All connections break; Redis is another process behind that, with this in it.
    pub(crate) fn restart(&mut self, data: Data, now_ms: u64) {
        self.data = data;
        self.scripts.clear();
        self.started_ms = now_ms;
        for peer in self.peers.drain(..) {
            peer.pipe.lock().break_off();
        }
    }

    /// A node is gone, and its connections with it.
    pub(crate) fn forget(&mut self, slot: usize) {
        self.peers.extend(self.arriving.lock().drain(..));
        self.peers.retain(|peer| peer.slot != slot);
    }

    /// Redis executes arrived commands, in any order of its connections. `clock_ms` is its own time.
    pub(crate) fn step(&mut self, now_ms: u64, clock_ms: u64, dice: &mut Dice) {
        self.peers.extend(self.arriving.lock().drain(..));
        let mut order: Vec<usize> = (0..self.peers.len()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, dice.index(at + 1));
        }
        for at in order {
            let slot = self.peers[at].slot;
            if self.is_cut(slot, now_ms) {
                continue;
            }
            let mut pipe = self.peers[at].pipe.lock();
            // Bytes that a node sent before it gave up may still arrive.
            if pipe.is_broken || pipe.to_redis.is_empty() || pipe.is_left && dice.once_in(2) {
                continue;
            }
            let loss = self.loss.filter(|(of, _)| *of == slot).map(|(_, loss)| loss);
            if loss.is_some() {
                self.loss = None;
                pipe.break_off();
            }
            if loss == Some(Loss::Before) {
                continue;
            }
            let commands = take_commands(&mut pipe.to_redis);
            drop(pipe);
            for words in commands {
                let (reply, said) = self.execute(at, &words, now_ms, clock_ms);
                if self.is_counting {
                    self.counts.count(&words, &reply);
                } else {
                    (now_ms, slot, &words, &reply).hash(&mut self.trace);
                }
                // Messages and answers leave in the order in which they were made.
                said.into_iter().for_each(|publication| self.deliver(&publication, now_ms));
                if loss.is_none() {
                    self.send(at, &reply);
                }
            }
        }
        self.peers.retain(|peer| {
            let pipe = peer.pipe.lock();
            let is_cut = now_ms < self.cut_until[peer.slot];
            !pipe.is_broken && (is_cut || !pipe.is_left)
        });
    }

    /// A number that is another one if anything was.
    pub(crate) fn digest(&self) -> u64 {
        self.trace.finish()
    }

    fn send(&self, at: usize, reply: &Reply) {
        let mut pipe = self.peers[at].pipe.lock();
        let mut bytes = vec![];
        reply.write(&mut bytes);
        pipe.to_node.extend(bytes);
        pipe.wake();
    }

    fn execute(&mut self, at: usize, words: &[Vec<u8>], now_ms: u64, clock_ms: u64) -> (Reply, Option<Publication>) {
        let channel = || word(&words[1]);
        let reply = match word(&words[0]).as_str() {
            "HELLO" => Reply::Map(vec![(Reply::text("proto"), Reply::Int(3))]),
            "CLIENT" => Reply::ok(),
            "PING" => Reply::Simple("PONG".to_owned()),
            "SUBSCRIBE" => {
                self.peers[at].channels.push(channel());
                Reply::Push(vec![Reply::text("subscribe"), Reply::text(channel()), Reply::Int(1)])
            }
            "UNSUBSCRIBE" => {
                self.peers[at].channels.retain(|known| *known != channel());
                Reply::Push(vec![Reply::text("unsubscribe"), Reply::text(channel()), Reply::Int(0)])
            }
            "PUBLISH" => {
                let receivers = self.peers.iter().filter(|peer| peer.channels.contains(&channel())).count();
                let receivers = i64::try_from(receivers).expect("few");
                return (Reply::Int(receivers), Some((channel(), words[2].clone())));
            }
            "PUBSUB" => Reply::texts(self.peers.iter().flat_map(|peer| peer.channels.iter())),
            "INFO" => Reply::text(format!("uptime_in_seconds:{}\r\n", (now_ms - self.started_ms) / 1_000)),
            "EVALSHA" => {
                let Some(text) = self.scripts.get(&word(&words[1])) else {
                    return (Reply::Error("NOSCRIPT No matching script.".to_owned()), None);
                };
                let mut words = words.to_vec();
                (words[0], words[1]) = (b"EVAL".to_vec(), text.clone());
                self.data.execute(&words, clock_ms, self.planted)
            }
            name => {
                if name == "EVAL" {
                    self.scripts.insert(hex(&Sha1::digest(&words[1])), words[1].clone());
                }
                self.data.execute(words, clock_ms, self.planted)
            }
        };
        if let Reply::Error(error) = &reply {
            panic!("{error}");
        }
        (reply, None)
    }

    fn deliver(&mut self, (channel, message): &Publication, now_ms: u64) {
        if self.planted.repeats_nothing && message.get(1) == Some(&REPEAT) {
            return;
        }
        let push = Reply::Push(vec![Reply::text("message"), Reply::text(channel), Reply::text(message)]);
        for at in (0..self.peers.len()).filter(|at| self.peers[*at].channels.contains(channel)) {
            let slot = self.peers[at].slot;
            if now_ms < self.deaf_until[slot] {
                self.lost_ms.push(now_ms);
            } else if self.deaf == Some(slot) {
                self.deaf = None;
                self.lost_ms.push(now_ms);
            } else {
                self.send(at, &push);
            }
        }
    }
}
