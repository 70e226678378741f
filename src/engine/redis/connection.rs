//! A reconnecting connection to Redis: every call has a deadline, and a broken connection is replaced.

use std::future::pending;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::Arg;
use redis::AsyncConnectionConfig;
use redis::Cmd;
use redis::ErrorKind;
use redis::FromRedisValue;
use redis::ProtocolVersion;
use redis::PushInfo;
use redis::RedisError;
use redis::ServerErrorKind;
use redis::aio::ConnectionLike;
use redis::aio::MultiplexedConnection;
use redis::aio::SendError;
use redis::cluster::ClusterClient;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use sha1::Digest;
use sha1::Sha1;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::sentinel;
use super::sentinel::Sentinels;
use super::url::RedisUrl;
use super::url::Topology;
use crate::protocol::text::hex;

/// Deadline of one call, including the wait for a connection.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// Deadline of one connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Delays between connection attempts.
const BACKOFF: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(500)];

/// Receives push messages of Redis, with their connection number.
pub(super) type OnPush = Arc<dyn Fn(u64, PushInfo) + Send + Sync>;

/// One connection to a server or Cluster. Cheap to clone.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Connects in the background and keeps one connection.
pub(super) struct ReconnectingConnection {
    current: Arc<Current>,
    refusal: Arc<Refusal>,
    is_tls: bool,
    connecting: Mutex<AbortOnDropHandle<()>>,
}

/// The current connection with its number. Waiting calls resume in their order.
#[derive(Default)]
struct Current {
    connection: Mutex<Option<(u64, Connection)>>,
    changed: Notify,
}

impl Current {
    fn get(&self) -> Option<(u64, Connection)> {
        self.connection.lock().clone()
    }

    fn number(&self) -> Option<u64> {
        self.connection.lock().as_ref().map(|(number, _)| *number)
    }

    fn set(&self, connection: Option<(u64, Connection)>) {
        *self.connection.lock() = connection;
        self.changed.notify_waiters();
    }

    /// Waits until `found` returns a value.
    async fn wait_for<T>(&self, found: impl Fn(&Self) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            if let Some(found) = found(self) {
                return found;
            }
            changed.await;
        }
    }
}

/// The error of the last connection attempt.
type Refusal = Mutex<Option<RedisError>>;

impl ReconnectingConnection {
    /// A link to `url`; connects in the background at once.
    pub(super) fn new(url: RedisUrl, on_push: Option<OnPush>) -> Self {
        let current = Arc::new(Current::default());
        let refusal = Arc::new(Refusal::default());
        let is_tls = url.is_tls;
        let connecting = tokio::spawn(connect_for_ever(url, on_push, Arc::clone(&current), Arc::clone(&refusal)));
        Self { current, refusal, is_tls, connecting: Mutex::new(AbortOnDropHandle::new(connecting)) }
    }

    /// Completes if the background task fails, which is a bug.
    pub(super) async fn ended(&self) {
        poll_fn(|cx| Pin::new(&mut *self.connecting.lock()).poll(cx)).await.unwrap_or_else(|error| {
            tracing::error!(%error, "no more connections to Redis are made");
        });
    }

    /// Waits for a connection; returns it with its number.
    pub(super) async fn connection(&self) -> (u64, Connection) {
        self.current.wait_for(Current::get).await
    }

    /// The number of the current connection.
    pub(super) fn number(&self) -> Option<u64> {
        self.current.number()
    }

    /// Waits until connection `number` is no longer current.
    pub(super) async fn replaced(&self, number: u64) {
        self.current.wait_for(|current| (current.number() != Some(number)).then_some(())).await;
    }

    /// Drops connection `number`, so that another one is made.
    pub(super) fn replace(&self, number: u64) {
        let is_present = |(present, _): &mut (u64, Connection)| *present == number;
        if self.current.connection.lock().take_if(is_present).is_some() {
            self.current.changed.notify_waiters();
        }
    }

    /// Sends a command and reads its answer. It must be safe to run twice: after a broken connection it is sent again.
    pub(super) async fn call<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let calls = async {
            match self.call_once(command).await {
                Err(error) if error.is_connection_dropped() || is_of_another(&error) => self.call_once(command).await,
                result => result,
            }
        };
        match timeout(CALL_TIMEOUT, calls).await {
            Ok(result) => result,
            Err(_) => Err(self.refusal().filter(|error| !error.is_timeout()).unwrap_or_else(|| self.silence())),
        }
    }

    /// The last connection error, if any.
    fn refusal(&self) -> Option<RedisError> {
        self.refusal.lock().clone()
    }

    /// The error of a call without an answer. A Redis without TLS waits for more of what it reads as a line.
    fn silence(&self) -> RedisError {
        if self.is_tls && self.number().is_none() {
            let words = "Redis did not answer within a second, and with rediss:// in engine.redis_url it must speak TLS on that port";
            return std::io::Error::new(std::io::ErrorKind::TimedOut, words).into();
        }
        timed_out()
    }

    async fn call_once<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let (number, mut connection) = self.connection().await;
        let unanswered = Unanswered { link: self, number, is_answered: false };
        let result = match by_digest(command) {
            Some(short) => match connection.query(&short).await {
                // A server that has restarted, or a user without the right to it.
                Err(error) if takes_no_digest(&error) => connection.query(command).await,
                result => result,
            },
            None => connection.query(command).await,
        };
        unanswered.judge(&result);
        result
    }
}

/// A call without an answer yet; on drop its connection is replaced, since it may hang.
struct Unanswered<'a> {
    link: &'a ReconnectingConnection,
    number: u64,
    is_answered: bool,
}

