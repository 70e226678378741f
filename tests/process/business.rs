//! A business server on a thread: it keeps the events and answers, or does not.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use super::gateway::SOON;

const ACCEPTED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"code\":0}";
const ACCEPTED_AND_CLOSED: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n{\"code\":0}";

pub(crate) struct Business {
    /// Host and port.
    pub(crate) authority: String,
    refuses: Arc<AtomicBool>,
    says: Arc<Mutex<Option<String>>>,
    holds: Arc<(Mutex<bool>, Condvar)>,
    events: Receiver<serde_json::Value>,
}

impl Business {
    /// Accepts every event, or answers none.
    pub(crate) fn start(answers: bool) -> Self {
        Self::answering(answers.then_some(ACCEPTED))
    }

    /// Accepts every event, and closes the connection each time.
    pub(crate) fn closing() -> Self {
        Self::answering(Some(ACCEPTED_AND_CLOSED))
    }

    fn answering(answer: Option<&'static [u8]>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let authority = listener.local_addr().expect("bound").to_string();
        let (sender, events) = mpsc::channel();
        let refuses = Arc::new(AtomicBool::new(false));
        let is_refusing = Arc::clone(&refuses);
        let says: Arc<Mutex<Option<String>>> = Arc::default();
        let said = Arc::clone(&says);
        let holds: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let is_holding = Arc::clone(&holds);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (sender, refuses, says) = (sender.clone(), Arc::clone(&is_refusing), Arc::clone(&said));
                let holds = Arc::clone(&is_holding);
                thread::spawn(move || serve(stream, &sender, answer, &refuses, &says, &holds));
            }
        });
        Self { authority, refuses, says, holds, events }
    }

    /// Accepts every event, but responds only on request.
    pub(crate) fn holding() -> Self {
        let held = Self::start(true);
        *held.holds.0.lock().expect("no panic") = true;
        held
    }

    /// Responds to the waiting events.
    pub(crate) fn release(&self) {
        *self.holds.0.lock().expect("no panic") = false;
        self.holds.1.notify_all();
    }

    /// Answers 500 to every event from now on, and forgets it, or no longer.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Release);
    }

    /// Answers every event with this body from now on.
    pub(crate) fn say(&self, body: &str) {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        *self.says.lock().expect("no panic") = Some(answer);
    }

    /// All events that have come, as their tunnels, types and contents, once none has come for `quiet`.
    pub(crate) fn all(&self, quiet: Duration) -> Vec<(String, String, Option<String>)> {
        let events = std::iter::from_fn(|| self.events.recv_timeout(quiet).ok());
        let text = |event: &serde_json::Value, key: &str| event[key].as_str().map(str::to_owned);
        let told = |event: serde_json::Value| {
            (text(&event, "tunnelId").expect("text"), text(&event, "type").expect("text"), text(&event, "content"))
        };
        events.map(told).collect()
    }

    /// The next event's tunnel and type, if one comes in time.
    pub(crate) fn story(&self, patience: Duration) -> Option<(String, String)> {
        let event = self.events.recv_timeout(patience).ok()?;
        let text = |key: &str| event[key].as_str().expect("text").to_owned();
        Some((text("tunnelId"), text("type")))
    }

    /// The next event as it came.
    pub(crate) fn next(&self) -> serde_json::Value {
        self.events.recv_timeout(SOON).expect("an event")
    }

    /// The events received since the last call.
    pub(crate) fn rest(&self) -> Vec<serde_json::Value> {
        self.events.try_iter().collect()
    }

    /// The next event: its type, and its content if it has one.
    pub(crate) fn event(&self) -> (String, Option<String>) {
        let event = self.next();
        let text = |key: &str| event[key].as_str().map(str::to_owned);
        (text("type").expect("a type"), text("content"))
    }
}

fn serve(
    stream: TcpStream,
    sender: &Sender<serde_json::Value>,
    answer: Option<&[u8]>,
    refuses: &AtomicBool,
    says: &Mutex<Option<String>>,
    holds: &(Mutex<bool>, Condvar),
) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body: serde_json::Value = serde_json::from_slice(&body).ok()?;
        if refuses.load(Ordering::Acquire) {
            writer.write_all(b"HTTP/1.1 500 Not now\r\nContent-Length: 0\r\n\r\n").ok()?;
            continue;
        }
        // The event of a Wafer tunnel is in an envelope.
        let event = body["data"].as_str().and_then(|data| serde_json::from_str(data).ok()).unwrap_or(body);
        sender.send(event).ok()?;
        drop(holds.1.wait_while(holds.0.lock().ok()?, |holds| *holds).ok()?);
        if let Some(said) = &*says.lock().ok()? {
            writer.write_all(said.as_bytes()).ok()?;
        } else if let Some(answer) = answer {
            writer.write_all(answer).ok()?;
        }
        if answer == Some(ACCEPTED_AND_CLOSED) {
            return None;
        }
    }
}
