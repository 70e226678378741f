//! Clients that fail or attack, beside honest ones that must not notice.

use std::time::Duration;

use serde_json::json;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::Leave;
use super::load::LEAVES;
use super::load::Load;
use super::load::Roster;
use super::load::Talk;
use super::logs::ClientLog;
use super::logs::Push;
use super::logs::content;
use super::logs::number;
use super::scenario::Stage;
use super::seed::Seed;
use super::verdict::judge;
use crate::support::Issued;
use crate::support::RawClient;
use crate::support::Wafer;
use crate::support::raw::CLOSE;
use crate::support::raw::TEXT;
use crate::support::raw::masked;
use crate::support::within;

/// Many more frames than any budget of these tests lets through.
const FLOOD: usize = 2_000;

/// A push that fills sockets quickly.
const LONG: usize = 2_000_000;

/// The bytes that an attacker sends after one valid message, and the expected close code.
pub(crate) fn attacks() -> Vec<(&'static str, Vec<u8>, u16)> {
    vec![
        ("pings", masked(0x89, b"x").repeat(FLOOD), 1008),
        ("pongs", masked(0x8a, b"").repeat(FLOOD), 1008),
        ("ping packets", masked(TEXT, b"ping").repeat(FLOOD), 1008),
        ("fragments", [masked(0x01, b"message:"), masked(0x00, b"x").repeat(FLOOD)].concat(), 1008),
        ("empty fragments", [masked(0x01, b""), masked(0x00, b"").repeat(FLOOD)].concat(), 1008),
        ("empty frames", masked(TEXT, b"").repeat(FLOOD), 1008),
        ("binary frames", masked(0x82, b"").repeat(FLOOD), 1008),
        ("a long message", masked(TEXT, &[b'x'; 5_000]), 1009),
        ("a long message in fragments", [masked(0x01, &[b'x'; 4_000]), masked(0x80, &[b'x'; 4_000])].concat(), 1009),
        ("bad UTF-8", masked(TEXT, b"message:\xff"), 1007),
        ("an unmasked frame", vec![TEXT, 4, b'p', b'i', b'n', b'g'], 1002),
        ("a reserved bit", masked(0xc1, b"ping"), 1002),
        ("silence", vec![], 1001),
        ("half a frame, then silence", masked(TEXT, b"message:99:x")[..9].to_vec(), 1001),
    ]
}

/// A client that keeps its log by hand.
struct Hostile {
    raw: RawClient,
    log: ClientLog,
}

impl Hostile {
    async fn open(issued: &Issued, receive_buffer: Option<usize>) -> Self {
        let dialed = Instant::now();
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = receive_buffer {
            SockRef::from(&socket).set_recv_buffer_size(bytes).expect("a TCP socket");
        }
        let stream = within("connect", socket.connect(issued.address())).await.expect("connects");
        let raw = RawClient::open_on(stream, issued).await;
        let opened = Instant::now();
        let log = ClientLog {
            tunnel: issued.tunnel.clone(),
            dialed,
            opened,
            open_until: opened,
            sent: vec![],
            certain: 0,
            received: vec![],
            has_read_all: false,
            lost_at: None,
        };
        Self { raw, log }
    }

    /// Says something that the gateway has surely read.
    async fn speak(&mut self) {
        let next = content(self.log.sent.len() as u64 + 1, 10);
        self.raw.send(&format!("message:{next}")).await;
        self.log.sent.push(Instant::now());
        self.raw.send("ping").await;
        assert_eq!(self.raw.frame().await, (TEXT, b"pong".to_vec()));
        self.log.certain = self.log.sent.len();
        self.log.open_until = Instant::now();
    }

    /// Reads on to the gateway's close frame; returns its code.
    async fn read_to_close(&mut self) -> u16 {
        loop {
            let (first, payload) = self.raw.frame().await;
            if first == CLOSE {
                return u16::from_be_bytes([payload[0], payload[1]]);
            }
            if let Some(content) = std::str::from_utf8(&payload).ok().and_then(|text| text.strip_prefix("message:")) {
                self.log.received.push(number(content));
            }
        }
    }
}

