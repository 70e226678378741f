//! A session store in a file with many sessions, as logins left them.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use wafergate::clock::Clock;
use wafergate::clock::SystemClock;
use wafergate::protocol::login::Profile;
use wafergate::session::Credentials;
use wafergate::session::Limits;
use wafergate::session::Session;
use wafergate::session_store::Login;
use wafergate::session_store::SessionStore;
use wafergate::session_store::SqliteStore;

/// The app of all sessions.
pub(crate) const APP: &str = "wx4f4bc4dec97d474b";

/// What is known about each user.
pub(crate) const PROFILE: &str =
    r#"{"nickName":"三木","gender":1,"city":"Shenzhen","avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/x/0"}"#;

const LIMITS: Limits = Limits { login: Duration::from_secs(86_400), idle: Duration::from_secs(86_400), per_user: 8 };
/// Logins that wait for the store at a time.
const AT_A_TIME: u64 = 1_000;
const HOUR_MS: u64 = 3_600_000;

/// A new store with `count` sessions of as many users. A check of the first `visited` ones has no visit to record for an hour; a check
/// of any other one has.
pub(crate) async fn filled(path: &Path, count: u64, visited: u64) -> SqliteStore {
    let store = SqliteStore::open(path).expect("opens");
    for first in (0..count).step_by(usize::try_from(AT_A_TIME).expect("few")) {
        let numbers = first..count.min(first + AT_A_TIME);
        let logins = numbers.map(|number| store.log_in(login(number, number < visited)));
        join_all(logins).await.into_iter().for_each(|stored| drop(stored.expect("stored")));
    }
    store
}

/// What the client of a session proves it with.
pub(crate) fn credentials(number: u64) -> Credentials {
    let mut random = [0; 32];
    // Spread over the index as random ids are.
    random[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Credentials::new(random)
}

/// The user of a session.
pub(crate) fn open_id(number: u64) -> String {
    format!("oGZUI0egBJY1zhBYw2KhdU{number:06}")
}

fn login(number: u64, is_visited: bool) -> Login {
    let now_ms = u64::try_from(SystemClock.unix_time().as_millis()).expect("a time");
    let credentials = credentials(number);
    Login {
        session: Session {
            skey_hash: credentials.skey_hash(),
            id: credentials.id,
            app_id: APP.into(),
            open_id: open_id(number),
            previous: None,
            created_ms: now_ms,
            seen_ms: if is_visited { now_ms + HOUR_MS } else { now_ms },
            expires_ms: now_ms + 24 * HOUR_MS,
            metadata: None,
        },
        union_id: None,
        sealed_key: vec![7; 64],
        profile: Profile::parse(PROFILE),
        kept: None,
        limits: LIMITS,
    }
}
