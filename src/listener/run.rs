//! The loop of `listen`: it does what the rules in [`crate::listen`] say, with sockets, clocks and tasks.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::sleep_until;

use super::forward::Forwarded;
use super::forward::Forwarder;
use super::judged::verdict;
use super::socket::MAX_WAITING;
use super::socket::Seen;
use super::socket::ToSend;
use super::socket::drive;
use super::upgrade::Gateway;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::clock::millis;
use crate::listen::Action;
use crate::listen::Attempt;
use crate::listen::Body;
use crate::listen::Ended;
use crate::listen::History;
use crate::listen::Link;
use crate::listen::Links;
use crate::listen::Report;
use crate::listen::Settings;
use crate::protocol::connector::Event;
use crate::protocol::connector::with_body;
use crate::shutdown::Shutdown;

/// How long the last messages may take to leave.
const FLUSH: Duration = Duration::from_secs(2);

/// What a listener is made of.
pub struct Parts {
    /// The gateway.
    pub gateway: Gateway,
    /// The servers on this machine.
    pub forwarder: Arc<Forwarder>,
    /// Name and wishes.
    pub settings: Settings,
    /// The last events.
    pub history: Arc<Mutex<History>>,
    /// Changes whenever the history does.
    pub changed: watch::Sender<u64>,
    /// Where each attempt is written, one JSON document a line.
    pub record: Option<Box<dyn Write + Send>>,
    /// Ends when so many events are over.
    pub exit_after: Option<u64>,
}

/// Something to show.
pub enum Output<'a> {
    /// About the connection.
    Report(Report),
    /// An event came.
    Event(&'a Event, &'a Body),
    /// An attempt is over, with the words for people.
    Attempt(&'a Event, &'a Body, &'a Attempt, &'a str),
    /// The file of `--record` cannot be written any more.
    RecordFailed(std::io::Error),
}

/// An attempt that is over.
struct Over {
    event: Event,
    body: Body,
    began_ms: u64,
    forwarded: Forwarded,
}

struct Running {
    links: Links,
    parts: Parts,
    sockets: HashMap<Link, (mpsc::Sender<ToSend>, AbortHandle)>,
    tasks: JoinSet<()>,
    seen: mpsc::Sender<(Link, Seen)>,
    /// The attempts that run, by id of the event: the number, and the way to end it early, with the reason.
    attempts: HashMap<String, (u32, oneshot::Sender<String>)>,
    forwards: JoinSet<Over>,
    over: u64,
}

