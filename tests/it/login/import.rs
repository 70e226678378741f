//! `wafergate session import`: a database as Wafer's session server left it.

use std::process::Command;

use mysql_async::Row;
use serde_json::Value;

use super::Login;
use crate::support::cluster::TICKET_KEY;
use crate::support::mariadb::MariaDb;

/// Rows with times relative to now, as the PHP server wrote them, in the local time of Shanghai.
const OLD: &str = include_str!("../../fixtures/login/cAuth.sql");
/// What must come of its sessions.
const EXPECTED: &str = include_str!("../../fixtures/login/cAuth.expected.json");

const DRY: &str = "        9  rows of cSessionInfo
        8  users who are new here
        8  profiles
        1  profiles that cannot be read: their users come without one
        0  profiles that name another user: their users come without one
        7  sessions that go on
        0  of them are here already, or have ended here
        2  sessions that have ended: the login is longer ago than session.login_days
        0  sessions that have ended: not used for session.idle_secs
        0  sessions without a usable id and skey
        0  rows without an open_id, left out

nothing is written: leave out --dry-run to take them over

[[session.apps]]
app_id = \"wx4f4bc4dec97d474b\"
secret_file = \"/etc/wafergate/wx4f4bc4dec97d474b.secret\"
";

/// Runs the import into a store; its exit code and what it prints.
fn import(from: &str, store: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_wafergate"))
        .args(["session", "import"])
        .args(arguments)
        .env("WAFERGATE_IMPORT_FROM", from)
        .env("WAFERGATE__SESSION__STORE", store)
        .env("WAFERGATE__SERVER__TICKET_KEY", TICKET_KEY)
        .env("WAFERGATE__ENROLMENT__OPEN", "true")
        .output()
        .expect("started");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for secret in ["secret-of-the-app", "p%40ss", "AAECAwQFBgcICQoLDA0ODw"] {
        assert!(!said.contains(secret), "{said}");
    }
    (output.status.code(), said)
}

/// The first number in the line with these words.
fn count(said: &str, words: &str) -> u32 {
    let line = said.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}: {said}"));
    line.split_whitespace().next().expect("a number").parse().expect("a number")
}

#[tokio::test]
async fn an_old_database_is_taken_over_and_nobody_logs_in_again() {
    let server = MariaDb::start().await;
    server.run(OLD).await;
    let folder = tempfile::tempdir().expect("a directory");
    let old = server.url("cAuth");
    let file = format!("sqlite://{}", folder.path().join("sessions.db").display());
    for store in [&file, &server.database("sessions").await] {
        for _ in 0..2 {
            assert_eq!(import(&old, store, &["--dry-run"]), (Some(0), DRY.to_owned()), "{store}");
        }
        let secret = folder.path().join(if store.starts_with("mysql") { "one.secret" } else { "two.secret" });
        let (code, said) = import(&old, store, &["--secret-file", secret.to_str().expect("text")]);
        assert_eq!((code, count(&said, "new here"), count(&said, "here already")), (Some(0), 8, 0), "{said}");
        assert!(said.contains(&format!("secret_file = {secret:?}")), "{said}");
        assert_eq!(std::fs::read_to_string(&secret).expect("written"), "secret-of-the-app\n");

        let (code, said) = import(&old, store, &[]);
        assert_eq!((code, count(&said, "new here"), count(&said, "here already")), (Some(0), 0, 7), "{said}");

        let login = Login::with(&[("session.store", store), ("server.ticket_key", TICKET_KEY)]).await;
        let expected: Vec<Value> = serde_json::from_str(EXPECTED).expect("JSON");
        for session in &expected {
            let text = |field: &str| session[field].as_str().expect("text").to_owned();
            let answer = login.check(&(text("id"), text("skey"))).await;
            assert_eq!(answer["returnCode"], session["code"], "{session} {answer}");
            if session["code"] == 0 {
                let info = &answer["returnData"]["user_info"];
                assert_eq!((&info["openId"], &info["nickName"]), (&session["openId"], &session["nickName"]));
            }
        }
    }
}

