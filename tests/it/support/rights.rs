//! The rights of a Redis user, as `deploy/README.md` tells the operator to give them.

use std::fs;
use std::path::Path;

use super::Redis;

/// The kind of Redis.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Single,
    Sentinel,
    Cluster,
}

/// The rule for a user `wafergate` with the password `password`.
pub(crate) fn rule(kind: Kind) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/README.md");
    let text = fs::read_to_string(path).expect("readable");
    let heading = match kind {
        Kind::Single => "# one server",
        Kind::Sentinel => "# behind Sentinels",
        Kind::Cluster => "# a Cluster",
    };
    let mut lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let words = lines.next().and_then(|line| line.strip_prefix("user wafergate ")).expect("a rule behind its heading");
    words.split_whitespace().map(str::to_owned).collect()
}

impl Redis {
    /// Makes the user, and begins to count commands.
    pub(crate) async fn admit(&self, rule: &[String]) {
        let words: Vec<&str> =
            ["ACL", "SETUSER", "wafergate", "reset"].into_iter().chain(rule.iter().map(String::as_str)).collect();
        assert_eq!(self.command(&words).await, "+OK\r\n");
        self.command(&["CONFIG", "RESETSTAT"]).await;
    }

    /// Commands that Redis denied to users; empty if all were allowed.
    pub(crate) async fn denials(&self) -> String {
        let log = self.command(&["ACL", "LOG"]).await;
        if log == "*0\r\n" { String::new() } else { log }
    }

    /// The commands that anybody has used, in small letters.
    pub(crate) async fn commands(&self) -> Vec<String> {
        let stats = self.command(&["INFO", "commandstats"]).await;
        let names = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next());
        names.map(str::to_owned).collect()
    }
}
