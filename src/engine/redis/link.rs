//! A connection to Redis that comes back by itself: every call has a deadline, and a broken connection is replaced.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
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
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::sentinel;
use super::url::Form;
use super::url::Place;

/// Longest duration of one call, waiting for a connection included.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest duration of one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Waits between attempts to connect.
const BACKOFF: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(500)];

/// What is told of messages that Redis sends by itself, with the number of their connection.
pub(super) type OnPush = Arc<dyn Fn(u64, PushInfo) + Send + Sync>;

/// One connection, whatever is at its other end. Cheap to clone.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Makes connections and keeps one of them.
pub(super) struct Link {
    current: Arc<Current>,
    refusal: Arc<Refusal>,
    is_tls: bool,
    connecting: Mutex<AbortOnDropHandle<()>>,
}

/// The connection that there is at present, with its number. Calls that wait for one go on in the order in which they came.
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

    /// Waits until `found` finds what it looks for.
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

/// Why there is none, if the last attempt to connect told.
type Refusal = Mutex<Option<RedisError>>;

impl Link {
    /// A link to `place`; connections are made in the background from now on.
    pub(super) fn new(place: Place, on_push: Option<OnPush>) -> Self {
        let current = Arc::new(Current::default());
        let refusal = Arc::new(Refusal::default());
        let is_tls = place.is_tls;
        let connecting = tokio::spawn(connect_for_ever(place, on_push, Arc::clone(&current), Arc::clone(&refusal)));
        Self { current, refusal, is_tls, connecting: Mutex::new(AbortOnDropHandle::new(connecting)) }
    }

    /// Completes if no more connections are made, which should never be.
    pub(super) async fn ended(&self) {
        poll_fn(|cx| Pin::new(&mut *self.connecting.lock()).poll(cx)).await.unwrap_or_else(|error| {
            tracing::error!(%error, "no more connections to Redis are made");
        });
    }

    /// The connection, as soon as there is one, with its number.
    pub(super) async fn connection(&self) -> (u64, Connection) {
        self.current.wait_for(Current::get).await
    }

    /// The number of the present connection, or of none.
    pub(super) fn number(&self) -> Option<u64> {
        self.current.number()
    }

    /// Waits until connection `number` is no longer the present one.
    pub(super) async fn replaced(&self, number: u64) {
        self.current.wait_for(|current| (current.number() != Some(number)).then_some(())).await;
    }

    /// Gives up connection `number`: another one is made.
    pub(super) fn replace(&self, number: u64) {
        let is_present = |(present, _): &mut (u64, Connection)| *present == number;
        if self.current.connection.lock().take_if(is_present).is_some() {
            self.current.changed.notify_waiters();
        }
    }

    /// Sends a command and reads its answer. The command must do no harm if it is carried out twice: when a connection breaks
    /// under it, it is sent once more.
    pub(super) async fn call<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let calls = async {
            match self.call_once(command).await {
                Err(error) if error.is_connection_dropped() => self.call_once(command).await,
                result => result,
            }
        };
        match timeout(CALL_TIMEOUT, calls).await {
            Ok(result) => result,
            Err(_) => Err(self.refusal().unwrap_or_else(|| self.silence())),
        }
    }

    /// Why there is no connection, if that is known.
    fn refusal(&self) -> Option<RedisError> {
        self.refusal.lock().clone()
    }

    /// The error of a call without an answer. A Redis without TLS waits for the end of what it takes for a line.
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
        let result = connection.query(command).await;
        unanswered.judge(&result);
        result
    }
}

/// A call whose answer has not come: when it is given up, so is its connection, which may be hanging.
struct Unanswered<'a> {
    link: &'a Link,
    number: u64,
    is_answered: bool,
}

impl Unanswered<'_> {
    /// A broken connection, and a server that is not the one that takes writes, are left.
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

    /// Takes messages of `channel` from now on.
    pub(super) async fn subscribe(&mut self, channel: &str) -> Result<(), RedisError> {
        let subscribed = async {
            match self {
                Self::One(connection) => connection.subscribe(channel).await,
                Self::Cluster(connection) => connection.ssubscribe(channel).await,
            }
        };
        timeout(CALL_TIMEOUT, subscribed).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Takes messages of `channel` no longer.
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

fn timed_out() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "Redis did not answer within a second").into()
}

async fn connect_for_ever(place: Place, on_push: Option<OnPush>, current: Arc<Current>, refusal: Arc<Refusal>) {
    let mut failures = 0;
    let mut number = 0;
    loop {
        current.wait_for(|current| current.number().is_none().then_some(())).await;
        match timeout(CONNECT_TIMEOUT, connect(&place, number + 1, on_push.clone())).await {
            Ok(Ok(connection)) => {
                *refusal.lock() = None;
                failures = 0;
                number += 1;
                current.set(Some((number, connection)));
                // A connection that breaks at once is not made again without end.
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

async fn connect(place: &Place, number: u64, on_push: Option<OnPush>) -> Result<Connection, RedisError> {
    let sender = on_push.map(|on_push| {
        move |info: PushInfo| {
            on_push(number, info);
            Ok::<(), SendError>(())
        }
    });
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(CALL_TIMEOUT));
    if place.form == Form::Cluster {
        let mut builder: ClusterClientBuilder = ClusterClient::builder(place.hosts()?)
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(CALL_TIMEOUT / 2)
            .response_timeout(CALL_TIMEOUT)
            .retries(2)
            .max_retry_wait(100);
        if let Some(sender) = sender {
            builder = builder.push_sender(sender);
        }
        return builder.build()?.get_async_connection().await.map(Connection::Cluster);
    }
    if let Some(sender) = sender {
        config = config.set_push_sender(sender);
    }
    if let Some(dial) = &place.dial {
        let (connection, driver) = MultiplexedConnection::new_with_config(&place.login(), dial.dial()?, config).await?;
        tokio::spawn(driver);
        return Ok(Connection::One(connection));
    }
    let client = match &place.form {
        Form::Sentinel(service) => sentinel::client(place, service).await?,
        Form::Single | Form::Cluster => place.client()?,
    };
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    // A server that takes connections but answers nothing is not there.
    connection.req_packed_command(&redis::cmd("PING")).await?;
    Ok(Connection::One(connection))
}
