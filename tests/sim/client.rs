//! Clients: each opens tunnels until it has got its messages through both ways, and few of them behave.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_local;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;
use turmoil::net::tcp::OwnedReadHalf;
use turmoil::net::tcp::OwnedWriteHalf;

use crate::dice::Dice;
use crate::gateway::API;
use crate::gateway::DOOR;
use crate::history::End;
use crate::network;
use crate::network::Lines;
use crate::world::PHONES_PER_HOST;
use crate::world::SHOPS;
use crate::world::Shared;

const PING_EVERY: Duration = Duration::from_secs(1);

/// Longest silence of the gateway before a phone gives it up.
const PATIENCE: Duration = Duration::from_secs(8);

/// What a client does with its tunnel before it is finished.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Manner {
    /// Talks on.
    Patient,
    /// Says goodbye with a packet.
    ClosePacket,
    /// Says goodbye with a close frame.
    CloseFrame,
    /// Closes its side and reads on.
    HalfClose,
    /// Hangs up.
    Drop,
    /// Is gone without a word.
    Vanish,
    /// Does not read for a while.
    Slow,
}

const MANNERS: [Manner; 9] = [
    Manner::Patient,
    Manner::Patient,
    Manner::Patient,
    Manner::ClosePacket,
    Manner::CloseFrame,
    Manner::HalfClose,
    Manner::Drop,
    Manner::Vanish,
    Manner::Slow,
];

/// State shared by the two halves of a session.
#[derive(Debug, Default)]
struct Session {
    tunnel: String,
    phone: usize,
    /// For each ping on its way how many messages were sent before it.
    pings: VecDeque<usize>,
    /// Whether it has said goodbye.
    is_leaving: bool,
    /// Whether it has closed its side.
    is_half_closed: bool,
    slow_until: Option<Instant>,
}

/// All phones of one machine.
pub(crate) async fn run(shared: Rc<Shared>, host: usize) -> turmoil::Result {
    for number in 0..PHONES_PER_HOST {
        spawn_local(live(Rc::clone(&shared), host * PHONES_PER_HOST + number));
    }
    pending().await
}

async fn live(shared: Rc<Shared>, phone: usize) {
    let starts = {
        let mut journal = shared.journal.borrow_mut();
        journal.phones[phone].starts += 1;
        journal.phones[phone].starts
    };
    let mut dice = Dice::new(shared.seed, 1_000 * starts + phone as u64);
    while !shared.may_rest(phone) {
        sleep(dice.millis(10, 400)).await;
        open(&shared, phone, &mut dice).await;
    }
}

/// Opens a tunnel and uses it until it ends.
async fn open(shared: &Shared, phone: usize, dice: &mut Dice) -> Option<()> {
    let shop = phone % SHOPS;
    let issued = Lines::new(API, Duration::from_secs(3)).ask(&format!("issue {shop}")).await?;
    let (tunnel, ticket) = issued.split_once(' ')?;
    shared.journal.borrow_mut().issued(tunnel, shop, phone);
    let mut door = Lines::new(DOOR, Duration::from_secs(3));
    door.ask(ticket).await.filter(|answer| answer == "ok")?;
    let (stream, buffer) = door.into_stream()?;

    let (read, write) = stream.into_split();
    let session = RefCell::new(Session { tunnel: tunnel.to_owned(), phone, ..Default::default() });
    let end = tokio::select! {
        biased;
        end = listen(shared, &session, read, buffer) => end,
        end = talk(shared, &session, write, dice) => end,
    };
    shared.journal.borrow_mut().tunnel(tunnel).end = Some(end);
    Some(())
}