/// One attacker's life.
pub(crate) async fn attack(issued: Issued, bytes: Vec<u8>) -> (ClientLog, u16) {
    let mut hostile = Hostile::open(&issued, None).await;
    hostile.speak().await;
    hostile.raw.write(&bytes).await;
    let code = hostile.read_to_close().await;
    (hostile.log, code)
}

/// Sends numbered messages as fast as a connection takes them; the gateway may close it before the last.
async fn babble(issued: Issued) -> (ClientLog, u16) {
    let mut hostile = Hostile::open(&issued, None).await;
    let packets = (1..=FLOOD as u64).map(|number| masked(TEXT, format!("message:{number}:").as_bytes()));
    let packets: Vec<_> = packets.collect();
    hostile.log.sent = vec![Instant::now(); packets.len()];
    hostile.raw.write(&packets.concat()).await;
    let code = hostile.read_to_close().await;
    (hostile.log, code)
}

/// Pushes `pushes` long messages, or until the tunnel is invalid.
async fn overfill(wafer: &Wafer, tunnel: &str, pushes: Option<u64>) -> Vec<Push> {
    let mut done = vec![];
    for number in 1..=pushes.unwrap_or(1_000) {
        let began = Instant::now();
        let packets = json!([{"tunnelIds": [tunnel], "type": "message", "content": content(number, LONG)}]);
        let is_invalid = !wafer.packets(packets).await.is_empty();
        done.push(Push {
            tunnel: tunnel.to_owned(),
            number,
            began,
            ended: Instant::now(),
            is_invalid,
            is_unknown: false,
        });
        if is_invalid {
            break;
        }
    }
    done
}

#[tokio::test]
async fn attackers_get_their_codes_and_nobody_else_notices() {
    let settings = [
        ("limits.messages_per_sec_per_connection", "20"),
        ("tunnel.max_message_bytes", "4096"),
        ("tunnel.heartbeat_secs", "1"),
    ];
    let stage = Stage::with(&settings).await;
    let url = stage.business.url();
    let mut attackers = JoinSet::new();
    for (what, bytes, code) in attacks() {
        let issued = stage.wafer.issue(&url).await;
        attackers.spawn(async move { (what, code, attack(issued, bytes).await) });
    }
    let issued = stage.wafer.issue(&url).await;
    attackers.spawn(async move { ("tiny messages", 1008, babble(issued).await) });

    let honest = Load::default().run(&stage.wafer, &url, Seed(1), &stage.roster);
    let (neighbour, roster) = (stage.neighbour.url(), Roster::default());
    let neighbours = Load::default().run(&stage.other, &neighbour, Seed(2), &roster);
    let (honest, neighbours) = tokio::join!(honest, neighbours);
    let mut talk = honest.and(neighbours);
    for (what, expected, (log, code)) in attackers.join_all().await {
        assert_eq!(code, expected, "{what}");
        talk.clients.push(log);
    }

    let metrics = stage.gateway.metrics().await;
    let closes = |reason: &str| metrics.sum("closes_total{", &format!("\"{reason}\""));
    let counted = ["rate_limited", "too_big", "protocol_error", "heartbeat"].map(closes);
    assert_eq!(counted, [8.0, 2.0, 3.0, 2.0]);
    let logs = stage.finish(talk).await;
    let verdict = judge(&logs);
    verdict.assert_sound();
    assert_eq!(verdict.tunnels, 12 + 15);
    let babbled = logs.attempts.iter().filter(|attempt| attempt.tunnel == loudest(&logs.clients).tunnel).count();
    assert!((42..=60).contains(&babbled), "two seconds' worth, connect and close: {babbled}");
}

/// The client that sent the most.
fn loudest(clients: &[ClientLog]) -> &ClientLog {
    clients.iter().max_by_key(|client| client.sent.len()).expect("there are clients")
}

