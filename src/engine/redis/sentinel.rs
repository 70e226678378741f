//! Finds the master through Sentinels: by the newest configuration that any of them has, since one that was cut off still
//! names an earlier master. Their password may differ from Redis', with the same error texts.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use redis::AsyncConnectionConfig;
use redis::Client;
use redis::ConnectionAddr;
use redis::ErrorKind;
use redis::IntoConnectionInfo;
use redis::ProtocolVersion;
use redis::RedisConnectionInfo;
use redis::RedisError;
use redis::Role;
use redis::aio::MultiplexedConnection;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use super::url::RedisUrl;
use super::url::Topology;

/// Error text: a Sentinel needs a password, and none is set.
pub(super) const WANTS_PASSWORD: &str = "a Sentinel wants a password";
/// Error text: a Sentinel refuses the password.
pub(super) const WRONG_PASSWORD: &str = "a Sentinel refuses the password";

/// How often the Sentinels are asked for the master; a node that follows later than the others loses its lease to them.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Deadline of one such question, with the question to the new master.
const WATCH_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Deadline of one Sentinel.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// An older configuration than was known is believed after so long without a newer answer: the Sentinels may have been
/// set up anew.
const NEWER_FOR: Duration = Duration::from_secs(30);

/// The Sentinels of one connection to their master.
pub(super) struct Sentinels {
    url: RedisUrl,
    service: String,
    /// One for each host of the URL.
    connections: Vec<Mutex<Option<MultiplexedConnection>>>,
    newest: Mutex<Newest>,
}

/// What a Sentinel says.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Answer {
    /// Host and port of the master.
    master: (String, u16),
    /// The number of the configuration: each failover makes a greater one.
    epoch: u64,
    /// The number of Sentinels that it knows, with itself.
    sentinels: usize,
}

/// The newest configuration that a Sentinel has named, and when that was.
#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    epoch: u64,
    heard: Option<Instant>,
}

impl Newest {
    /// The answer to believe at `now`; `None` if a newer configuration was known a moment ago.
    fn choose(&mut self, answers: Vec<Answer>, now: Instant) -> Option<Answer> {
        let newest = answers.into_iter().max_by_key(|answer| answer.epoch)?;
        let is_recent = self.heard.is_some_and(|heard| now.saturating_duration_since(heard) < NEWER_FOR);
        if newest.epoch < self.epoch && is_recent {
            return None;
        }
        *self = Self { epoch: newest.epoch, heard: Some(now) };
        Some(newest)
    }
}

/// Whether more than half of the Sentinels have answered, by what the `asked` URL and they themselves know of each other.
fn are_most(answers: &[Answer], asked: usize) -> bool {
    let sentinels = answers.iter().map(|answer| answer.sentinels).fold(asked, usize::max);
    2 * answers.len() > sentinels
}

impl Sentinels {
    /// The Sentinels of a URL, if it names any.
    pub(super) fn of(url: &RedisUrl) -> Option<Self> {
        let Topology::Sentinel(service) = &url.topology else { return None };
        let connections = url.addresses().iter().map(|_| Mutex::default()).collect();
        Some(Self { url: url.clone(), service: service.clone(), connections, newest: Mutex::default() })
    }

    /// A client of the master, which itself says that it is one.
    pub(super) async fn client(&self) -> Result<Client, RedisError> {
        let (host, port) = self.master().await?;
        let address = self.url.address(host, port);
        let client = Client::open(address.into_connection_info()?.set_redis_settings(self.url.login()))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        match redis::cmd("ROLE").query_async(&mut connection).await? {
            Role::Primary { .. } => Ok(client),
            _ => {
                Err((ErrorKind::MasterNameNotFoundBySentinel, "the server that the Sentinels name is no master yet")
                    .into())
            }
        }
    }

    /// Completes when the Sentinels name another master than the one at `address`, which may still answer and accept writes.
    pub(super) async fn another_master(&self, address: &str) {
        loop {
            sleep(WATCH_INTERVAL).await;
            let asked = async {
                let (host, port) = self.master().await?;
                // The second, dearer question asks the new master too whether it is one.
                Ok::<_, RedisError>(
                    self.url.address(host, port).to_string() != address && address_of(&self.client().await?) != address,
                )
            };
            // Sentinels that do not answer say nothing against this master.
            if matches!(timeout(WATCH_TIMEOUT, asked).await, Ok(Ok(true))) {
                return;
            }
        }
    }

