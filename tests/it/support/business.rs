//! A business server: it records and verifies every webhook, and answers by the test's script.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::timeout_at;
use tokio_util::task::AbortOnDropHandle;

use super::Answer;
use super::DEADLINE;
use super::Event;
use super::KEY;
use super::answer::End;
use super::http::header;

/// Actions before the body of a request has been read.
#[derive(Clone, Debug)]
pub(crate) enum Early {
    /// Nothing.
    Wait,
    /// The connection is reset.
    Reset,
    /// It is answered.
    Answer(Answer),
}

type EarlyScript = Box<dyn FnMut(&str) -> Early + Send>;
type Script = Box<dyn FnMut(&Event) -> Answer + Send>;

/// A business server with its script; it ends when dropped.
pub(crate) struct BusinessServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortOnDropHandle<()>,
}

struct Shared {
    keys: Vec<String>,
    state: Mutex<State>,
    arrived: Notify,
}

struct State {
    events: Vec<Event>,
    in_flight: HashSet<String>,
    script: Script,
    early: EarlyScript,
    violations: Vec<String>,
}

impl BusinessServer {
    /// One that accepts everything.
    pub(crate) async fn new() -> Self {
        Self::at("127.0.0.1:0", &[KEY]).await
    }

    /// One at this address that knows these keys.
    pub(crate) async fn at(address: &str, keys: &[&str]) -> Self {
        let listener = TcpListener::bind(address).await.expect("binds");
        let address = listener.local_addr().expect("has an address");
        let shared = Arc::new(Shared {
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            state: Mutex::new(State {
                events: vec![],
                in_flight: HashSet::new(),
                script: Box::new(|_| Answer::Accept),
                early: Box::new(|_| Early::Wait),
                violations: vec![],
            }),
            arrived: Notify::new(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A receive URL of it.
    pub(crate) fn url(&self) -> String {
        self.url_of("/weapp/tunnel")
    }

    /// A receive URL of it with this path.
    pub(crate) fn url_of(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Goes down like a killed process: the listener and all connections are gone.
    pub(crate) async fn go_down(&mut self) {
        self.accepting.abort();
        // It ends by being aborted.
        let _ = (&mut self.accepting).await;
    }

    /// Answers by `script` from now on.
    pub(crate) fn script(&self, script: impl FnMut(&Event) -> Answer + Send + 'static) {
        self.shared.state.lock().script = Box::new(script);
    }

    /// From now on, runs `script` on the head of a request before its body is read.
    pub(crate) fn script_early(&self, script: impl FnMut(&str) -> Early + Send + 'static) {
        self.shared.state.lock().early = Box::new(script);
    }

    /// Faults found in requests so far.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.shared.state.lock().violations.clone()
    }

    /// Every attempt so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.shared.state.lock().events.clone()
    }

    /// The attempts of one tunnel so far.
    pub(crate) fn events_of(&self, tunnel: &str) -> Vec<Event> {
        let events = self.events();
        events.into_iter().filter(|event| event.tunnel == tunnel).collect()
    }

    /// Waits until the attempts so far are as `enough` wants them, and returns them.
    pub(crate) async fn until(&self, enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        match self.until_at(Instant::now() + DEADLINE, enough).await {
            Some(events) => events,
            None => panic!("not within {DEADLINE:?}: {:?}", shown(&self.events())),
        }
    }

    /// The same, until `deadline`; `None` if it was not so by then.
    pub(crate) async fn until_at(&self, deadline: Instant, enough: impl Fn(&[Event]) -> bool) -> Option<Vec<Event>> {
        loop {
            let mut arrived = pin!(self.shared.arrived.notified());
            arrived.as_mut().enable();
            {
                let state = self.shared.state.lock();
                if enough(&state.events) {
                    return Some(state.events.clone());
                }
            }
            timeout_at(deadline, arrived).await.ok()?;
        }
    }

    /// Waits until one tunnel has had as many events as `words`, repetitions left out, and compares them.
    pub(crate) async fn story(&self, tunnel: &str, words: &[&str]) {
        let events = self.until(|events| distinct(events, tunnel).len() >= words.len()).await;
        let events = distinct(&events, tunnel);
        if events.len() != words.len() || events.iter().zip(words).any(|(event, word)| event.word() != *word) {
            panic!("{:?}", shown(events));
        }
    }

    /// Fails if any request was wrong, or any tunnel's events were not connect, messages, close: one at a time, in order, once.
    pub(crate) fn assert_sound(&self) {
        let state = self.shared.state.lock();
        assert_eq!(state.violations, Vec::<String>::new());
        let tunnels: HashSet<_> = state.events.iter().map(|event| &event.tunnel).collect();
        for tunnel in tunnels {
            let distinct = distinct(&state.events, tunnel);
            let kinds: Vec<_> = distinct.iter().map(|event| event.kind.as_str()).collect();
            let is_sound = matches!(&kinds[..], ["connect", messages @ .., "close"] if messages.iter().all(|kind| *kind == "message"));
            assert!(is_sound, "{tunnel}: {kinds:?}");
            let ids: HashSet<_> = distinct.iter().map(|event| &event.id).collect();
            assert_eq!(ids.len(), distinct.len(), "{tunnel}: an event came back behind later ones");
        }
    }
}

/// The events of one tunnel, without attempts that directly repeat one.
fn distinct<'a>(events: &'a [Event], tunnel: &str) -> Vec<&'a Event> {
    let mut distinct: Vec<_> = events.iter().filter(|event| event.tunnel == tunnel).collect();
    distinct.dedup_by_key(|event| &event.id);
    distinct
}

/// Events in words that are short enough to be read.
fn shown<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<String> {
    let words = events.into_iter().map(|event| event.word());
    words.map(|word| word.chars().take(60).collect()).collect()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // The gateway may hang up whenever it likes.
            let _ = shared.serve(stream).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Shared {
    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(head) = read_head(&mut stream, &mut buffer).await? {
            let early = (self.state.lock().early)(&head);
            match &early {
                Early::Wait => {}
                Early::Reset => return reset(&stream),
                Early::Answer(answer) => drop(answer.play(&mut stream).await?),
            }
            let body = read_body(&mut stream, &mut buffer, &head).await?;
            let Some(arrival) = self.receive(&head, &body, &early) else {
                return Ok(());
            };
            let Arrival { number, tunnel, answer } = arrival;
            answer.ready().await;
            self.settle(number, &tunnel);
            let end = match early {
                Early::Answer(_) => End::KeepAlive,
                _ => answer.play(&mut stream).await?,
            };
            match end {
                End::KeepAlive => {}
                End::Close => return Ok(()),
                End::Reset => return reset(&stream),
                End::ResetAtNext => {
                    stream.readable().await?;
                    return reset(&stream);
                }
            }
        }
        Ok(())
    }

    /// Notes that an event is about to be answered: from now on the tunnel's next one may come.
    fn settle(&self, number: usize, tunnel: &str) {
        let mut state = self.state.lock();
        state.in_flight.remove(tunnel);
        state.events[number].settled = Some(Instant::now());
    }

    /// Records a request, and says for which tunnel it is and how to answer it.
    fn receive(&self, head: &str, body: &str, early: &Early) -> Option<Arrival> {
        let mut state = self.state.lock();
        let arrival = match Event::parse(head, body, &self.keys) {
            Ok(mut event) => {
                if !state.in_flight.insert(event.tunnel.clone()) {
                    let violation = format!("{} while another event is in flight: {}", event.word(), event.tunnel);
                    state.violations.push(violation);
                }
                let answer = match early {
                    Early::Answer(answer) => answer.clone(),
                    _ => (state.script)(&event),
                };
                event.outcome = answer.outcome();
                let tunnel = event.tunnel.clone();
                state.events.push(event);
                Some(Arrival { number: state.events.len() - 1, tunnel, answer })
            }
            Err(violation) => {
                state.violations.push(violation);
                None
            }
        };
        drop(state);
        self.arrived.notify_waiters();
        arrival
    }
}

/// A request that has been recorded.
struct Arrival {
    number: usize,
    tunnel: String,
    answer: Answer,
}

fn reset(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// Reads one request, head and body; none at the end of the connection.
pub(crate) async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<(String, String)>> {
    let Some(head) = read_head(stream, buffer).await? else { return Ok(None) };
    let body = read_body(stream, buffer, &head).await?;
    Ok(Some((head, body)))
}

async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end + 4);
            return Ok(Some(head));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

async fn read_body(stream: &mut TcpStream, buffer: &mut Vec<u8>, head: &str) -> io::Result<String> {
    let length = header(head, "content-length").and_then(|length| length.parse::<usize>().ok());
    let length = length.expect("every webhook has a Content-Length");
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(String::from_utf8_lossy(&buffer.drain(..length).collect::<Vec<_>>()).into_owned())
}
