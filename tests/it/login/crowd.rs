//! Many logins at once.

use std::collections::HashSet;

use futures_util::StreamExt;
use futures_util::stream;
use wafergate::session_store::SessionStore;
use wafergate::session_store::SqliteStore;

use super::Login;
use crate::support::cluster::TICKET_KEY;
use crate::support::wechat::APP;

const USERS: usize = 100;
const LOGINS: usize = 10_000;
/// Logins in progress at a time.
const AT_ONCE: usize = 250;
/// Sessions that a user may have.
const PER_USER: usize = 8;

#[tokio::test]
async fn ten_thousand_parallel_logins_of_a_hundred_users_on_sqlite() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("sessions.db");
    let url = format!("sqlite://{}", path.display());
    let login = Login::with(&[("session.store", &url), ("server.ticket_key", TICKET_KEY)]).await;

    let logins = (0..LOGINS).map(|number| {
        let login = &login;
        async move { login.enter(&format!("u{}", number % USERS), number).await }
    });
    let sessions: Vec<_> = stream::iter(logins).buffer_unordered(AT_ONCE).collect().await;

    assert_eq!(login.gateway.metric("sessions_total{result=\"new\"}").await, USERS as f64);
    assert_eq!(login.gateway.metric("sessions_total{result=\"known\"}").await, (LOGINS - USERS) as f64);
    let store = SqliteStore::open(&path).expect("opens");
    let mut kept = HashSet::new();
    for user in 0..USERS {
        let stored = store.list(APP, &format!("ou{user}"), None, LOGINS).await.expect("it answers");
        assert_eq!(stored.len(), PER_USER, "of user {user}");
        kept.extend(stored.into_iter().map(|session| session.id.to_string()));
    }
    let (alive, ended): (Vec<_>, Vec<_>) = sessions.iter().partition(|(id, _)| kept.contains(id));
    assert_eq!(alive.len(), USERS * PER_USER, "each was answered");
    for (sessions, code) in [(&alive[..], 0), (&ended[..200], 60012)] {
        let checks = stream::iter(sessions).map(|session| login.check(session)).buffer_unordered(AT_ONCE);
        let wrong: Vec<_> = checks.filter(|answer| std::future::ready(answer["returnCode"] != code)).collect().await;
        assert!(wrong.is_empty(), "{:?}", wrong[0]);
    }
}
