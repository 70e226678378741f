//! Several Redis servers of one deployment: a master with a replica and Sentinels, or a Cluster.

use std::fs;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::sleep;

use super::Redis;
use super::redis;

/// How long a failover may take.
const FAILOVER: Duration = Duration::from_secs(30);

/// A master, a replica, and three Sentinels that watch them.
pub(crate) struct Sentinels {
    pub(crate) master: Redis,
    pub(crate) replica: Redis,
    sentinels: Vec<Sentinel>,
}

struct Sentinel {
    port: u16,
    child: Child,
    _dir: TempDir,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sentinels {
    pub(crate) async fn start() -> Self {
        let master = Redis::start().await;
        let port = master.port.to_string();
        let replica = Redis::with(&["--replicaof", "127.0.0.1", &port, "--enable-debug-command", "local"]).await;
        let mut sentinels = vec![];
        for _ in 0..3 {
            sentinels.push(sentinel(master.port).await);
        }
        let all = Self { master, replica, sentinels };
        // A failover needs a Sentinel that knows the replica and the other Sentinels.
        for sentinel in &all.sentinels {
            until("the Sentinels know each other", async || {
                let info = redis::ask(sentinel.port, &["INFO", "sentinel"]).await.unwrap_or_default();
                info.contains("slaves=1,sentinels=3")
            })
            .await;
        }
        until("the replica is in sync", async || {
            all.replica.command(&["INFO", "replication"]).await.contains("master_link_status:up")
        })
        .await;
        all
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/main", hosts.join(","))
    }

    /// Kills the master. The replica has lagged behind: it has what it had when its [snapshot](Redis::snapshot) was taken.
    pub(crate) async fn fail_over_to_the_past(&mut self) {
        self.master.kill();
        assert_eq!(self.replica.command(&["DEBUG", "RELOAD", "NOSAVE"]).await, "+OK\r\n");
        self.promoted().await;
    }

    /// Lets in so many users, each of whom can be cut off.
    pub(crate) async fn admit(&self, users: usize) {
        for server in [&self.master, &self.replica] {
            for user in 0..users {
                let rule = ["ACL", "SETUSER", &format!("user{user}"), "on", ">word", "~*", "&*", "+@all"];
                assert_eq!(server.command(&rule).await, "+OK\r\n");
            }
        }
    }

    /// The same address for one of the users.
    pub(crate) fn url_of(&self, user: usize) -> String {
        self.url().replace("://", &format!("://user{user}:word@"))
    }

    /// Cuts the master off from its replica, from the Sentinels and from all of the users but the first.
    pub(crate) async fn cut_off(&self, users: usize) {
        for user in 1..users {
            let user = format!("user{user}");
            self.master.run_all(&[&["ACL", "SETUSER", &user, "off"], &["CLIENT", "KILL", "USER", &user]]).await;
        }
        self.master.run_all(&[&["ACL", "SETUSER", "default", "off"], &["CLIENT", "KILL", "USER", "default"]]).await;
    }

    /// Adds a Sentinel that is asked first and reaches only the [cut off](Self::cut_off) master, by the way of the first user.
    pub(crate) async fn add_a_stale_one(&mut self) {
        let login = "sentinel auth-user main user0\nsentinel auth-pass main word\n";
        let stale = sentinel_with(self.master.port, login).await;
        until("it finds the old master in order", async || {
            let info = redis::ask(stale.port, &["INFO", "sentinel"]).await.unwrap_or_default();
            info.contains("status=ok") && info.contains(&format!(":{},", self.master.port))
        })
        .await;
        self.sentinels.insert(0, stale);
    }

    /// Waits until the replica has become the master.
    pub(crate) async fn promoted(&self) {
        until("the replica is promoted", async || {
            self.replica.command(&["INFO", "replication"]).await.contains("role:master")
        })
        .await;
    }

    /// Waits until the old master has become a replica.
    pub(crate) async fn demoted(&self) {
        until("the old master is a replica", async || {
            self.master.command(&["INFO", "replication"]).await.contains("role:slave")
        })
        .await;
    }
}

/// A master and one Sentinel, both of which want passwords.
pub(crate) struct GuardedSentinel {
    sentinel: Sentinel,
    _master: Redis,
}

impl GuardedSentinel {
    /// The password of Redis.
    pub(crate) const REDIS: &str = "of-redis";
    /// The password of the Sentinel.
    pub(crate) const SENTINEL: &str = "of-sentinel";

    pub(crate) async fn start() -> Self {
        let master = Redis::with(&["--requirepass", Self::REDIS]).await;
        let lines = format!("requirepass {}\nsentinel auth-pass main {}\n", Self::SENTINEL, Self::REDIS);
        Self { sentinel: sentinel_with(master.port, &lines).await, _master: master }
    }

