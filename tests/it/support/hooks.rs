//! A native business server's webhook: it verifies each request by Standard Webhooks, and answers by the test's script.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio::time::timeout_at;
use tokio_util::task::AbortOnDropHandle;

use super::DEADLINE;
use super::answer::reply;
use super::business::read_request;
use super::http::header;
use super::native::key_bytes;
use super::sign::standard_signature_of;

/// One request to the webhook, verified.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) id: String,
    /// The events in it: one, or a batch.
    pub(crate) events: Vec<Value>,
}

/// Status and body of an answer.
pub(crate) type HookAnswer = (u16, String);

type Script = Box<dyn FnMut(&Hook) -> HookAnswer + Send>;

/// A webhook with its script; it ends when dropped.
pub(crate) struct Hooks {
    address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

struct Shared {
    key: String,
    state: Mutex<State>,
    arrived: Notify,
}

struct State {
    hooks: Vec<Hook>,
    script: Script,
    violations: Vec<String>,
}

impl Hooks {
    /// One that answers 204, and knows `key`.
    pub(crate) async fn new(key: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("has an address");
        let state = State { hooks: vec![], script: Box::new(|_| (204, String::new())), violations: vec![] };
        let shared = Arc::new(Shared { key: key.to_owned(), state: Mutex::new(state), arrived: Notify::new() });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// Answers by `script` from now on.
    pub(crate) fn script(&self, script: impl FnMut(&Hook) -> HookAnswer + Send + 'static) {
        self.shared.state.lock().script = Box::new(script);
    }

    /// Every request so far.
    pub(crate) fn hooks(&self) -> Vec<Hook> {
        self.shared.state.lock().hooks.clone()
    }

    /// Waits until there were so many events of this tunnel, and returns them.
    pub(crate) async fn events(&self, tunnel: &str, count: usize) -> Vec<Value> {
        self.events_within(DEADLINE, tunnel, count).await
    }

    /// The same, where it takes longer.
    pub(crate) async fn events_within(&self, patience: Duration, tunnel: &str, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + patience;
        loop {
            let mut arrived = pin!(self.shared.arrived.notified());
            arrived.as_mut().enable();
            let events: Vec<Value> = self.hooks().into_iter().flat_map(|hook| hook.events).collect();
            let events: Vec<Value> = events.into_iter().filter(|event| event["subject"] == tunnel).collect();
            assert_eq!(self.shared.state.lock().violations, Vec::<String>::new());
            if events.len() >= count {
                return events;
            }
            if timeout_at(deadline, arrived).await.is_err() {
                panic!("not {count} events within {patience:?}: {events:#?}");
            }
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // How a connection ends is the gateway's business.
            let _ = shared.serve(stream).await;
        });
    }
}

impl Shared {
    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut buffer = Vec::new();
        while let Some((head, body)) = read_request(&mut stream, &mut buffer).await? {
            let (status, body) = match self.verify(&head, &body) {
                Ok(hook) => {
                    let mut state = self.state.lock();
                    let answer = (state.script)(&hook);
                    state.hooks.push(hook);
                    answer
                }
                Err(violation) => {
                    self.state.lock().violations.push(violation);
                    (400, String::new())
                }
            };
            self.arrived.notify_waiters();
            stream.write_all(reply(status, "", &body).as_bytes()).await?;
        }
        Ok(())
    }

    fn verify(&self, head: &str, body: &str) -> Result<Hook, String> {
        let wanted = |name| header(head, name).ok_or_else(|| format!("no {name}: {head}"));
        let (id, timestamp) = (wanted("webhook-id")?, wanted("webhook-timestamp")?);
        let signature = standard_signature_of(&key_bytes(&self.key), id, timestamp, body);
        if !wanted("webhook-signature")?.split(' ').any(|given| given == signature) {
            return Err(format!("the signature is wrong: {head}"));
        }
        let json: Value = serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))?;
        let events = match (wanted("content-type")?, json) {
            ("application/cloudevents+json", event @ Value::Object(_)) => vec![event],
            ("application/cloudevents-batch+json", Value::Array(events)) => events,
            (other, json) => return Err(format!("{other}: {json}")),
        };
        Ok(Hook { head: head.to_owned(), body: body.to_owned(), id: id.to_owned(), events })
    }
}
