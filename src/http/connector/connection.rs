//! One connection of a connector, from its `hello` to its end.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadHalf;
use tokio::io::WriteHalf;
use tokio::time::Instant;
use tokio::time::timeout;

use super::calls::Calls;
use super::dialled::Dialled;
use super::hello::Greeting;
use super::hello::greet;
use super::input::Incoming;
use super::input::Input;
use super::input::InputEnd;
use super::output::Output;
use super::output::close;
use crate::clock::millis;
use crate::connector::Arriving;
use crate::connector::Joined;
use crate::connector::Link;
use crate::connector::Outbox;
use crate::connector::Refused;
use crate::delivery::Session;
use crate::delivery::Take;
use crate::gateway::Gateway;
use crate::gateway::Listed;
use crate::protocol::connector::FromConnector;
use crate::protocol::connector::HEARTBEAT;
use crate::protocol::connector::HELLO_WITHIN;
use crate::protocol::connector::Hello;
use crate::protocol::connector::Ttl;
use crate::protocol::connector::VERSION;
use crate::protocol::connector::Welcome;
use crate::protocol::connector::Window;
use crate::protocol::connector::close_code;
use crate::protocol::connector::max_message_bytes;
use crate::protocol::text::printable;
use crate::reason::Kind;
use crate::reason::Reason;
use crate::timeline::Record;

/// How long the last messages and the close frame of the other end may take.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Longest text of a connector in the log, in bytes.
const MAX_SHOWN_BYTES: usize = 100;

/// Longest list of claims in the log, in bytes.
const MAX_CLAIMS_BYTES: usize = 1024;

/// Why a connection ends.
enum End {
    /// The socket has failed, or nothing was heard or could be written for too long.
    Lost(&'static str),
    /// The other end closes it with this code.
    Goodbye(u16),
    /// This end closes it.
    Refused(Refused),
    /// This end has closed it: the reason was logged, or is that of all connections.
    Closed,
}

/// Serves a connection until its end.
pub(super) async fn serve<S>(dialled: Dialled, arriving: Arriving, stream: S, answer: Bytes, early: Bytes)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    let max_message_bytes = max_message_bytes(dialled.gateway.connectors.settings.max_message_bytes);
    let input = Input::new(reader, early.into(), max_message_bytes);
    let mut output = Output::new(writer);
    if output.write(&answer).await.is_ok() {
        Connection { dialled, input, output }.serve(arriving).await;
    }
}

/// A connector that has joined, and is listed for the other nodes until it has left.
struct Present {
    joined: Joined,
    _listed: Listed,
}

