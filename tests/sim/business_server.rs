//! A business server: it receives webhooks, answers each message with a push, and fails at random.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_local;
use tokio::time::sleep;
use turmoil::net::TcpListener;
use turmoil::net::TcpStream;

use crate::dice::Dice;
use crate::gateway::API;
use crate::history::Attempt;
use crate::network::Lines;
use crate::world::Shared;

/// How it answers webhooks for a while.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mood {
    Good,
    /// With this status.
    Status(u16),
    /// It hangs up before it looks at the request.
    HangUp,
    /// It takes the event and hangs up in the middle of its answer.
    HalfAnswer,
    /// It takes the event and answers too late.
    Late,
    /// It takes the event and never answers.
    Mute,
}

pub(crate) const BAD_MOODS: [Mood; 7] =
    [Mood::Status(500), Mood::Status(503), Mood::Status(429), Mood::HangUp, Mood::HalfAnswer, Mood::Late, Mood::Mute];

const ACCEPTED: &str = r#"{"code":0,"message":"ok"}"#;

/// Pushes that may be on their way at a time.
const PUSHERS: usize = 3;

pub(crate) async fn run(shared: Rc<Shared>, shop: usize) -> turmoil::Result {
    let start = {
        let mut journal = shared.journal.borrow_mut();
        journal.shops[shop].queue.clear();
        journal.fresh()
    };
    spawn_local(push(Rc::clone(&shared), shop));
    let listener = TcpListener::bind("0.0.0.0:80").await?;
    let mut number = 0;
    loop {
        let (stream, _) = listener.accept().await?;
        number += 1;
        let dice = Dice::new(shared.seed, 1_000_000 * start + number);
        let shared = Rc::clone(&shared);
        spawn_local(async move {
            // The gateway may hang up whenever it likes.
            let _ = serve(&shared, shop, stream, dice).await;
        });
    }
}

async fn serve(shared: &Shared, shop: usize, mut stream: TcpStream, mut dice: Dice) -> io::Result<()> {
    let mut buffer = vec![];
    while let Some((head, body)) = read_request(&mut stream, &mut buffer).await? {
        let mood = shared.moods.borrow()[shop];
        let number = receive(shared, shop, &head, &body, mood);
        if mood == Mood::HangUp {
            return Ok(());
        }
        sleep(dice.millis(0, 30)).await;
        let (status, text) = match mood {
            Mood::Status(status) => (status, "{}"),
            _ => (200, ACCEPTED),
        };
        let retry_after = if status == 429 { "Retry-After: 1\r\n" } else { "" };
        let answer = match dice.index(3) {
            0 => {
                let (left, right) = text.split_at(text.len() / 2);
                let chunks = format!("1\r\n{}\r\n{:x}\r\n{}\r\n", &left[..1], left.len() - 1, &left[1..]);
                let chunks = if left.len() > 1 { chunks } else { format!("1\r\n{left}\r\n") };
                format!(
                    "HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n{retry_after}\r\n{chunks}{:x}\r\n{right}\r\n0\r\n\r\n",
                    right.len()
                )
            }
            1 => format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{retry_after}\r\n{text}"),
            _ => format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{retry_after}\r\n{text}", text.len()),
        };
        match mood {
            Mood::Late => sleep(Duration::from_secs(3)).await,
            Mood::Mute => {
                stream.read_buf(&mut buffer).await?;
                return Ok(());
            }
            Mood::HalfAnswer => {
                let cut = 1 + dice.index(answer.len() - 2);
                stream.write_all(&answer.as_bytes()[..cut]).await?;
                return Ok(());
            }
            Mood::Good | Mood::Status(_) | Mood::HangUp => {}
        }
        if dice.once_in(4) {
            let (head, rest) = answer.as_bytes().split_at(1 + dice.index(answer.len() - 2));
            stream.write_all(head).await?;
            sleep(dice.millis(0, 20)).await;
            stream.write_all(rest).await?;
        } else {
            stream.write_all(answer.as_bytes()).await?;
        }
        if status == 200 {
            shared.journal.borrow_mut().attempts[number].accepted = turmoil::sim_elapsed();
        }
        if answer.contains("Connection: close") {
            return Ok(());
        }
    }
    Ok(())
}