    /// Its URL with these credentials.
    pub(crate) fn url(&self, login: &str) -> String {
        format!("redis+sentinel://{login}127.0.0.1:{}/main", self.sentinel.port)
    }
}

async fn sentinel(master: u16) -> Sentinel {
    sentinel_with(master, "").await
}

/// One with more lines in its configuration.
async fn sentinel_with(master: u16, lines: &str) -> Sentinel {
    for _ in 0..50 {
        let port = redis::free_port();
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("sentinel.conf");
        let config = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 10000\n{lines}",
            dir.path().display()
        );
        fs::write(&file, config).expect("written");
        let mut child = Command::new("redis-sentinel")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-sentinel is installed");
        if redis::comes_up(port, &mut child).await {
            return Sentinel { port, child, _dir: dir };
        }
    }
    panic!("no redis-sentinel could be started");
}

/// Three masters with a replica each.
pub(crate) struct RedisCluster {
    /// The masters first, then the replicas.
    pub(crate) servers: Vec<Redis>,
}

impl RedisCluster {
    pub(crate) async fn start() -> Self {
        Self::with_replicas(1).await
    }

    /// Three masters with so many replicas each.
    pub(crate) async fn with_replicas(replicas: usize) -> Self {
        let count = 3 * (1 + replicas);
        let options =
            ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-config-file", "nodes.conf"];
        let mut servers = vec![];
        for _ in 0..count {
            servers.push(Redis::with(&options).await);
        }
        let status = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(servers.iter().map(|server| format!("127.0.0.1:{}", server.port)))
            .args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"])
            .stdout(Stdio::null())
            .status()
            .expect("redis-cli is installed");
        assert!(status.success());
        let cluster = Self { servers };
        for server in &cluster.servers {
            until("the Cluster is whole", async || {
                let info = server.command(&["CLUSTER", "INFO"]).await;
                info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{count}\r"))
            })
            .await;
        }
        until("the replicas are in sync", async || {
            for server in &cluster.servers {
                if server.command(&["INFO", "replication"]).await.contains("master_link_status:down") {
                    return false;
                }
            }
            true
        })
        .await;
        cluster
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<String> = self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// The place of the master that holds a key.
    pub(crate) async fn master_of(&self, key: &str) -> usize {
        for (place, server) in self.servers.iter().enumerate() {
            let is_master = server.command(&["ROLE"]).await.contains("master");
            if is_master && !server.command(&["EXISTS", key]).await.contains("MOVED") {
                return place;
            }
        }
        panic!("nobody holds {key}");
    }

    /// The keys of this pattern, wherever they are.
    pub(crate) async fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys = vec![];
        for server in &self.servers {
            keys.extend(server.keys(pattern).await);
        }
        keys.sort();
        keys.dedup();
        keys
    }

    /// Moves the slot of a key, with all that is in it, to another master.
    pub(crate) async fn move_slot_of(&self, key: &str) {
        let from = self.master_of(key).await;
        let mut to = from;
        while to == from || !self.servers[to].command(&["ROLE"]).await.contains("master") {
            to = (to + 1) % self.servers.len();
        }
        let (from, to) = (&self.servers[from], &self.servers[to]);
        let text = |answer: String| answer.lines().last().unwrap_or_default().trim_start_matches(':').to_owned();
        let slot = text(from.command(&["CLUSTER", "KEYSLOT", key]).await);
        let (old, new) = (text(from.command(&["CLUSTER", "MYID"]).await), text(to.command(&["CLUSTER", "MYID"]).await));
        assert_eq!(to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &old]).await, "+OK\r\n");
        assert_eq!(from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &new]).await, "+OK\r\n");
        loop {
            let answer = from.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await;
            let keys: Vec<&str> = answer.lines().filter(|line| line.starts_with("wafergate:")).collect();
            if keys.is_empty() {
                break;
            }
            let port = to.port.to_string();
            let migrate = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            from.command(&[&migrate[..], &keys].concat()).await;
        }
        for server in [to, from].into_iter().chain(&self.servers) {
            if server.command(&["ROLE"]).await.contains("master") {
                assert_eq!(server.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &new]).await, "+OK\r\n");
            }
        }
    }

    /// Waits until the others do without a server that was killed.
    pub(crate) async fn without(&self, killed: usize) {
        let witness = &self.servers[(killed + 1) % self.servers.len()];
        let port = self.servers[killed].port;
        until("a replica is promoted", async || {
            let nodes = witness.command(&["CLUSTER", "NODES"]).await;
            let masters = nodes.lines().filter(|line| line.contains("master") && !line.contains("fail")).count();
            nodes.contains(&format!(":{port}@")) && masters == 3
        })
        .await;
    }
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let done = tokio::time::timeout(FAILOVER, async {
        while !is_so().await {
            sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(done.await.is_ok(), "{what}: not within {FAILOVER:?}");
}