struct Connection<S> {
    dialled: Dialled,
    input: Input<ReadHalf<S>>,
    output: Output<WriteHalf<S>>,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection<S> {
    async fn serve(mut self, arriving: Arriving) {
        let greeting = match timeout(HELLO_WITHIN, self.hello()).await {
            Ok(Ok(hello)) => {
                let agent = printable(&hello.agent, MAX_SHOWN_BYTES).into_owned();
                greet(&self.dialled, *hello).map(|greeting| (greeting, agent)).map_err(End::Refused)
            }
            Ok(Err(end)) => Err(end),
            Err(_) => Err(End::Refused(refused(
                close_code::REFUSED,
                "no hello came within 5 s: it must be the first message",
            ))),
        };
        match greeting {
            Ok((Greeting { accepted: (link, outbox), terms, name }, agent)) => {
                let Dialled { gateway, caller, .. } = &self.dialled;
                let (window, session) = (terms.window, link.session);
                let welcome = |alike| welcome(gateway, window, session, alike);
                let mut listed = match gateway.list_connector(&link).await {
                    Ok(listed) => listed,
                    Err(refused) => return self.refuse(refused).await,
                };
                match gateway.connectors.join(arriving, &caller.tenant, link, terms, welcome) {
                    Ok(joined) => {
                        listed.has_joined();
                        self.log_joined(&joined.link, name.as_str(), &agent);
                        self.work(Present { joined, _listed: listed }, outbox, name.as_str()).await;
                    }
                    Err(many) => self.refuse(refused(close_code::REFUSED, many.to_string())).await,
                }
            }
            Err(End::Refused(refused)) => self.refuse(refused).await,
            Err(End::Goodbye(code)) => self.refuse(Refused { code, reason: Cow::Borrowed("") }).await,
            Err(End::Lost(_) | End::Closed) => {}
        }
    }

    /// The first message.
    async fn hello(&mut self) -> Result<Box<Hello>, End> {
        loop {
            match self.input.next().await.map_err(end)? {
                Incoming::Message(message) => {
                    return match FromConnector::decode(message) {
                        Ok((FromConnector::Hello(hello), _)) => Ok(hello),
                        Ok(_) => Err(End::Refused(refused(close_code::REFUSED, "the first message must be a hello"))),
                        Err(malformed) => Err(End::Refused(refused(close_code::MALFORMED, malformed.to_string()))),
                    };
                }
                Incoming::Ping(pong) => {
                    self.output.write(&pong).await.map_err(|_| End::Lost("it could not be written to"))?;
                }
            }
        }
    }

    /// Refuses a connection that has not joined.
    async fn refuse(&mut self, Refused { code, reason }: Refused) {
        let Dialled { gateway, caller, client, .. } = &self.dialled;
        gateway.metrics.refused("connector");
        tracing::info!(
            tenant.id = %caller.tenant.id,
            client = %client.address,
            code,
            reason = %printable(&reason, 400),
            "connector refused",
        );
        if self.output.write(&close(code, &reason)).await.is_ok() {
            part(&mut self.input, &mut self.output).await;
        }
    }

    async fn work(mut self, present: Present, mut outbox: Outbox, name: &str) {
        let started = Instant::now();
        let Self { dialled, input, output } = &mut self;
        let (gateway, link) = (&dialled.gateway, Arc::clone(&present.joined.link));
        // A key may have been withdrawn, or a drain announced, between the handshake and the `join`.
        if let Some(Refused { code, reason }) = gateway.review_connector(&link) {
            link.close(code, reason);
        } else if gateway.connect_urls.is_draining() {
            link.close(close_code::LEAVING, "this node leaves: connect again, to another one");
        }
        let end = {
            let mut writing = Box::pin(output.run(gateway, &link, &mut outbox));
            let mut end = tokio::select! {
                end = read(dialled, input, &link) => end,
                () = &mut writing => End::Lost("it could not be written to"),
                () = link.until_shut() => End::Closed,
            };
            match &mut end {
                End::Goodbye(code) => link.close(*code, ""),
                End::Refused(Refused { code, reason }) => link.close(*code, std::mem::take(reason)),
                End::Closed | End::Lost(_) => {}
            }
            // Now, so that during its last words other connectors get the events, also those that are queued for this one.
            drop(present);
            if !matches!(end, End::Lost(_)) {
                // At the deadline the rest is dropped.
                let _ = timeout(LAST_WORDS, writing).await;
            }
            end
        };
        log_left(dialled, &link, name, &end, started.elapsed());
        part(input, output).await;
    }

    fn log_joined(&self, link: &Link, name: &str, agent: &str) {
        let claims = match &link.take {
            Take::Named(_) => None,
            Take::Urls(claims) => {
                Some(claims.iter().map(|claim| claim.origin.clone() + &claim.path).collect::<Vec<_>>())
            }
        };
        let claims = claims.map(|claims| printable(&claims.join(" "), MAX_CLAIMS_BYTES).into_owned());
        record(&self.dialled, name, Reason::ConnectorJoined, claims.as_deref().unwrap_or("events of its name"));
        tracing::info!(
            tenant.id = %link.tenant,
            client = %self.dialled.client.address,
            connector = name,
            purpose = ?link.purpose(),
            claims,
            agent,
            "connector connected",
        );
    }
}

/// Handles messages until the end.
async fn read<R: AsyncRead + Unpin>(dialled: &Dialled, input: &mut Input<R>, link: &Arc<Link>) -> End {
    let connectors = &dialled.gateway.connectors;
    let calls = Calls::new(dialled);
    loop {
        let message = match input.next().await {
            Ok(Incoming::Message(message)) => message,
            Ok(Incoming::Ping(pong)) => {
                link.send_frame(pong);
                continue;
            }
            Err(ended) => return end(ended),
        };
        match FromConnector::decode(message) {
            Ok((FromConnector::Answer(answer), body)) => connectors.answered(link, answer, body),
            Ok((FromConnector::Failure(failure), _)) => connectors.failed(link, failure),
            Ok((FromConnector::Drain(_), _)) => {
                tracing::debug!(tenant.id = %link.tenant, "connector drains");
                connectors.drain(link);
            }
            Ok((FromConnector::Call(call), body)) => {
                calls.begin(link, call, body).await;
                input.was_not_read();
            }
            Ok((FromConnector::Hello(_), _)) => {
                return End::Refused(refused(close_code::MALFORMED, "hello came twice: dial again instead"));
            }
            Ok((FromConnector::Unknown, _)) => {
                tracing::debug!(tenant.id = %link.tenant, "message of an unknown type from a connector ignored");
            }
            Err(malformed) => return End::Refused(refused(close_code::MALFORMED, malformed.to_string())),
        }
    }
}

/// What a connector gets that has joined; so many take the same events.
fn welcome(gateway: &Gateway, window: Window, session: Session, alike: usize) -> Vec<u8> {
    let ttl = gateway.connectors.settings.ttl;
    let welcome = Welcome {
        v: VERSION,
        session: format!("{:032x}", session.0),
        node: gateway.tunnels.node().to_owned(),
        nodes: gateway.shared_limits.nodes(),
        connectors: u32::try_from(alike).unwrap_or(u32::MAX),
        window,
        heartbeat_ms: millis(HEARTBEAT),
        now: millis(gateway.clock.unix_time()),
        waiting: None,
        lost: None,
        ttl: Some(Ttl { message_ms: millis(ttl.message), close_ms: millis(ttl.close) }),
    };
    welcome.head()
}

/// Ends a connection whose close frame is written, and waits a little for the other end.
async fn part<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(input: &mut Input<R>, output: &mut Output<W>) {
    let ends = async {
        output.shutdown().await;
        input.drain().await;
    };
    // At the deadline the socket is dropped.
    let _ = timeout(LAST_WORDS, ends).await;
}

fn end(ended: InputEnd) -> End {
    match ended {
        InputEnd::Gone => End::Lost("its connection ended without a goodbye"),
        InputEnd::Silent => End::Lost("nothing was heard of it for 45 s"),
        InputEnd::Goodbye(goodbye) => End::Goodbye(goodbye.code().unwrap_or(1000)),
        InputEnd::Fault(fault) => {
            End::Refused(refused(fault.reason().code().unwrap_or(close_code::MALFORMED), fault.text()))
        }
    }
}

fn log_left(dialled: &Dialled, link: &Link, name: &str, end: &End, after: Duration) {
    let reason = match end {
        End::Lost(reason) => Cow::Borrowed(*reason),
        End::Goodbye(code) => format!("it says goodbye with the code {code}").into(),
        End::Refused(Refused { code, reason }) => format!("closed with the code {code}: {reason}").into(),
        End::Closed => Cow::Borrowed("closed by the gateway"),
    };
    let reason = printable(&reason, 400);
    record(dialled, name, Reason::ConnectorLeft, &reason);
    tracing::info!(
        tenant.id = %link.tenant,
        client = %dialled.client.address,
        connector = name,
        reason = %reason,
        connected_secs = after.as_secs(),
        "connector disconnected",
    );
}

/// Records what became of a connector in the timeline of its tenant.
fn record(dialled: &Dialled, name: &str, reason: Reason, detail: &str) {
    let (gateway, tenant) = (&dialled.gateway, &dialled.caller.tenant);
    let timeline = &gateway.timeline;
    let record = Record::new(Kind::Connector, reason, gateway.clock.unix_time());
    let record =
        record.of_tenant(gateway.tenant_number(tenant)).with_words(timeline.word(&format!("{name}: {detail}")));
    timeline.record(name.parse().map_or(record, |name| record.by_connector(timeline.connector(&name))));
}

fn refused(code: u16, reason: impl Into<Cow<'static, str>>) -> Refused {
    Refused { code, reason: reason.into() }
}
