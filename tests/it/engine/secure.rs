//! Redis with TLS and users: permitted users work, and others get the reason without the password.

use std::fs;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::Command;
use wafergate::id::NodeId;

use super::Node;
use super::PREFIX;
use super::conformance;
use crate::support::Authority;
use crate::support::GuardedSentinel;
use crate::support::Redis;
use crate::support::Sentinels;
use crate::support::rights::Kind;
use crate::support::rights::rule;
use crate::support::within;

/// Names the Redis of `the_redis_that_is_named_is_an_engine`.
const URL: &str = "WAFERGATE_TEST_REDIS_URL";

/// A server that speaks TLS, with a certificate of an authority of its own.
struct SecureRedis {
    redis: Redis,
    port: String,
    dir: TempDir,
}

impl SecureRedis {
    async fn start() -> Self {
        let (authority, dir) = (Authority::new(), tempfile::tempdir().expect("a directory"));
        let (certificate, key) = authority.sign();
        for (name, text) in [("authority", &authority.pem), ("certificate", &certificate), ("key", &key)] {
            fs::write(dir.path().join(name), text).expect("written");
        }
        let file = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
        let port = std::cell::Cell::new(0);
        let redis = Redis::with_more_ports(|another| {
            port.set(another);
            let (certificate, key) = (file("certificate"), file("key"));
            let options = ["--tls-port", &another.to_string(), "--tls-cert-file", &certificate, "--tls-key-file", &key];
            let no_client_certificates = ["--tls-ca-cert-file", &certificate, "--tls-auth-clients", "no"];
            options.into_iter().chain(no_client_certificates).map(str::to_owned).collect()
        })
        .await;
        let rule = rule(Kind::Single);
        redis.admit(&rule).await;
        Self { redis, port: port.get().to_string(), dir }
    }

    fn url(&self, login: &str) -> String {
        format!("rediss://{login}@127.0.0.1:{}", self.port)
    }
}

/// For any Redis that its user may fill with rubbish: `WAFERGATE_TEST_REDIS_URL=... cargo test --test it -- --ignored redis_that_is_named`.
#[tokio::test]
#[ignore = "needs the URL of a Redis"]
async fn the_redis_that_is_named_is_an_engine() {
    let url = std::env::var(URL).expect("the URL of a Redis");
    let (here, there) = (Node::join(&url).await, Node::join(&url).await);
    let declare_dead = async |node: NodeId| {
        let client = redis::Client::open(url.as_str()).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("connected");
        let (leases, dead) = (format!("{PREFIX}:{{nodes}}:leases"), format!("{PREFIX}:{{nodes}}:dead"));
        let mut commands = redis::pipe();
        commands.cmd("ZADD").arg(dead).arg("9e15").arg(node.to_string());
        commands.cmd("ZREM").arg(leases).arg(node.to_string());
        let changed: (u64, u64) = commands.query_async(&mut connection).await.expect("it has the right");
        assert_eq!(changed, (1, 1));
    };

    conformance::run(&here.ports(), &there.ports()).await;
    conformance::run_shared(&here, &there, declare_dead).await;
}