#[tokio::test]
async fn a_former_server_that_goes_on_is_caught_up_with_and_what_happened_here_stays() {
    let server = MariaDb::start().await;
    server.run(OLD).await;
    let (old, store) = (server.url("cAuth"), server.database("sessions").await);
    assert_eq!(import(&old, &store, &[]).0, Some(0));

    // One user has logged in there again, another one's session has ended here.
    server
        .run(
            "UPDATE cAuth.cSessionInfo SET skey = 'new-skey', last_visit_time = last_visit_time + INTERVAL 30 MINUTE, \
             user_info = '{\"nickName\":\"微信用户\"}' WHERE open_id = 'oLEGACY1'; \
             DELETE FROM sessions.wg_sessions WHERE open_id = 'oLEGACY7'",
        )
        .await;
    let (code, said) = import(&old, &store, &[]);

    assert_eq!((code, count(&said, "new here"), count(&said, "here already")), (Some(0), 0, 6), "{said}");
    let login = Login::with(&[("session.store", &store), ("server.ticket_key", TICKET_KEY)]).await;
    let check = async |id: &str, skey: &str| login.check(&(id.to_owned(), skey.to_owned())).await;
    let known = check("fa06c8c7052a942bae12d06d68032d2c", "new-skey").await;
    assert_eq!(known["returnData"]["user_info"]["nickName"], "三木/😀", "a real name is kept: {known}");
    let before = check("fa06c8c7052a942bae12d06d68032d2c", "3fb69f3a590163739b14bbcb5b3013e0").await;
    let ended = check("6cc5faf2e341a1e5c3cfcb3b26bbffe5", "2a9d7373e3a936aded55bf8614ec4aa9").await;
    assert_eq!((&before["returnCode"], &ended["returnCode"]), (&60012.into(), &60012.into()));
}

#[tokio::test]
async fn what_is_unclear_is_asked_for() {
    let server = MariaDb::start().await;
    server.run(OLD).await;
    server.run("INSERT INTO cAuth.cAppinfo (appid, secret) VALUES ('wx2', 'hush')").await;
    let (old, store) = (server.url("cAuth"), server.database("sessions").await);

    let (code, said) = import(&old, &store, &["--dry-run"]);
    assert!(code == Some(1) && said.contains("--app, of wx2, wx4f4bc4dec97d474b"), "{said}");
    let (code, said) = import(&old, &store, &["--app", "wx2", "--utc-offset", "+00:00", "--dry-run"]);
    assert!(code == Some(0) && said.contains("is --utc-offset right?"), "{said}");
    let (code, said) = import(&server.url("sessions"), &store, &[]);
    assert!(code == Some(1) && said.contains("no table cSessionInfo"), "{said}");
    let (code, said) = import("mysql://a:p%40ss@h", &store, &[]);
    assert!(code == Some(64) && said.contains("no database"), "{said}");
    let (code, said) = import(&old, "memory", &[]);
    assert!(code == Some(1) && said.contains("keeps nothing"), "{said}");

    // Of Wafer 2: no apps, plain JSON, no column for the number of a row.
    server
        .run(
            "CREATE DATABASE cAuth2 CHARACTER SET utf8mb4; USE cAuth2; CREATE TABLE cSessionInfo (open_id VARCHAR(100) NOT NULL, uuid VARCHAR(100) NOT NULL, \
             skey VARCHAR(100) NOT NULL, create_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, last_visit_time TIMESTAMP NOT NULL \
             DEFAULT CURRENT_TIMESTAMP, session_key VARCHAR(100) NOT NULL, user_info VARCHAR(2048) NOT NULL, PRIMARY KEY (open_id)); \
             INSERT INTO cSessionInfo (open_id, uuid, skey, session_key, user_info) VALUES ('o2', 'u2', 's2', 'k2', '{\"nickName\":\"二\"}')",
        )
        .await;
    let (code, said) = import(&server.url("cAuth2"), &store, &[]);
    assert!(code == Some(1) && said.contains("names no app"), "{said}");
    let (code, said) = import(&server.url("cAuth2"), &store, &["--app", "wx2", "--utc-offset", "+00:00"]);
    assert!(code == Some(0) && count(&said, "sessions that go on") == 1, "{said}");
    assert_eq!(
        server.ask::<Row>("SELECT 1 FROM sessions.wg_sessions WHERE id = 'u2' AND app_id = 'wx2'").await.len(),
        1
    );
}