    /// Host and port of the master, by the newest of the first answers of most Sentinels.
    async fn master(&self) -> Result<(String, u16), RedisError> {
        let hosts = self.url.addresses().into_iter().zip(&self.connections);
        let mut asked: FuturesUnordered<_> = hosts.map(|(address, connection)| self.ask(address, connection)).collect();
        let (mut answers, mut errors) = (vec![], vec![]);
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(error) => errors.push(error),
            }
            if are_most(&answers, self.connections.len()) {
                break;
            }
        }
        if answers.is_empty() {
            errors.sort_by_key(|error| of_login(error).is_none());
            return Err(errors.into_iter().next().map_or_else(no_answer, blamed));
        }
        let chosen = self.newest.lock().choose(answers, Instant::now());
        let words = "the Sentinels that answer know an older master than was known: the others are not reached";
        Ok(chosen.ok_or((ErrorKind::MasterNameNotFoundBySentinel, words))?.master)
    }

    async fn ask(
        &self,
        address: ConnectionAddr,
        kept: &Mutex<Option<MultiplexedConnection>>,
    ) -> Result<Answer, RedisError> {
        let asked = async {
            let present = kept.lock().take();
            let mut connection = match present {
                Some(connection) => connection,
                None => self.connect(address).await?,
            };
            let (about, master): (HashMap<String, String>, (String, u16)) = redis::pipe()
                .cmd("SENTINEL")
                .arg("MASTER")
                .arg(&self.service)
                // Behind that: in a failover its leader names the new master only here at first.
                .cmd("SENTINEL")
                .arg("GET-MASTER-ADDR-BY-NAME")
                .arg(&self.service)
                .query_async(&mut connection)
                .await?;
            *kept.lock() = Some(connection);
            let number = |name: &str| about.get(name).and_then(|text| text.parse().ok()).unwrap_or(0_u64);
            let others = usize::try_from(number("num-other-sentinels")).unwrap_or(0);
            Ok(Answer { master, epoch: number("config-epoch"), sentinels: others + 1 })
        };
        timeout(ANSWER_TIMEOUT, asked).await.unwrap_or_else(|_| Err(no_answer()))
    }

    async fn connect(&self, address: ConnectionAddr) -> Result<MultiplexedConnection, RedisError> {
        let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(password) = &self.url.sentinel_password {
            // RESP3 login, since a Sentinel without a password accepts one there.
            login = login.set_password(password).set_protocol(ProtocolVersion::RESP3);
        }
        let client = Client::open(address.into_connection_info()?.set_redis_settings(login))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        client.get_multiplexed_async_connection_with_config(&config).await
    }
}

/// Where a client connects to.
pub(super) fn address_of(client: &Client) -> String {
    client.get_connection_info().addr().to_string()
}

fn no_answer() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no Sentinel of engine.redis_url answers within half a second")
        .into()
}

/// Marks a failed login as one at the Sentinels.
fn blamed(error: RedisError) -> RedisError {
    match of_login(&error) {
        Some(words) => (ErrorKind::AuthenticationFailed, words, error.to_string()).into(),
        None => error,
    }
}

/// The login problem behind an error, if any.
fn of_login(error: &RedisError) -> Option<&'static str> {
    let said = error.to_string();
    if said.contains("NOAUTH") {
        Some(WANTS_PASSWORD)
    } else if said.contains("WRONGPASS") || error.kind() == ErrorKind::AuthenticationFailed {
        Some(WRONG_PASSWORD)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(port: u16, epoch: u64) -> Answer {
        Answer { master: ("h".to_owned(), port), epoch, sentinels: 3 }
    }

    #[test]
    fn the_newest_configuration_counts_whichever_answers_first() {
        let mut newest = Newest::default();
        let now = Instant::now();

        assert_eq!(newest.choose(vec![answer(1, 4), answer(2, 5), answer(1, 4)], now), Some(answer(2, 5)));
        assert_eq!(newest.choose(vec![], now), None);
    }

    #[test]
    fn an_older_one_is_not_believed_unless_no_newer_one_is_named_for_long() {
        let (mut newest, now) = (Newest::default(), Instant::now());
        assert_eq!(newest.choose(vec![answer(2, 5)], now), Some(answer(2, 5)));

        assert_eq!(newest.choose(vec![answer(1, 4)], now + NEWER_FOR / 2), None);
        assert_eq!(newest.choose(vec![answer(2, 5)], now + NEWER_FOR / 2), Some(answer(2, 5)));
        assert_eq!(newest.choose(vec![answer(1, 4)], now + NEWER_FOR), None, "the newer one was named since");
        assert_eq!(newest.choose(vec![answer(1, 4)], now + 2 * NEWER_FOR), Some(answer(1, 4)));
    }

    #[test]
    fn most_are_more_than_half_of_all_that_any_of_them_knows() {
        assert!(are_most(&[answer(1, 4), answer(1, 4)], 3));
        assert!(are_most(&[answer(1, 4), answer(1, 4)], 1), "one host name may stand for all");
        assert!(!are_most(&[answer(1, 4)], 1));
        assert!(!are_most(&[answer(1, 4), answer(1, 4)], 4));
        assert!(are_most(&[Answer { sentinels: 1, ..answer(1, 4) }], 1));
    }
}