#[tokio::test]
async fn clients_that_read_slowly_or_never_are_closed_by_bytes_and_by_age() {
    let settings = [("tunnel.outbox_bytes", "8388608"), ("tunnel.outbox_age_secs", "1")];
    let stage = Stage::with(&settings).await;
    let url = stage.business.url();
    let mut talk = Talk::default();
    let mut never = Hostile::open(&stage.wafer.issue(&url).await, Some(4_096)).await;
    let mut slow = Hostile::open(&stage.wafer.issue(&url).await, Some(4_096)).await;
    never.speak().await;
    slow.speak().await;

    let dripping = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        let mut read = vec![];
        while stage.gateway.metrics().await.sum("closes_total{", "slow_consumer") < 2.0 {
            ticks.tick().await;
            // 500 bytes a second.
            let mut bytes = [0; 50];
            let count = within("bytes", slow.raw.stream.read(&mut bytes)).await.expect("readable");
            read.extend_from_slice(&bytes[..count]);
        }
        read
    };
    let honest = Load::default().run(&stage.wafer, &url, Seed(1), &stage.roster);
    let (full, old, honest, read) = tokio::join!(
        overfill(&stage.wafer, &never.log.tunnel, None),
        overfill(&stage.wafer, &slow.log.tunnel, Some(4)),
        honest,
        dripping,
    );

    assert!(full.last().is_some_and(|push| push.is_invalid));
    assert!(old.iter().all(|push| !push.is_invalid), "these fit into its outbox");
    assert!(read.len() < LONG, "{}", read.len());
    talk.pushes = [full, old].concat();
    // The slow client has read the beginning of its first message.
    drop((never.raw, slow.raw));
    talk.clients = vec![never.log, slow.log];
    let verdict = judge(&stage.finish(talk.and(honest)).await);
    verdict.assert_sound();
    assert!(verdict.down.cut_off > 0);
}

#[tokio::test]
async fn a_tenants_rate_slows_its_clients_and_loses_nothing() {
    let stage = Stage::with(&[("limits.messages_per_sec", "60")]).await;
    let load = Load {
        messages: 30,
        pace: Duration::from_micros(1),
        leaves: &[Leave::ClosePacket, Leave::Fin],
        ..Load::default()
    };
    let start = Instant::now();

    let talk = load.run(&stage.wafer, &stage.business.url(), Seed(1), &stage.roster).await;
    let neighbours = load.run(&stage.other, &stage.neighbour.url(), Seed(2), &Roster::default()).await;
    let logs = stage.finish(talk.and(neighbours)).await;

    assert!(start.elapsed() > Duration::from_millis(900), "180 messages, 120 at once: {:?}", start.elapsed());
    let verdict = judge(&logs);
    verdict.assert_sound();
    assert_eq!(verdict.up.delivered, verdict.up.sent);
}

#[tokio::test]
async fn reconnects_by_the_hundred() {
    let reconnects: usize =
        std::env::var("WAFERGATE_CHECK_RECONNECTS").map_or(Ok(300), |text| text.parse()).expect("a number");
    let stage = Stage::with(&[]).await;
    let load = Load { tunnels: 150, messages: 1, pushes: 1, bytes: 20, pace: Duration::from_millis(1), leaves: LEAVES };
    let mut talk = Talk::default();
    let mut seed = Seed(1);

    while talk.clients.len() < reconnects {
        let wave = load.run(&stage.wafer, &stage.business.url(), Seed(seed.below(u64::MAX)), &stage.roster).await;
        talk = talk.and(wave);
    }

    let logs = stage.finish(talk).await;
    let verdict = judge(&logs);
    verdict.assert_sound();
    assert!(verdict.connects >= reconnects as u64);
}

#[tokio::test]
async fn a_drain_in_full_flow_loses_nothing() {
    // There may be no moment without an event in flight until the last client has said all: it waits for as long as it may.
    let stage = Stage::with(&[("drain.flush_secs", "5")]).await;
    let load =
        Load { messages: 2_000, pushes: 10, pace: Duration::from_millis(5), leaves: &[Leave::Stay], ..Load::default() };
    let talking = {
        let (wafer, url, roster) = (stage.wafer.clone(), stage.business.url(), stage.roster.clone());
        tokio::spawn(async move { load.run(&wafer, &url, Seed(1), &roster).await })
    };
    // A push that arrives after the node has ended finds no listener.
    let pushed = (load.tunnels as u64 * load.pushes) as f64;
    stage.gateway.until_metric("deliveries_total{result=\"accepted\"}", pushed).await;
    stage.business.until(|events| events.len() > 100).await;

    let logs = stage.drain(talking).await;

    let verdict = judge(&logs);
    verdict.assert_sound();
    assert!(verdict.up.sent > 100 && verdict.up.delivered == verdict.up.sent, "{verdict:?}");
}