/// The authorities that are trusted belong to the process, so it takes another one.
#[tokio::test]
async fn over_tls_as_a_user_with_no_more_than_its_rights() {
    let secure = SecureRedis::start().await;

    let child = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "--ignored", "--nocapture", "engine::secure::the_redis_that_is_named_is_an_engine"])
        .env(URL, secure.url("wafergate:password"))
        .env("SSL_CERT_FILE", secure.dir.path().join("authority"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();

    let output = tokio::time::timeout(3 * crate::support::DEADLINE, child).await.expect("in time").expect("started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(secure.redis.denials().await, "");
}

/// A node on a Redis that will not have it; the first line that tells of it.
async fn complaint(url: &str, authority: &std::path::Path) -> String {
    complaint_with(url, authority, "").await
}

/// The same with this password for Sentinels.
async fn complaint_with(url: &str, authority: &std::path::Path, sentinel_password: &str) -> String {
    let mut child: Child = Command::new(env!("CARGO_BIN_EXE_wafergate"))
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .env("WAFERGATE__ENGINE__KIND", "redis")
        .env("WAFERGATE__ENGINE__REDIS_URL", url)
        .env("WAFERGATE__ENGINE__SENTINEL_PASSWORD", sentinel_password)
        .env("WAFERGATE__SERVER__TICKET_KEY", "thirty-two characters or more, just for this")
        .env("SSL_CERT_FILE", authority)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    within("a complaint", async {
        loop {
            let line = lines.next_line().await.expect("text").expect("it runs on");
            let secrets = ["password@", "swordfish", GuardedSentinel::REDIS, GuardedSentinel::SENTINEL];
            assert!(!secrets.iter().any(|secret| line.contains(secret)), "{line}");
            if line.contains("error=") {
                return line;
            }
        }
    })
    .await
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let secure = SecureRedis::start().await;
    let trusted = secure.dir.path().join("authority");
    let stranger = secure.dir.path().join("stranger");
    fs::write(&stranger, Authority::new().pem).expect("written");
    let refused = "the engine is away: open tunnels go on, new ones are refused error=\"user or password in engine.redis_url refused";
    for (login, authority, words) in
        [("wafergate:swordfish", &trusted, refused), ("somebody:swordfish", &trusted, refused)]
    {
        let line = complaint(&secure.url(login), authority).await;
        assert!(line.contains(words), "{login}: {line}");
    }
    let (by_address, by_name) =
        (secure.url("wafergate:swordfish"), secure.url("u:p").replace("127.0.0.1", "localhost"));
    let plain = secure.redis.url().replace("redis:", "rediss:");
    let cluster = by_address.replace("rediss:", "rediss+cluster:");
    for (url, authority, words) in [
        (
            &by_address,
            &stranger,
            "TLS with Redis fails: certificate whose signature does not match the authority of that name",
        ),
        (&by_name, &trusted, "TLS with Redis fails: certificate for 127.0.0.1, not for localhost; correct one of them"),
        (&plain, &trusted, "and with rediss:// in engine.redis_url it must speak TLS on that port"),
        (&cluster, &stranger, "the certificate of a Redis node cannot be verified: "),
    ] {
        let line = complaint(url, authority).await;
        assert!(line.contains(words), "{url}: {line}");
    }

    let lacks = "the user in engine.redis_url lacks a right, deploy/README.md names all it needs: ";
    for (taken, said, means) in [
        ("-eval", "'eval' command", "the engine is away"),
        ("-zadd", "user executing the script can't run this command", "the engine is away"),
        ("resetkeys", "one of the keys", "the engine is away"),
        ("-subscribe", "'subscribe' command", "not reachable by other nodes"),
        ("-publish", "'publish' command", "not reachable by other nodes"),
        ("resetchannels", "one of the channels", "not reachable by other nodes"),
    ] {
        let mut rule = rule(Kind::Single);
        rule.push(taken.to_owned());
        secure.redis.admit(&rule).await;
        let line = complaint(&secure.url("wafergate:password"), &trusted).await;
        assert!([lacks, said, means].iter().all(|words| line.contains(words)), "{taken}: {line}");
    }
}

#[tokio::test]
async fn a_sentinel_with_a_password_is_an_engine() {
    let sentinel = GuardedSentinel::start().await;
    let url = sentinel.url(&format!(":{}@", GuardedSentinel::REDIS));
    let here = Node::join_by(&url, GuardedSentinel::SENTINEL).await;

    conformance::run(&here.ports(), &here.ports()).await;
}

#[tokio::test]
async fn which_of_the_two_passwords_is_missing_is_told() {
    let (sentinel, open) = (GuardedSentinel::start().await, Sentinels::start().await);
    let nowhere = std::path::Path::new("/dev/null");
    let right = format!(":{}@", GuardedSentinel::REDIS);
    let (of_sentinel, of_redis) = (GuardedSentinel::SENTINEL, "in engine.redis_url");
    for (login, password, words) in [
        (right.as_str(), "", "the Sentinels want a password: set engine.sentinel_password"),
        (right.as_str(), "swordfish", "engine.sentinel_password is refused by the Sentinels"),
        (right.as_str(), GuardedSentinel::REDIS, "engine.sentinel_password is refused by the Sentinels"),
        ("", "", "the Sentinels want a password: set engine.sentinel_password"),
        ("", of_sentinel, of_redis),
        (":swordfish@", of_sentinel, of_redis),
    ] {
        let line = complaint_with(&sentinel.url(login), nowhere, password).await;
        assert!(line.contains(words), "{words}: {line}");
        assert_eq!(words == of_redis, !line.contains("Sentinel"), "{line}");
    }
    Node::join_by(&open.url(), "one that is not asked for").await;
}