impl Unanswered<'_> {
    /// Keeps the connection unless it is broken, its answers are those of other commands, or its server does not accept writes.
    fn judge<T>(mut self, result: &Result<T, RedisError>) {
        self.is_answered = match result {
            Ok(_) => true,
            Err(error) => {
                let is_wrong_server = matches!(
                    error.kind(),
                    ErrorKind::Server(
                        ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::ClusterDown
                    )
                );
                !(is_wrong_server
                    || is_of_another(error)
                    || error.is_io_error()
                    || error.is_connection_dropped()
                    || error.is_unrecoverable_error())
            }
        };
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.link.replace(self.number);
        }
    }
}

impl Connection {
    async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, RedisError> {
        match self {
            Self::One(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }

    /// Subscribes to `channel`.
    pub(super) async fn subscribe(&mut self, channel: &str) -> Result<(), RedisError> {
        let subscribed = async {
            match self {
                Self::One(connection) => connection.subscribe(channel).await,
                Self::Cluster(connection) => connection.ssubscribe(channel).await,
            }
        };
        timeout(CALL_TIMEOUT, subscribed).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Unsubscribes from `channel`.
    pub(super) async fn unsubscribe(&mut self, channel: &str) -> Result<(), RedisError> {
        let unsubscribed = async {
            match self {
                Self::One(connection) => connection.unsubscribe(channel).await,
                Self::Cluster(connection) => connection.sunsubscribe(channel).await,
            }
        };
        timeout(CALL_TIMEOUT, unsubscribed).await.unwrap_or_else(|_| Err(timed_out()))
    }
}

/// The same call of a script with its digest in place of its text; none of another command.
fn by_digest(command: &Cmd) -> Option<Cmd> {
    let mut arguments = command.args_iter().filter_map(|argument| match argument {
        Arg::Simple(bytes) => Some(bytes),
        _ => None,
    });
    if arguments.next()? != b"EVAL" {
        return None;
    }
    let mut short = redis::cmd("EVALSHA");
    short.arg(hex(&Sha1::digest(arguments.next()?)));
    arguments.for_each(|argument| {
        short.arg(argument);
    });
    Some(short)
}

fn takes_no_digest(error: &RedisError) -> bool {
    let kind = error.kind();
    kind == ErrorKind::Server(ServerErrorKind::NoScript) || kind == ErrorKind::Server(ServerErrorKind::NoPerm)
}

/// Whether an answer is that of another command: something on the way has lost one, and every later one is too.
fn is_of_another(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Parse | ErrorKind::UnexpectedReturnType)
}

fn timed_out() -> RedisError {
    let words = "Redis did not answer within a second, the longest round trip with which a node works";
    std::io::Error::new(std::io::ErrorKind::TimedOut, words).into()
}

async fn connect_for_ever(url: RedisUrl, on_push: Option<OnPush>, current: Arc<Current>, refusal: Arc<Refusal>) {
    let mut failures = 0;
    let mut number = 0;
    let mut master = None;
    let sentinels = Sentinels::of(&url);
    loop {
        tokio::select! {
            () = current.wait_for(|current| current.number().is_none().then_some(())) => {}
            () = another_master(sentinels.as_ref(), master.as_deref()) => {
                tracing::warn!(master, "Sentinels name another master: this one is left");
                current.set(None);
            }
        }
        match timeout(CONNECT_TIMEOUT, connect(&url, sentinels.as_ref(), number + 1, on_push.clone())).await {
            Ok(Ok((connection, address))) => {
                *refusal.lock() = None;
                failures = 0;
                number += 1;
                master = address;
                current.set(Some((number, connection)));
                // Limits reconnects of a connection that breaks at once.
                sleep(BACKOFF[0]).await;
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot connect to Redis");
                *refusal.lock() = Some(error);
                sleep(BACKOFF[failures.min(BACKOFF.len() - 1)]).await;
                failures += 1;
            }
            Err(_) => {
                tracing::debug!("cannot connect to Redis in time");
                *refusal.lock() = None;
            }
        }
    }
}

/// Completes when a connected master that Sentinels had named has been replaced by another one.
async fn another_master(sentinels: Option<&Sentinels>, master: Option<&str>) {
    match (sentinels, master) {
        (Some(sentinels), Some(master)) => sentinels.another_master(master).await,
        _ => pending().await,
    }
}

/// A connection, and the address of the server if there is only one.
async fn connect(
    url: &RedisUrl,
    sentinels: Option<&Sentinels>,
    number: u64,
    on_push: Option<OnPush>,
) -> Result<(Connection, Option<String>), RedisError> {
    let sender = on_push.map(|on_push| {
        move |info: PushInfo| {
            on_push(number, info);
            Ok::<(), SendError>(())
        }
    });
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(CALL_TIMEOUT));
    if url.topology == Topology::Cluster {
        let mut builder: ClusterClientBuilder = ClusterClient::builder(url.hosts()?)
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(CALL_TIMEOUT / 2)
            .response_timeout(CALL_TIMEOUT)
            .retries(2)
            .max_retry_wait(100);
        if let Some(sender) = sender {
            builder = builder.push_sender(sender);
        }
        let connection = builder.build()?.get_async_connection().await?;
        return Ok((Connection::Cluster(connection), None));
    }
    if let Some(sender) = sender {
        config = config.set_push_sender(sender);
    }
    if let Some(dial) = &url.dial {
        let (connection, driver) = MultiplexedConnection::new_with_config(&url.login(), dial.dial()?, config).await?;
        tokio::spawn(driver);
        return Ok((Connection::One(connection), None));
    }
    let client = match sentinels {
        Some(sentinels) => sentinels.client().await?,
        None => url.client()?,
    };
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    // Check that the server answers, not only accepts.
    connection.req_packed_command(&redis::cmd("PING")).await?;
    Ok((Connection::One(connection), Some(sentinel::address_of(&client))))
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
