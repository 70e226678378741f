//! Nodes of this release beside one of the last: what that one does in Redis, and says, is done here as it did.
//!
//! It takes a node without a lease for dead, knows fewer kinds of messages, signs them for all that have the key, and does not say when
//! its questions were asked. This goes when the next release does without the last one.

use hkdf::Hkdf;
use hmac::Hmac;
use hmac::KeyInit;
use hmac::Mac;
use sha2::Sha256;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Duration;
use tokio_util::task::AbortOnDropHandle;
use wafergate::id::NodeId;

use crate::support::Cluster;
use crate::support::Redis;
use crate::support::TestClient;
use crate::support::cluster::TICKET_KEY;
use crate::support::redis::ask;
use crate::support::within;

const RENEW: &str = include_str!("../../fixtures/last_release/renew.lua");

/// The kinds of messages that it knows, by their numbers.
const QUESTION: u8 = 1;
const KINDS: u8 = 4;

/// A node of the last release.
struct Old {
    name: NodeId,
    redis: u16,
    heard: mpsc::Receiver<Vec<u8>>,
    sequence: u64,
    _living: AbortOnDropHandle<()>,
    _hearing: AbortOnDropHandle<()>,
}

impl Old {
    async fn join(redis: &Redis) -> Self {
        let (name, port) = (NodeId::from_bytes(rand::random()), redis.port);
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connects");
        let channel = format!("wafergate:{{node:{name}}}");
        stream.write_all(format!("SUBSCRIBE {channel}\r\n").as_bytes()).await.expect("sent");
        renew(port, name).await;
        let living = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                renew(port, name).await;
            }
        });
        let (tell, heard) = mpsc::channel(1_000);
        let hearing = tokio::spawn(async move {
            let (mut bytes, start) = (vec![], format!("message\r\n${}\r\n{channel}\r\n$", channel.len()));
            while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
                while let Some((message, rest)) = first_message(&bytes, start.as_bytes()) {
                    tell.try_send(message).expect("there is room");
                    bytes = rest;
                }
            }
        });
        let (living, hearing) = (AbortOnDropHandle::new(living), AbortOnDropHandle::new(hearing));
        Self { name, redis: port, heard, sequence: 0, _living: living, _hearing: hearing }
    }

    /// A message of another node that it must understand: the kind of the message.
    async fn hears(&mut self) -> u8 {
        understood(&within("a message", self.heard.recv()).await.expect("it hears"))
    }

    /// All that has been said to it.
    fn has_heard(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).map(|message| understood(&message)).collect()
    }

    async fn says(&mut self, kind: u8, receiver: NodeId, body: &[u8]) {
        self.sequence += 1;
        let (sequence, number) = (self.sequence.to_be_bytes(), 7_u64.to_be_bytes());
        let head = [&[1, kind][..], &self.name.to_bytes(), &receiver.to_bytes(), &sequence, &number, body].concat();
        let mac = mac(&head);
        // Numbers of nodes are not text.
        let message = [head, mac].concat();
        let mut stream = TcpStream::connect(("127.0.0.1", self.redis)).await.expect("connects");
        let channel = format!("wafergate:{{node:{receiver}}}");
        let start = format!("*3\r\n$7\r\nPUBLISH\r\n${}\r\n{channel}\r\n${}\r\n", channel.len(), message.len());
        stream.write_all(&[start.as_bytes(), &message, b"\r\n"].concat()).await.expect("sent");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b":1\r\n", "the other one listens");
    }
}

/// Renews the lease of the last release's node `name`; returns the script's result.
async fn renew(redis: u16, name: NodeId) -> String {
    let keys =
        ["leases", "records", "dead", "status", "clock", "unsure"].map(|key| format!("wafergate:{{nodes}}:{key}"));
    let name = name.to_string();
    let words = [
        &["EVAL", RENEW, "6"][..],
        &keys.each_ref().map(String::as_str),
        &[&name, "8000", "3000", "86400000", "", "0"],
    ];
    ask(redis, &words.concat()).await.unwrap_or_default()
}

fn mac(head: &[u8]) -> Vec<u8> {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(None, TICKET_KEY.as_bytes()).expand(b"wafergate between nodes v1", &mut key).expect("short");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("every length");
    mac.update(head);
    mac.finalize().into_bytes().to_vec()
}

