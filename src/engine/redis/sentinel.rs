//! Finds the master through Sentinels. Their password may differ from Redis', with the same error texts.

use std::time::Duration;

use redis::Client;
use redis::ErrorKind;
use redis::RedisError;
use redis::sentinel::SentinelClient;
use redis::sentinel::SentinelClientBuilder;
use redis::sentinel::SentinelServerType;
use tokio::time::sleep;
use tokio::time::timeout;

use super::url::RedisUrl;

/// Error text: a Sentinel needs a password, and none is set.
pub(super) const WANTS_PASSWORD: &str = "a Sentinel wants a password";
/// Error text: a Sentinel refuses the password.
pub(super) const WRONG_PASSWORD: &str = "a Sentinel refuses the password";

/// How often the Sentinels are asked for the master; a node that follows later than the others loses its lease to them.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Deadline of one such question.
const WATCH_TIMEOUT: Duration = Duration::from_millis(1_500);

/// A client of the master of `service`.
pub(super) async fn client(url: &RedisUrl, service: &str) -> Result<Client, RedisError> {
    match builder(url, service)?.async_get_client().await {
        Err(error) if of_login(&error).is_some() => Err(blamed(url, service, error).await),
        result => result,
    }
}

/// Completes when the Sentinels name another master than the one at `address`, which may still answer and accept writes.
pub(super) async fn another_master(url: &RedisUrl, service: &str, address: &str) {
    loop {
        sleep(WATCH_INTERVAL).await;
        let asked = async {
            // The second, dearer question asks the new master too whether it is one.
            Ok::<_, RedisError>(
                named(url, service).await? != address && address_of(&client(url, service).await?) != address,
            )
        };
        // Sentinels that do not answer say nothing against this master.
        if matches!(timeout(WATCH_TIMEOUT, asked).await, Ok(Ok(true))) {
            return;
        }
    }
}

/// Where a client connects to.
pub(super) fn address_of(client: &Client) -> String {
    client.get_connection_info().addr().to_string()
}

/// The address of the master of `service`, by the first Sentinel that answers.
async fn named(url: &RedisUrl, service: &str) -> Result<String, RedisError> {
    let sentinel = builder(url, service)?.async_get_sentinel_client().await?;
    let mut connection = sentinel.get_multiplexed_async_connection().await?;
    let question = redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(service).to_owned();
    let (host, port): (String, u16) = question.query_async(&mut connection).await?;
    Ok(format!("{host}:{port}"))
}

/// LossMarks a failed login as one of the Sentinels, if it was.
async fn blamed(url: &RedisUrl, service: &str, error: RedisError) -> RedisError {
    let Ok(mut sentinels) = builder(url, service) else { return error };
    match sentinels.async_get_sentinel_client().await {
        Err(of_sentinel) => match of_login(&of_sentinel) {
            Some(words) => (ErrorKind::AuthenticationFailed, words, of_sentinel.to_string()).into(),
            None => error,
        },
        // The Sentinels accept the login, so Redis refused it.
        Ok(_) => error,
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

fn builder(url: &RedisUrl, service: &str) -> Result<SentinelClient, RedisError> {
    let login = url.login();
    let mut builder = SentinelClientBuilder::new(url.addresses(), service, SentinelServerType::Master)?
        .set_client_to_redis_db(login.db())
        .set_client_to_redis_protocol(login.protocol());
    if url.is_tls {
        builder = builder.set_client_to_redis_tls_mode(redis::TlsMode::Secure);
    }
    if let Some(user) = login.username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = login.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(password) = &url.sentinel_password {
        // RESP3 login, since a Sentinel without a password accepts one there.
        builder = builder.set_client_to_sentinel_password(password).set_client_to_sentinel_protocol(login.protocol());
    }
    builder.build()
}
