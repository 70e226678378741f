//! `[session]` and `[[session.apps]]`

use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::Serialize;

use crate::secret::Secret;

use super::key::DAY_SECS;
use super::key::Kind;
use super::key::number;
use super::key::seconds;
use super::section::section;

section! {
    /// The session service: it logs users of mini-programs in.
    [session]
    #[derive(Clone, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Session {
        /// true: this node logs users in, for Wafer SDKs at /mina_auth/ and for others by /v1/sessions.
        enabled: bool = false, Kind::Flag;
        /// Where users and sessions are kept, a secret because it may contain a password:
        ///   `sqlite:///PATH` is a file of this node; its folder must exist
        ///   `mysql://USER:PASSWORD@HOST:PORT/DATABASE` is a MySQL or MariaDB database, for several nodes; special characters of the
        ///   password are written as %XX. `?ssl-mode=required` encrypts, `?ssl-mode=verify_identity` checks the certificate too, by the
        ///   authorities of the system or of `&ssl-ca=FILE`
        ///   `memory` forgets all at the end, for tests
        /// With any store but memory `server.ticket_key` is required and must stay the same.
        store: Secret = "sqlite:///var/lib/wafergate/sessions.db", Kind::Secret;
        /// How long a session lives from its login, in days, whether it is used or not.
        login_days: u64 = 30, number(1, 3650, "days");
        /// How long a session lives without being used, in seconds. The default is the whole life.
        idle_secs: u64 = 2_592_000, seconds(60, 3650 * DAY_SECS);
        /// Most sessions of a user: a further login ends the oldest one. 1 lets each login end the one before, as Wafer did.
        sessions_per_user: usize = 8, number(1, 1000, "sessions");
        /// Address of WeChat, for tests or a proxy. Anything but https must be on this machine.
        wechat_url: String = "https://api.weixin.qq.com", Kind::Text;
        /// Time limit for one request to WeChat, in milliseconds. The SDKs wait 30 seconds for the whole login.
        wechat_timeout_ms: u64 = 5000, number(100, 25_000, "milliseconds");
        /// Networks (CIDR) of the business servers that may use /mina_auth/ without a key in the address: Wafer's protocol has no other
        /// credentials. An address with the `wafer_key` of an app may be used from anywhere.
        wafer_allow_networks: Vec<IpNet> = ["127.0.0.0/8", "::1/128"], Kind::Networks;
    }
    /// `[[session.apps]]`
    apps: Vec<App>
}

section! {
    /// The mini-programs, one `[[session.apps]]` block each. None by default; `wafergate app add` keeps them in the store instead.
    /// SIGHUP reloads them.
    [apps]
    #[derive(Clone, Debug, Default, Deserialize, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct App {
        /// The appId of the mini-program.
        app_id: String = "", Kind::Text, "wx4f4bc4dec97d474b";
        /// Its appSecret; several lines while it is replaced, each of which is tried. `secret_file` keeps it in a separate file.
        secret: Secret = "", Kind::Secret, "0123456789abcdef0123456789abcdef";
        /// The tenant whose business servers may use its sessions by /v1/sessions: its `server_host` or `id`. Empty: only Wafer SDKs
        /// use them.
        tenant: String = "", Kind::Text, "api.example.com";
        /// Key in the address of its Wafer SDKs, 16 characters or more: AuthServerUrl is https://HOST/mina_auth/APP_ID/KEY. Empty: the
        /// plain address /mina_auth/ means this app, which is possible for one app.
        wafer_key: Secret = "", Kind::Secret;
        /// true: its tenant may read the access token, for WeChat's other calls.
        share_access_token: bool = false, Kind::Flag;
    }
}

impl Session {
    /// Longest life of a session.
    pub fn login(&self) -> Duration {
        Duration::from_secs(self.login_days * DAY_SECS.unsigned_abs())
    }

    /// Longest time between two visits.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_secs)
    }

    /// Time limit for one request to WeChat.
    pub fn wechat_timeout(&self) -> Duration {
        Duration::from_millis(self.wechat_timeout_ms)
    }

    /// The kind of store, if it can be read.
    pub fn store_kind(&self) -> Option<StoreKind<'_>> {
        let store = self.store.expose();
        match store.strip_prefix("sqlite://") {
            Some(path) if path.starts_with('/') && path.len() > 1 && !path.ends_with('/') => {
                Some(StoreKind::Sqlite(path))
            }
            None if store == "memory" => Some(StoreKind::Memory),
            None if store.starts_with("mysql://") => Some(StoreKind::MySql(store)),
            _ => None,
        }
    }
}

impl App {
    /// Its secrets, one a line.
    pub fn secrets(&self) -> Vec<Secret> {
        self.secret.expose().lines().map(str::trim).filter(|line| !line.is_empty()).map(Secret::new).collect()
    }
}

/// Where sessions are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreKind<'a> {
    /// In this process.
    Memory,
    /// In the SQLite file at this path.
    Sqlite(&'a str),
    /// In the database at this address, which is a [`DatabaseUrl`](super::DatabaseUrl).
    MySql(&'a str),
}
