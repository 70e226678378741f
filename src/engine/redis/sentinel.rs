//! Asks Sentinels where the master is. They may want a password of their own, and say no in the same words as Redis does.

use redis::Client;
use redis::ErrorKind;
use redis::RedisError;
use redis::sentinel::SentinelClient;
use redis::sentinel::SentinelClientBuilder;
use redis::sentinel::SentinelServerType;

use super::url::Place;

/// A Sentinel wants a password, and there is none.
pub(super) const WANTS_PASSWORD: &str = "a Sentinel wants a password";
/// A Sentinel wants another password.
pub(super) const WRONG_PASSWORD: &str = "a Sentinel refuses the password";

/// A client of the master of `service`.
pub(super) async fn client(place: &Place, service: &str) -> Result<Client, RedisError> {
    match builder(place, service)?.async_get_client().await {
        Err(error) if of_login(&error).is_some() => Err(blamed(place, service, error).await),
        result => result,
    }
}

/// A login that failed, as an error that says whether it was the Sentinels'.
async fn blamed(place: &Place, service: &str, error: RedisError) -> RedisError {
    let Ok(mut sentinels) = builder(place, service) else { return error };
    match sentinels.async_get_sentinel_client().await {
        Err(of_sentinel) => match of_login(&of_sentinel) {
            Some(words) => (ErrorKind::AuthenticationFailed, words, of_sentinel.to_string()).into(),
            None => error,
        },
        // They let this node in: it is Redis that does not.
        Ok(_) => error,
    }
}

/// What is wrong with the login, if that is what an error is about.
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

fn builder(place: &Place, service: &str) -> Result<SentinelClient, RedisError> {
    let login = place.login();
    let mut builder = SentinelClientBuilder::new(place.addresses(), service, SentinelServerType::Master)?
        .set_client_to_redis_db(login.db())
        .set_client_to_redis_protocol(login.protocol());
    if place.is_tls {
        builder = builder.set_client_to_redis_tls_mode(redis::TlsMode::Secure);
    }
    if let Some(user) = login.username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = login.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(password) = &place.sentinel_password {
        // By the newer protocol, in which a Sentinel that wants none does not mind one.
        builder = builder.set_client_to_sentinel_password(password).set_client_to_sentinel_protocol(login.protocol());
    }
    builder.build()
}