/// Listens until it ends, as `shutdown` demands or by itself; `show` gets what there is to see.
pub async fn run(parts: Parts, shutdown: Shutdown, mut show: impl FnMut(Output<'_>)) -> Ended {
    let (seen, mut events) = mpsc::channel(MAX_WAITING);
    let links = Links::new(parts.settings.clone(), Instant::now().into_std(), SystemClock.unix_time());
    let mut running = Running {
        links,
        parts,
        sockets: HashMap::new(),
        tasks: JoinSet::new(),
        seen,
        attempts: HashMap::new(),
        forwards: JoinSet::new(),
        over: 0,
    };
    let mut is_draining = false;
    loop {
        running.links.tick(now(), SystemClock.unix_time(), rand::random());
        while let Some(action) = running.links.poll() {
            if let Some(ended) = running.act(action, &mut show) {
                running.flush().await;
                return ended;
            }
        }
        let deadline = Instant::from_std(running.links.deadline());
        tokio::select! {
            Some((link, seen)) = events.recv() => running.handle(link, seen),
            Some(over) = running.forwards.join_next(), if !running.forwards.is_empty() => {
                // One that has panicked has said so.
                if let Ok(over) = over {
                    running.attempted(over, &mut show);
                }
            }
            () = shutdown.soft.cancelled(), if !is_draining => {
                is_draining = true;
                running.links.interrupt(now());
            }
            () = shutdown.hard.cancelled() => running.links.interrupt(now()),
            () = sleep_until(deadline) => {}
        }
        while running.tasks.try_join_next().is_some() {}
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

impl Running {
    fn handle(&mut self, link: Link, seen: Seen) {
        let jitter = rand::random();
        match seen {
            Seen::Connected => self.links.connected(link, now()),
            Seen::Failed(trouble) => {
                self.sockets.remove(&link);
                self.links.failed(link, trouble, now(), jitter);
            }
            Seen::Message(message, body) => self.links.message(link, message, body, now(), jitter),
            Seen::Heard(pong) => self.links.heard(link, pong, now(), jitter),
            Seen::Lost(code, words) => {
                self.sockets.remove(&link);
                self.links.lost(link, code, &words, now(), jitter);
            }
        }
    }

    /// Does something. Returns the end, if it is that.
    fn act(&mut self, action: Action, show: &mut impl FnMut(Output<'_>)) -> Option<Ended> {
        match action {
            Action::Dial(link) => {
                let (sender, to_send) = mpsc::channel(MAX_WAITING);
                let task = self.tasks.spawn(drive(link, self.parts.gateway.clone(), self.seen.clone(), to_send));
                self.sockets.insert(link, (sender, task));
            }
            Action::Drop(link) => {
                if let Some((_, task)) = self.sockets.remove(&link) {
                    task.abort();
                }
            }
            Action::Send(link, head, body) => self.send(link, ToSend::Message(with_body(head, &body))),
            Action::Ping(link, number) => self.send(link, ToSend::Ping(number)),
            Action::Close(link, code) => {
                self.send(link, ToSend::Close(code));
                // Its task ends by itself.
                self.sockets.remove(&link);
            }
            Action::Forward(event, body) => self.forward(*event, Body(body), show),
            Action::Abandon(id, attempt, reason) => {
                if self.attempts.get(&id).is_some_and(|(own, _)| *own == attempt)
                    && let Some((_, abandon)) = self.attempts.remove(&id)
                {
                    // It may be over already, and waits to be seen.
                    let _ = abandon.send(reason);
                }
            }
            Action::Report(report) => show(Output::Report(report)),
            Action::End(ended) => return Some(ended),
        }
        None
    }

    fn send(&self, link: Link, message: ToSend) {
        if let Some((sender, _)) = self.sockets.get(&link) {
            // A socket that takes nothing for so long is silent too, and is replaced.
            let _ = sender.try_send(message);
        }
    }

    fn forward(&mut self, event: Event, body: Body, show: &mut impl FnMut(Output<'_>)) {
        let began_ms = millis(SystemClock.unix_time());
        self.parts.history.lock().received(&event, &body, began_ms);
        self.changed();
        show(Output::Event(&event, &body));
        let (id, attempt) = (event.id.clone(), event.attempt);
        let forwarder = Arc::clone(&self.parts.forwarder);
        let (abandon, abandoned) = oneshot::channel();
        self.forwards.spawn(async move {
            let began = Instant::now();
            let forwarded = tokio::select! {
                forwarded = forwarder.forward(&event, &event.headers, body.0.clone()) => forwarded,
                Ok(reason) = abandoned => forwarder.abandoned(&event, began.elapsed(), reason),
            };
            Over { event, body, began_ms, forwarded }
        });
        self.attempts.insert(id, (attempt, abandon));
    }

    fn attempted(&mut self, over: Over, show: &mut impl FnMut(Output<'_>)) {
        let Over { event, body, began_ms, forwarded: Forwarded { target, took, done } } = over;
        if self.attempts.get(&event.id).is_some_and(|(attempt, _)| *attempt == event.attempt) {
            self.attempts.remove(&event.id);
        }
        let (mut attempt, mut words) = verdict(&event, &target, began_ms, took, &done);
        if !self.links.done(done, now()) && attempt.status.is_some() {
            words = "answered too late: the gateway does not wait for it any more".to_owned();
            (attempt.is_over, attempt.reason) = (false, words.clone());
        }
        show(Output::Attempt(&event, &body, &attempt, &words));
        self.over += u64::from(attempt.is_over);
        let entry = self.parts.history.lock().attempted(&event, &body, attempt).clone();
        if let Some(file) = &mut self.parts.record {
            let line = serde_json::to_string(&entry).expect("strings and numbers always serialise");
            if let Err(error) = writeln!(file, "{line}").and_then(|()| file.flush()) {
                self.parts.record = None;
                show(Output::RecordFailed(error));
            }
        }
        self.changed();
        if self.parts.exit_after == Some(self.over) {
            self.links.finish(now());
        }
    }

    fn changed(&self) {
        self.parts.changed.send_modify(|changes| *changes += 1);
    }

    /// Lets the last messages leave, where a connection was closed. What was not closed is not waited for.
    async fn flush(mut self) {
        self.sockets.drain().for_each(|(_, (_, task))| task.abort());
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // What has not left by then is lost, and the gateway repeats its events.
        let _ = tokio::time::timeout(FLUSH, all).await;
    }
}