async fn listen(shared: &Shared, session: &RefCell<Session>, mut read: OwnedReadHalf, mut buffer: Vec<u8>) -> End {
    let mut is_first = true;
    let mut is_sent_away = false;
    loop {
        while let Some((first, payload)) = network::take_frame(&mut buffer) {
            let mut journal = shared.journal.borrow_mut();
            let mut session = session.borrow_mut();
            let packet = String::from_utf8_lossy(&payload);
            assert_eq!(is_first, packet.starts_with("timeout:"), "{packet}");
            is_first = false;
            if first == network::CLOSE {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                return if session.is_leaving && !is_sent_away && code == 1000 {
                    End::Confirmed
                } else {
                    End::Closed(code)
                };
            }
            if first == network::PING {
                // It is too old to know this.
                continue;
            }
            assert_eq!(first, network::TEXT);
            if packet == "pong" {
                let count = session.pings.pop_front().expect("an answer to a ping");
                journal.acked(&session.tunnel, count);
            } else if let Some(content) = packet.strip_prefix("message:") {
                journal.received(&session.tunnel, content);
            } else if packet == "close" {
                // The business server was quicker: the close frame that follows is its, whatever was said meanwhile.
                is_sent_away = true;
            }
        }
        let slow_until = session.borrow().slow_until;
        if let Some(until) = slow_until {
            tokio::time::sleep_until(until).await;
        }
        match timeout(PATIENCE, read.read_buf(&mut buffer)).await {
            Ok(Ok(0)) if session.borrow().is_half_closed => return End::HalfClosed,
            Ok(Ok(read)) if read > 0 => {}
            _ => return End::Lost,
        }
    }
}

async fn talk(shared: &Shared, session: &RefCell<Session>, mut write: OwnedWriteHalf, dice: &mut Dice) -> End {
    let manner = dice.pick(&MANNERS);
    let patience = dice.range(1, 12);
    let phone = session.borrow().phone;
    for round in 0.. {
        let is_done = shared.journal.borrow().phones[phone].is_done();
        let manner = match manner {
            Manner::Slow if round == patience => {
                session.borrow_mut().slow_until = Some(Instant::now() + Duration::from_secs(5));
                Manner::Patient
            }
            // The end of the gateway's stream would say nothing to one that may have missed its close frame.
            Manner::Slow if shared.may_rest(phone) => Manner::CloseFrame,
            Manner::Patient if shared.may_rest(phone) => {
                dice.pick(&[Manner::ClosePacket, Manner::CloseFrame, Manner::HalfClose])
            }
            Manner::Patient | Manner::Slow => Manner::Patient,
            manner if round >= patience => manner,
            _ => Manner::Patient,
        };
        if manner != Manner::Patient {
            return leave(session, write, manner).await;
        }
        let mut bytes = vec![];
        if !is_done {
            for _ in 0..dice.range(1, 3) {
                let mut journal = shared.journal.borrow_mut();
                let content = format!("{}.{}", journal.fresh(), "y".repeat(dice.pick(&[0, 10, 130, 400])));
                bytes.extend(network::masked(network::TEXT, format!("message:{content}").as_bytes()));
                journal.tunnel(&session.borrow().tunnel).sent.push(content);
            }
        }
        let pause = if is_done { PING_EVERY } else { dice.millis(20, 300) };
        if is_done || dice.once_in(2) {
            let mut session = session.borrow_mut();
            let count = shared.journal.borrow().tunnels[&session.tunnel].sent.len();
            session.pings.push_back(count);
            bytes.extend(network::masked(network::TEXT, b"ping"));
        }
        let written = async {
            if dice.once_in(3) {
                let (first, rest) = bytes.split_at(1 + dice.index(bytes.len() - 1));
                write.write_all(first).await?;
                sleep(Duration::from_millis(5)).await;
                return write.write_all(rest).await;
            }
            write.write_all(&bytes).await
        };
        if written.await.is_err() {
            // Data that has already arrived is still read.
            return pending().await;
        }
        sleep(pause).await;
    }
    End::Lost
}

/// Ends the session in its manner.
async fn leave(session: &RefCell<Session>, mut write: OwnedWriteHalf, manner: Manner) -> End {
    let say = async |write: &mut OwnedWriteHalf, bytes: Vec<u8>| -> io::Result<()> {
        session.borrow_mut().is_leaving = true;
        write.write_all(&bytes).await
    };
    let said = match manner {
        Manner::Drop => return End::Lost,
        Manner::Vanish => {
            session.borrow_mut().slow_until = Some(Instant::now() + Duration::from_secs(60));
            sleep(Duration::from_secs(6)).await;
            return End::Lost;
        }
        Manner::ClosePacket => say(&mut write, network::masked(network::TEXT, b"close")).await,
        Manner::CloseFrame => say(&mut write, network::masked(network::CLOSE, &1000_u16.to_be_bytes())).await,
        Manner::HalfClose => {
            session.borrow_mut().is_half_closed = true;
            write.shutdown().await
        }
        Manner::Patient | Manner::Slow => Ok(()),
    };
    drop(said);
    // The gateway's answer ends the session, or its silence.
    pending().await
}
