//! Every session store keeps its promises: the same suite for memory, SQLite and, in its own module, MariaDB.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use wafergate::protocol::login::Profile;
use wafergate::session::Imported;
use wafergate::session::Limits;
use wafergate::session::Session;
use wafergate::session::SessionId;
use wafergate::session::User;
use wafergate::session_store::KeptLogin;
use wafergate::session_store::Login;
use wafergate::session_store::MemoryStore;
use wafergate::session_store::OpenError;
use wafergate::session_store::SqliteStore;
use wafergate::session_store::Store;
use wafergate::session_store::StoredApp;
use wafergate::session_store::Taken;
use wafergate::session_store::Which;

const LIMITS: Limits = Limits { login: Duration::from_secs(100), idle: Duration::from_secs(10), per_user: 2 };

/// Runs the suite for one store.
macro_rules! conformance {
    ($($name:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(std::sync::Arc::new(super::MemoryStore::default())).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().expect("a directory");
                let store = super::SqliteStore::open(&folder.path().join("sessions.db")).expect("opens");
                super::$name(std::sync::Arc::new(store)).await;
            })*
        }
        /// Runs the suite for stores that need a server, one after the other: each part with a store of its own, by its name.
        pub(super) async fn each_promise(store: impl AsyncFn(&str) -> Arc<dyn Store>) {
            $($name(store(stringify!($name)).await).await;)*
        }
    };
}

conformance! {
    a_login_is_found
    logins_of_a_user_update_it
    only_the_newest_sessions_stay
    parallel_logins_lose_nothing
    ids_are_compared_byte_for_byte
    visits_are_recorded_forward
    a_secret_is_replaced_once
    sessions_are_revoked
    sessions_are_listed_by_page
    dead_sessions_are_swept_in_steps
    profiles_and_keys_are_replaced
    apps_are_kept
    rows_of_a_former_server_are_taken_over
}

fn id(text: &str) -> SessionId {
    SessionId::new(text).expect("an id")
}

fn session(text: &str, open_id: &str, created_ms: u64) -> Session {
    Session {
        id: id(text),
        app_id: "wx".into(),
        open_id: open_id.into(),
        skey_hash: [1; 32],
        previous: None,
        created_ms,
        seen_ms: created_ms,
        expires_ms: created_ms + 100_000,
        metadata: Some("{\"a\":\"三\"}".into()),
    }
}

fn login(text: &str, open_id: &str, created_ms: u64) -> Login {
    Login {
        session: session(text, open_id, created_ms),
        union_id: None,
        sealed_key: b"key".to_vec(),
        profile: None,
        kept: None,
        limits: LIMITS,
    }
}

