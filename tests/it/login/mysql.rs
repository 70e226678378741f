//! Sessions in a MariaDB database: the promises of every store, and what nodes that share one do while it is away.

use std::sync::Arc;
use std::time::Duration;

use wafergate::options::DatabaseUrl;
use wafergate::session_store::AppStore;
use wafergate::session_store::MySqlStore;
use wafergate::session_store::Store;

use super::Login;
use super::store;
use crate::support::Authority;
use crate::support::cluster::TICKET_KEY;
use crate::support::mariadb::MariaDb;
use crate::support::within;

fn at(url: &str) -> MySqlStore {
    MySqlStore::new(&url.parse::<DatabaseUrl>().expect("a good address"))
}

/// A node with its sessions in this database.
async fn node(url: &str) -> Login {
    Login::with(&[("session.store", url), ("server.ticket_key", TICKET_KEY), ("session.sessions_per_user", "1")]).await
}

async fn code(login: &Login, session: &(String, String)) -> u64 {
    login.check(session).await["returnCode"].as_u64().expect("a code")
}

#[tokio::test]
async fn a_database_keeps_all_promises() {
    let server = MariaDb::start().await;

    let store = async |name: &str| {
        let store: Arc<dyn Store> = Arc::new(at(&server.database(name).await));
        store
    };
    store::each_promise(store).await;
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_named_in_words() {
    let authority = Authority::new();
    let server = MariaDb::with_tls(&authority).await;
    let url = server.database("sessions").await;
    let words = async |url: &str| at(url).apps().await.expect_err(url).to_string();

    // Nodes that start together create the tables together.
    let (one, other) = (at(&url), at(&url));
    let (one, other) = tokio::join!(one.apps(), other.apps());
    assert!(one.is_ok() && other.is_ok());
    let denied = words(&url.replace("p%40ss", "wrong")).await;
    assert!(denied.contains("Access denied") && !denied.contains("wrong"), "{denied}");
    let nowhere = words(&server.url("nowhere")).await;
    assert!(nowhere.contains("Unknown database"), "{nowhere}");
    let closed = words(&url.replace(&server.port.to_string(), "1")).await;
    assert!(closed.contains("refused"), "{closed}");

    for (mode, is_good) in [("required", true), ("verify_identity", false)] {
        assert_eq!(at(&format!("{url}?ssl-mode={mode}")).apps().await.is_ok(), is_good, "{mode}");
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &authority.pem).expect("written");
    let trusted = format!("{url}?ssl-mode=verify_identity&ssl-ca={}", file.path().display());
    assert!(at(&trusted).apps().await.is_ok());
    assert!(at(&trusted.replace("127.0.0.1", "localhost")).apps().await.is_err(), "the certificate is for 127.0.0.1");

    server.run("INSERT INTO sessions.wg_schema VALUES (99)").await;
    let newer = words(&url).await;
    assert!(newer.contains("newer wafergate"), "{newer}");
}

#[tokio::test]
async fn a_server_that_takes_no_changes_any_more_is_left_for_the_one_in_its_place() {
    let server = MariaDb::start().await;
    let store = at(&server.database("sessions").await);
    assert!(store.apps().await.is_ok());
    let connections = async || {
        let sql = "SELECT id FROM information_schema.processlist WHERE user = 'wafergate'";
        server.ask::<u64>(sql).await
    };
    let before = connections().await;

    server.run("SET GLOBAL read_only = 1").await;
    let refused = store.remove_app("wx").await.expect_err("read-only").to_string();

    assert!(refused.contains("read-only") && before.len() == 1, "{refused}");
    within("connections to it end", async { while !connections().await.is_empty() {} }).await;
    server.run("SET GLOBAL read_only = 0").await;
    assert!(!store.remove_app("wx").await.expect("changes"));
}

#[tokio::test]
async fn nodes_share_a_database_and_nobody_is_logged_out_while_it_is_away() {
    let mut server = MariaDb::start().await;
    let url = server.database("sessions").await;
    let (here, there) = (node(&url).await, node(&url).await);
    let (ann, bob, eve) = (here.enter("ann", 1).await, here.enter("bob", 1).await, here.enter("eve", 1).await);
    assert_eq!(code(&there, &ann).await, 0, "what one node stores another one finds");

    // A login here ends the session there, within the five seconds of its cache.
    here.enter("ann", 2).await;
    within("the other node's cache is no older than five seconds", async { while code(&there, &ann).await == 0 {} })
        .await;

    // Silent for a second and a half, longer than a question may take.
    server.signal("STOP");
    let back = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(there.gateway.ask_admin("GET /readyz").await.status, 200, "tunnels go on");
        server.signal("CONT");
    };
    let (checked, entered, ()) = tokio::join!(code(&there, &bob), here.enter("zoe", 1), back);
    assert_eq!(checked, 0, "the check has waited");
    assert_eq!(code(&there, &entered).await, 0);

    // Gone for long: an outage, in which nobody is told to log in, and no node is unable to start.
    server.kill();
    assert_eq!(code(&there, &eve).await, 1001);
    let late = node(&url).await;
    assert_eq!(late.gateway.ask_admin("GET /readyz").await.status, 200);
    assert_eq!(code(&late, &eve).await, 1001);
    server.revive().await;
    for node in [&there, &late] {
        within("it is used again", async { while code(node, &eve).await != 0 {} }).await;
    }
}