fn understood(message: &[u8]) -> u8 {
    let (head, signature) = message.split_at(message.len() - 32);
    assert_eq!(head[0], 1, "the version");
    assert!(head[1] < KINDS, "kind {} is new", head[1]);
    assert_eq!(mac(head), signature, "it is signed for all that have the key");
    head[1]
}

/// The first message in a subscriber's input, and the rest.
fn first_message(bytes: &[u8], start: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let at = bytes.windows(start.len()).position(|window| window == start)? + start.len();
    let end = at + bytes[at..].iter().position(|byte| *byte == b'\r')?;
    let length: usize = std::str::from_utf8(&bytes[at..end]).ok()?.parse().ok()?;
    let message = bytes.get(end + 2..end + 2 + length)?.to_vec();
    Some((message, bytes[end + 2 + length..].to_vec()))
}

impl Cluster {
    /// The names of the nodes that have leases, but for `old`.
    async fn names(&self, old: NodeId) -> Vec<NodeId> {
        let leases = self.redis.command(&["ZRANGE", "wafergate:{nodes}:leases", "0", "-1"]).await;
        leases
            .lines()
            .filter(|line| line.len() == 32)
            .filter_map(|line| line.parse().ok())
            .filter(|name| *name != old)
            .collect()
    }

    /// Pushes to a tunnel that only the old node can know.
    async fn asks(&self, old: &mut Old) {
        let asked = async {
            while !old.has_heard().contains(&QUESTION) {
                self.try_push(0, &["t00000000000000000000000000000000"], "x").await;
            }
        };
        within("the old one is asked", asked).await;
    }
}

#[tokio::test]
async fn what_is_said_between_them_is_understood_and_what_is_new_is_not_said() {
    let cluster = Cluster::new(2).await;
    let mut old = Old::join(&cluster.redis).await;
    cluster.all_have_heard().await;
    let asked = async { cluster.try_push(0, &["t00000000000000000000000000000000"], "x").await };
    let (answer, kind) = tokio::join!(asked, old.hears());
    assert_eq!(kind, QUESTION);
    assert_eq!(answer["code"], 50_302, "it did not answer in time: {answer}");

    // If Redis may have lost the used URLs, the old node is not queried: it does not know.
    let used = cluster.issue(0).await;
    let _client = TestClient::dial(&used).await.expect("it is fresh");
    cluster.redis.command(&["FLUSHALL"]).await;
    renew(cluster.redis.port, old.name).await;
    match TestClient::dial(&cluster.moved(&used, 1)).await {
        Ok(_) => panic!("a used URL opened again"),
        Err(error) => assert!(error.to_string().contains("409"), "{error}"),
    }
    cluster.all_have_heard().await;
    cluster.asks(&mut old).await;

    // Its message is dropped because of its kind, not its signature.
    let sum = async |reason: &str| {
        let mut sum = 0.0;
        for node in &cluster.nodes {
            sum += node.metrics().await.sum("node_messages_dropped_total{", reason);
        }
        sum
    };
    let (before, strange) = (sum("version").await, sum("signature").await);
    let name = cluster.names(old.name).await[0];
    old.says(QUESTION, name, b"what nobody has ever asked").await;
    old.says(99, name, b"").await;
    within("both are dropped", async { while sum("version").await < before + 2.0 {} }).await;
    assert_eq!(sum("signature").await, strange);
}

#[tokio::test]
async fn a_node_whose_lease_is_missing_stops_when_the_old_one_takes_it_for_dead() {
    let mut cluster = Cluster::new(1).await;
    let mut client = cluster.connect(0, 0).await;
    let old = Old::join(&cluster.redis).await;
    let names = cluster.names(old.name).await;
    let is_taken = async {
        loop {
            cluster.redis.command(&["DEL", "wafergate:{nodes}:leases"]).await;
            renew(cluster.redis.port, old.name).await;
            let owner = cluster.redis.command(&["HGET", "wafergate:{nodes}:records", &names[0].to_string()]).await;
            if owner.contains(&old.name.to_string()) {
                return;
            }
        }
    };
    within("the old one looks after its tunnels", is_taken).await;

    assert_eq!(client.close_code().await, 1001, "its client is sent away");
    // The old one tells of its end, which is not there to do it.
    cluster.business.story(&client.tunnel, &["connect"]).await;
    let node = cluster.nodes.remove(0);
    node.until_metric("engine_up", 1.0).await;
    cluster.nodes.push(node);
    cluster.connect(0, 0).await;
}