fn profile(name: &str) -> Profile {
    Profile::parse(&format!(r#"{{"nickName":"{name}"}}"#)).expect("a profile")
}

fn ids(sessions: &[Session]) -> Vec<&str> {
    sessions.iter().map(|session| session.id.as_str()).collect()
}

async fn a_login_is_found(store: Arc<dyn Store>) {
    let kept = KeptLogin { code_hash: [7; 32], sealed: vec![1, 2], expires_ms: 5_000 };
    let login = Login {
        union_id: Some("u".into()),
        profile: Some(profile("三木")),
        kept: Some(kept),
        ..login("s1", "o", 1_000)
    };

    let stored = store.log_in(login.clone()).await.expect("stored");

    assert!(stored.is_new && stored.ended.is_empty());
    assert_eq!((stored.user.union_id.as_deref(), &stored.user.profile), (Some("u"), &profile("三木")));
    let (found, user) = store.find(&id("s1")).await.expect("up").expect("found");
    assert_eq!((found, &user), (login.session, &stored.user));
    assert_eq!(store.user("wx", "o").await.expect("up"), Some(user));
    assert_eq!(store.find(&id("s2")).await.expect("up"), None);
    assert_eq!(store.user("wx", "other").await.expect("up"), None);
    assert_eq!(store.kept_login(&[7; 32], 5_000).await.expect("up"), Some(vec![1, 2]));
    assert_eq!(store.kept_login(&[7; 32], 5_001).await.expect("up"), None);
    assert_eq!(store.kept_login(&[8; 32], 0).await.expect("up"), None);
}

async fn logins_of_a_user_update_it(store: Arc<dyn Store>) {
    let first = Login { union_id: Some("u".into()), profile: Some(profile("三木")), ..login("s1", "o", 1) };
    store.log_in(first).await.expect("stored");

    let second = store.log_in(Login { sealed_key: b"two".to_vec(), ..login("s2", "o", 2) }).await.expect("stored");
    assert!(!second.is_new);
    assert_eq!(second.user.union_id.as_deref(), Some("u"), "what is not known now stays");
    assert_eq!(second.user.profile, profile("三木"));
    assert_eq!(
        (&second.user.sealed_key[..], second.user.previous_sealed_key.as_deref()),
        (&b"two"[..], Some(&b"key"[..]))
    );
    let third = Login { sealed_key: b"two".to_vec(), profile: Some(profile("微信用户")), ..login("s3", "o", 3) };
    let third = store.log_in(third).await.expect("stored").user;
    assert_eq!(third.previous_sealed_key.as_deref(), Some(&b"key"[..]), "the same key again is no other key");
    assert_eq!(third.profile, profile("三木"));
    assert_eq!(store.user("wx", "o").await.expect("up"), Some(third));
}

async fn only_the_newest_sessions_stay(store: Arc<dyn Store>) {
    for (text, at) in [("s9", 1), ("s5", 2)] {
        store.log_in(login(text, "o", at)).await.expect("stored");
    }
    store.log_in(login("other", "p", 1)).await.expect("stored");

    let third = store.log_in(login("s7", "o", 3)).await.expect("stored");
    // Made by a node whose clock is behind.
    let fourth = store.log_in(login("s1", "o", 0)).await.expect("stored");

    assert_eq!(third.ended, [id("s9")]);
    assert_eq!(fourth.ended.len(), 1);
    assert!(!fourth.ended.contains(&id("s1")), "a login never ends itself");
    assert_eq!(store.list("wx", "o", None, 10).await.expect("up").len(), 2);
    assert!(
        store.find(&id("s9")).await.expect("up").is_none() && store.find(&id("other")).await.expect("up").is_some()
    );
}

async fn parallel_logins_lose_nothing(store: Arc<dyn Store>) {
    let one = |number: u32| {
        let open_id = format!("o{}", number % 10);
        let limits = Limits { per_user: 1_000, ..LIMITS };
        let name = if number < 10 { "三木" } else { "微信用户" };
        let login = login(&format!("s{number}"), &open_id, 1);
        store.log_in(Login { profile: Some(profile(name)), limits, ..login })
    };
    let stored = join_all((0..500).map(one)).await;

    let new = stored.iter().filter(|stored| stored.as_ref().expect("stored").is_new).count();
    assert_eq!(new, 10);
    for user in 0..10 {
        let open_id = format!("o{user}");
        assert_eq!(store.list("wx", &open_id, None, 1_000).await.expect("up").len(), 50);
        assert_eq!(store.user("wx", &open_id).await.expect("up").expect("known").profile, profile("三木"));
    }
}

async fn ids_are_compared_byte_for_byte(store: Arc<dyn Store>) {
    store.log_in(login("sA", "oA", 1)).await.expect("stored");
    store.log_in(login("sa", "oa", 1)).await.expect("stored");

    assert_eq!(store.find(&id("sA")).await.expect("up").expect("found").0.open_id, "oA");
    assert_eq!(store.find(&id("sa")).await.expect("up").expect("found").0.open_id, "oa");
    for text in ["SA", "sA'", "%", "s_", "s?", "sA\"or\"1"] {
        assert!(store.find(&id(text)).await.expect("up").is_none(), "{text}");
    }
    assert!(store.user("WX", "oA").await.expect("up").is_none());
}

async fn visits_are_recorded_forward(store: Arc<dyn Store>) {
    store.log_in(login("s1", "o", 1_000)).await.expect("stored");
    for (visit, seen) in [(2_000, 2_000), (1_500, 2_000), (3_000, 3_000)] {
        store.touch(&id("s1"), visit).await.expect("up");
        assert_eq!(store.find(&id("s1")).await.expect("up").expect("found").0.seen_ms, seen);
    }
    store.touch(&id("none"), 1).await.expect("no error");
}

async fn a_secret_is_replaced_once(store: Arc<dyn Store>) {
    store.log_in(login("s1", "o", 1_000)).await.expect("stored");
    let refresh = async |shown: u8, new: u8, now: u64| {
        store.refresh(&id("s1"), [shown; 32], [new; 32], now, now + 60_000).await.expect("up")
    };

    assert!(!refresh(9, 2, 1_000).await, "a wrong secret");
    assert!(refresh(1, 2, 1_000).await);
    let (session, _) = store.find(&id("s1")).await.expect("up").expect("found");
    assert!(
        session.accepts(&[2; 32], 2_000) && session.accepts(&[1; 32], 61_000) && !session.accepts(&[1; 32], 61_001)
    );
    assert_eq!(session.seen_ms, 1_001, "a visit, even in the millisecond of the login");
    assert!(refresh(1, 3, 61_000).await, "the answer was lost, so the client tries again");
    let (session, _) = store.find(&id("s1")).await.expect("up").expect("found");
    assert!(
        session.accepts(&[2; 32], 62_000) && session.accepts(&[3; 32], 62_000) && !session.accepts(&[1; 32], 62_000)
    );
    assert!(!refresh(2, 4, 200_000).await, "too late");
}

async fn sessions_are_revoked(store: Arc<dyn Store>) {
    for (text, open_id) in [("s1", "o"), ("s2", "o"), ("s3", "p")] {
        store.log_in(login(text, open_id, 1)).await.expect("stored");
    }
    let revoke = async |which: Which| store.revoke(&which).await.expect("up");

    assert_eq!(revoke(Which::Session(id("s1"))).await, [id("s1")]);
    assert_eq!(revoke(Which::Session(id("s1"))).await, []);
    assert_eq!(revoke(Which::User { app_id: "wx".into(), open_id: "o".into() }).await, [id("s2")]);
    assert!(store.find(&id("s3")).await.expect("up").is_some());
    assert!(store.user("wx", "o").await.expect("up").is_some(), "the user stays");
}

async fn sessions_are_listed_by_page(store: Arc<dyn Store>) {
    for number in 0..2 {
        store.log_in(login(&format!("s{number}"), "o", 1)).await.expect("stored");
    }
    store.log_in(login("other", "p", 1)).await.expect("stored");
    let page =
        async |after: Option<&str>, limit| store.list("wx", "o", after.map(id).as_ref(), limit).await.expect("up");

    assert_eq!(ids(&page(None, 10).await), ["s0", "s1"]);
    assert_eq!(ids(&page(None, 1).await), ["s0"]);
    assert_eq!(ids(&page(Some("s0"), 10).await), ["s1"]);
    assert!(page(Some("s1"), 10).await.is_empty());
}

async fn dead_sessions_are_swept_in_steps(store: Arc<dyn Store>) {
    for number in 0..10 {
        let at = if number % 2 == 0 { 1_000 } else { 50_000 };
        let kept = KeptLogin { code_hash: [number; 32], sealed: vec![], expires_ms: at };
        let login = Login { kept: Some(kept), ..login(&format!("s{number}"), &format!("o{number}"), at) };
        store.log_in(login).await.expect("stored");
    }
    let (mut after, mut removed, mut steps) = (None, 0, 0);
    loop {
        let swept = store.sweep(after.as_ref(), 3, LIMITS, 50_000).await.expect("up");
        (after, removed, steps) = (swept.next, removed + swept.removed, steps + 1);
        if after.is_none() {
            break;
        }
    }
    assert_eq!((removed, steps), (5, 4));
    assert!(store.find(&id("s0")).await.expect("up").is_none() && store.find(&id("s1")).await.expect("up").is_some());
    assert!(
        store.kept_login(&[0; 32], 0).await.expect("up").is_none()
            && store.kept_login(&[1; 32], 0).await.expect("up").is_some()
    );
    assert!(store.user("wx", "o0").await.expect("up").is_some(), "users stay");
}

async fn profiles_and_keys_are_replaced(store: Arc<dyn Store>) {
    assert!(!store.set_profile("wx", "o", &profile("a")).await.expect("up"), "nobody has that id");
    store.log_in(Login { profile: Some(profile("a")), ..login("s1", "o", 1) }).await.expect("stored");
    let other = Profile::parse(r#"{"level":7}"#).expect("a profile");

    assert!(store.set_profile("wx", "o", &other).await.expect("up"));
    assert!(store.set_profile("wx", "o", &other).await.expect("up"), "the same again");
    store.set_key("wx", "o", b"two".to_vec()).await.expect("up");
    store.set_key("wx", "o", b"two".to_vec()).await.expect("up");

    let user = store.user("wx", "o").await.expect("up").expect("known");
    assert_eq!(
        (&user.profile, &user.sealed_key[..], user.previous_sealed_key.as_deref()),
        (&other, &b"two"[..], Some(&b"key"[..]))
    );
    store.set_key("wx", "nobody", vec![]).await.expect("no error");
}

async fn rows_of_a_former_server_are_taken_over(store: Arc<dyn Store>) {
    let row = |text: &str, open_id: &str, name: &str, seen_ms: u64| Imported {
        user: User {
            app_id: "wx".into(),
            open_id: open_id.into(),
            profile: profile(name),
            sealed_key: b"old".to_vec(),
            ..User::default()
        },
        session: Some(session(text, open_id, seen_ms)),
        seen_ms,
    };
    let import = async |rows: &[Imported]| store.import(rows.to_vec()).await.expect("up");
    let name = async |open_id: &str| store.user("wx", open_id).await.expect("up").expect("known").profile;
    store.log_in(Login { profile: Some(profile("here")), ..login("s1", "here", 5_000) }).await.expect("stored");
    let rows = [
        row("a1", "a", "old", 1_000),
        row("a2", "a", "new", 2_000),
        row("h1", "here", "old", 1_000),
        row("s1", "b", "b", 1_000),
    ];

    assert_eq!(import(&rows).await, Taken { new_users: 2, sessions: 2 });
    assert_eq!(import(&rows).await, Taken::default(), "again");

    assert_eq!((name("a").await, name("here").await, name("b").await), (profile("new"), profile("here"), profile("b")));
    for (text, open_id) in [("a1", "a"), ("a2", "a"), ("s1", "here")] {
        assert_eq!(store.find(&id(text)).await.expect("up").expect("there").0.open_id, open_id);
    }
    assert!(store.find(&id("h1")).await.expect("up").is_none(), "the user has logged in here since");
    store.revoke(&Which::Session(id("a2"))).await.expect("up");
    assert_eq!(import(&rows).await, Taken::default(), "what has ended here stays ended");
    assert_eq!(import(&[row("a2", "a", "newer", 3_000)]).await, Taken { new_users: 0, sessions: 1 });
    let (found, user) = store.find(&id("a2")).await.expect("up").expect("there");
    assert_eq!((found.seen_ms, user.profile), (3_000, profile("newer")));
}

async fn apps_are_kept(store: Arc<dyn Store>) {
    let app = |app_id: &str, secret: &[u8]| StoredApp {
        app_id: app_id.into(),
        tenant: "t".into(),
        sealed_secrets: vec![secret.to_vec(), vec![]],
        sealed_wafer_key: Some(vec![9]).filter(|_| app_id == "a"),
    };
    for stored in [app("b", b"1"), app("a", b"1"), app("b", b"2")] {
        store.put_app(stored).await.expect("up");
    }

    assert_eq!(store.apps().await.expect("up"), [app("a", b"1"), app("b", b"2")]);
    assert!(store.remove_app("a").await.expect("up") && !store.remove_app("a").await.expect("up"));
    assert_eq!(store.apps().await.expect("up"), [app("b", b"2")]);
}

#[tokio::test]
async fn a_file_keeps_everything_and_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::open(&path).expect("opens");
    store.log_in_for_test(login("s1", "o", 1)).await;
    // Another process may have it open, as `wafergate app` does.
    let second = SqliteStore::open(&path).expect("opens");
    second.log_in_for_test(login("s2", "o", 2)).await;
    drop(store);

    let again: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).expect("opens"));
    assert_eq!(ids(&again.list("wx", "o", None, 10).await.expect("up")), ["s1", "s2"]);
    for name in ["sessions.db", "sessions.db-wal"] {
        let mode = std::fs::metadata(folder.path().join(name)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_file_that_is_none_or_too_new_is_refused_in_words() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("sessions.db");
    std::fs::write(&path, "this is a letter, not a database, and it is long enough to be looked at ".repeat(20))
        .expect("written");
    assert!(matches!(SqliteStore::open(&path), Err(OpenError::Database { .. })));
    let missing = SqliteStore::open(&folder.path().join("nowhere/sessions.db")).err().expect("no folder");
    assert!(missing.to_string().contains("its folder must exist"), "{missing}");

    std::fs::remove_file(&path).expect("removed");
    drop(SqliteStore::open(&path).expect("opens"));
    let database = rusqlite::Connection::open(&path).expect("opens");
    database.pragma_update(None, "user_version", 99).expect("written");
    let newer = SqliteStore::open(&path).err().expect("too new");
    assert!(newer.to_string().contains("newer wafergate"), "{newer}");
}

#[tokio::test]
async fn a_locked_file_is_waited_for() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("sessions.db");
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).expect("opens"));
    store.log_in(login("s1", "o", 1)).await.expect("stored");
    let other = rusqlite::Connection::open(&path).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");

    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.log_in(login("s2", "o", 2)).await }
    });
    assert!(store.find(&id("s1")).await.expect("readers go on").is_some());
    other.execute_batch("COMMIT").expect("released");

    writing.await.expect("no panic").expect("stored");
}

/// Shortens the test above.
trait ForTest {
    async fn log_in_for_test(&self, login: Login);
}

impl ForTest for SqliteStore {
    async fn log_in_for_test(&self, login: Login) {
        wafergate::session_store::SessionStore::log_in(self, login).await.expect("stored");
    }
}