/// Records an attempt and decides what to push for it.
fn receive(shared: &Shared, shop: usize, head: &str, body: &str, mood: Mood) -> usize {
    let envelope: Value = serde_json::from_str(body).expect("JSON");
    let data: Value = serde_json::from_str(envelope["data"].as_str().expect("a string")).expect("JSON");
    let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
    let id = head.lines().find_map(|line| line.strip_prefix("webhook-id: ")).expect("an id");
    let (tunnel, number) = id.strip_prefix("msg_").and_then(|id| id.split_once('_')).expect("tunnel and number");
    let mut journal = shared.journal.borrow_mut();
    let sequence = match number {
        // The same from whichever node it comes, and always behind the others.
        "close" => {
            1 + journal
                .attempts
                .iter()
                .filter(|attempt| attempt.tunnel == tunnel && attempt.kind != "close")
                .map(|attempt| attempt.sequence)
                .max()
                .unwrap_or(0)
        }
        number => number.parse().expect("a number"),
    };
    let attempt = Attempt {
        shop,
        tunnel: text("tunnelId"),
        sequence,
        kind: text("type"),
        content: text("content"),
        began: turmoil::sim_elapsed().expect("in a simulation"),
        accepted: None,
        is_spoilt: mood != Mood::Good,
    };
    assert_eq!(attempt.tunnel, tunnel);
    let number = journal.attempts.len();
    let is_new = !journal
        .attempts
        .iter()
        .rev()
        .any(|earlier| earlier.tunnel == attempt.tunnel && earlier.sequence == attempt.sequence);
    if is_new && !matches!(mood, Mood::HangUp | Mood::Status(_)) {
        let fresh = journal.fresh();
        let mut dice = Dice::new(shared.seed, 7_000_000 + fresh);
        let state = &mut journal.shops[shop];
        match attempt.kind.as_str() {
            "connect" => drop(state.open.insert(attempt.tunnel.clone())),
            "close" => drop(state.open.remove(&attempt.tunnel)),
            _ => {
                let padding = "x".repeat(dice.pick(&[0, 20, 150, 700]));
                let to =
                    if dice.once_in(6) { state.open.iter().cloned().collect() } else { vec![attempt.tunnel.clone()] };
                if !to.is_empty() {
                    state.queue.push_back((to, Some(format!("{fresh}.{padding}"))));
                }
                if dice.once_in(150) {
                    state.queue.push_back((vec![attempt.tunnel.clone()], None));
                }
            }
        }
    }
    journal.attempts.push(attempt);
    drop(journal);
    shared.queued[shop].notify_one();
    number
}

/// Sends queued pushes: concurrently for different tunnels, in order for one tunnel.
async fn push(shared: Rc<Shared>, shop: usize) {
    let mut pushers: Vec<_> = (0..PUSHERS).map(|_| Lines::new(API, Duration::from_secs(2))).collect();
    loop {
        let round = next_round(&shared, shop);
        if round.is_empty() {
            shared.queued[shop].notified().await;
            continue;
        }
        let asked = pushers.iter_mut().zip(round).map(async |(pusher, (number, line))| {
            let answer = pusher.ask(&line).await?;
            let invalid = answer.strip_prefix("invalid ").expect("a push's answer");
            let invalid: Vec<_> = invalid.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect();
            let mut journal = shared.journal.borrow_mut();
            for id in &invalid {
                journal.shops[shop].open.remove(id);
            }
            journal.pushes[number].invalid = Some(invalid);
            Some(())
        });
        join_all(asked).await;
    }
}

fn next_round(shared: &Shared, shop: usize) -> Vec<(usize, String)> {
    let mut journal = shared.journal.borrow_mut();
    let mut round: Vec<(usize, String)> = vec![];
    let mut busy: Vec<String> = vec![];
    while round.len() < PUSHERS {
        let Some((tunnels, content)) = journal.shops[shop].queue.pop_front() else { break };
        if tunnels.iter().any(|tunnel| busy.contains(tunnel)) {
            journal.shops[shop].queue.push_front((tunnels, content));
            break;
        }
        let mut line = format!("push {shop} {}", tunnels.join(","));
        if let Some(content) = &content {
            line += &format!(" {content}");
        }
        busy.extend(tunnels.iter().cloned());
        round.push((journal.pushes.len(), line));
        journal.pushes.push(crate::history::Push { tunnels, content, invalid: None });
    }
    round
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<(String, String)>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let whole = end + 4 + length.and_then(|length| length.parse::<usize>().ok()).expect("a Content-Length");
            if buffer.len() >= whole {
                let body = String::from_utf8_lossy(&buffer[end + 4..whole]).into_owned();
                buffer.drain(..whole);
                return Ok(Some((head, body)));
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}
