//! `redis_url` in its three forms: one server, Sentinels, or a Cluster.

use percent_encoding::percent_decode_str;
use redis::Client;
use redis::ConnectionAddr;
use redis::ConnectionInfo;
use redis::IntoConnectionInfo;
use redis::ProtocolVersion;
use redis::RedisConnectionInfo;
use redis::RedisError;
use url::Host;

use super::dial::Dial;
use crate::protocol::authority::split_port;

/// Why a Redis URL is invalid, and the correct topology. The text is not repeated, since it may hold a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UrlError {
    /// Unknown scheme.
    #[error("must begin with redis://, rediss://, redis[s]+sentinel:// or redis[s]+cluster://")]
    Scheme,
    /// Invalid escapes before the @.
    #[error("has a user or password with a % that begins no escape; write % as %25, @ as %40 and / as %2F in them")]
    Login,
    /// Not exactly one host.
    #[error("must name one host and port: redis[s]://[user:pass@]host:port[/db]")]
    Host,
    /// The database is not a number.
    #[error("must end with a database number or nothing: redis[s]://[user:pass@]host:port[/db]")]
    Database,
    /// Missing hosts or service.
    #[error("must be redis[s]+sentinel://[user:pass@]host1:port1,host2:port2/service[/db]")]
    Sentinels,
    /// A database, which a Cluster does not have.
    #[error("must be redis[s]+cluster://[user:pass@]host1:port1,host2:port2, without a database")]
    Cluster,
}

/// Location of Redis and login.
#[derive(Clone, Debug)]
pub(super) struct RedisUrl {
    pub(super) topology: Topology,
    pub(super) is_tls: bool,
    hosts: Vec<(String, u16)>,
    user: Option<String>,
    password: Option<String>,
    database: i64,
    /// The password of the Sentinels.
    pub(super) sentinel_password: Option<String>,
    /// How connections are opened without sockets.
    pub(super) dial: Option<Dial>,
}

/// The topology of Redis.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Topology {
    /// One server.
    Single,
    /// Sentinels, which know the master of this service.
    Sentinel(String),
    /// Some nodes of a Cluster.
    Cluster,
}

impl RedisUrl {
    /// Parses a `redis_url`.
    pub(super) fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let (transport, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let is_tls = match transport {
            "redis" => false,
            "rediss" => true,
            _ => return Err(UrlError::Scheme),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (topology, database, defect) = match kind {
            "" => (Topology::Single, path, UrlError::Host),
            "cluster" => (Topology::Cluster, path, UrlError::Cluster),
            "sentinel" => {
                let (service, database) = path.split_once('/').unwrap_or((path, ""));
                (Topology::Sentinel(service.to_owned()), database, UrlError::Sentinels)
            }
            _ => return Err(UrlError::Scheme),
        };
        let (login, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        let (user, password) = login.map_or((None, None), |login| {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            (Some(user), Some(password))
        });
        let text = |part: Option<&str>| match part {
            None | Some("") => Ok(None),
            Some(part) => decoded(part).map(Some).ok_or(UrlError::Login),
        };
        let (user, password) = (text(user)?, text(password)?);
        let default_port = if kind == "sentinel" { 26_379 } else { 6_379 };
        let hosts: Option<Vec<_>> = hosts.split(',').map(|host| host_and_port(host, default_port)).collect();
        let hosts = hosts.ok_or(defect)?;
        let is_right = match &topology {
            Topology::Single => hosts.len() == 1,
            Topology::Sentinel(service) => !service.is_empty(),
            Topology::Cluster => database.is_empty(),
        };
        if !is_right {
            return Err(defect);
        }
        let of_database = |_| if topology == Topology::Single { UrlError::Database } else { defect };
        let database = if database.is_empty() { 0 } else { database.parse::<u16>().map_err(of_database)?.into() };
        Ok(Self { topology, is_tls, hosts, user, password, database, sentinel_password: None, dial: None })
    }

    /// Hosts and ports for logs.
    pub(super) fn names(&self) -> String {
        let names: Vec<String> = self.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        names.join(",")
    }

    /// The hosts in the topology of the client library.
    pub(super) fn addresses(&self) -> Vec<ConnectionAddr> {
        self.hosts.iter().map(|(host, port)| self.address(host.clone(), *port)).collect()
    }

    /// A host as the client library writes it, reached as the hosts of this URL are.
    pub(super) fn address(&self, host: String, port: u16) -> ConnectionAddr {
        match self.is_tls {
            true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            false => ConnectionAddr::Tcp(host, port),
        }
    }

    /// User, password and database. Messages of other nodes need RESP3; setting the library name would need one more
    /// permission.
    pub(super) fn login(&self) -> RedisConnectionInfo {
        let mut login = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(self.database)
            .set_skip_set_lib_name();
        if let Some(user) = &self.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password);
        }
        login
    }

    /// Connection details of each host.
    pub(super) fn hosts(&self) -> Result<Vec<ConnectionInfo>, RedisError> {
        let addresses = self.addresses().into_iter();
        addresses.map(|address| Ok(address.into_connection_info()?.set_redis_settings(self.login()))).collect()
    }

    /// A client of the single server.
    pub(super) fn client(&self) -> Result<Client, RedisError> {
        let first = self.hosts()?.swap_remove(0);
        Client::open(first)
    }
}

/// The text with its percent escapes resolved; `None` if a `%` begins none, or it is not UTF-8.
fn decoded(text: &str) -> Option<String> {
    let is_escape =
        |rest: &str| rest.get(..2).is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let are_escapes = text.split('%').skip(1).all(is_escape);
    are_escapes.then(|| percent_decode_str(text).decode_utf8().ok())?.map(Into::into)
}

/// `host` or `host:port`; IPv6 in brackets.
fn host_and_port(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = split_port(text);
    let port = port.map_or(Some(default_port), |port| port.parse().ok())?;
    let host = match Host::parse(host).ok()? {
        // Kept as written: a name may mean something to the resolver.
        Host::Domain(_) => host.to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    (port != 0).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_told_apart() {
        let single = RedisUrl::parse("redis://u:p%40ss@h:7000/3").expect("read");
        assert_eq!((single.topology.clone(), single.is_tls, single.database), (Topology::Single, false, 3));
        assert_eq!(single.hosts, [("h".to_owned(), 7_000)]);
        assert_eq!((single.user.as_deref(), single.password.as_deref()), (Some("u"), Some("p@ss")));

        let sentinel = RedisUrl::parse("rediss+sentinel://:secret@a,b:1/main/2").expect("read");
        assert_eq!(
            (sentinel.topology.clone(), sentinel.is_tls, sentinel.database),
            (Topology::Sentinel("main".into()), true, 2)
        );
        assert_eq!(sentinel.hosts, [("a".to_owned(), 26_379), ("b".to_owned(), 1)]);
        assert_eq!((sentinel.user.as_deref(), sentinel.password.as_deref()), (None, Some("secret")));

        let cluster = RedisUrl::parse("redis+cluster://a:1,[::1]:2").expect("read");
        assert_eq!(cluster.topology, Topology::Cluster);
        assert_eq!(cluster.hosts, [("a".to_owned(), 1), ("::1".to_owned(), 2)]);
    }

    #[test]
    fn anything_else_is_refused_with_advice() {
        for (text, error) in [
            ("", UrlError::Scheme),
            ("redis", UrlError::Scheme),
            ("127.0.0.1:6379", UrlError::Scheme),
            ("http://h:1", UrlError::Scheme),
            ("redis+x://h:1", UrlError::Scheme),
            ("redis://%zz@h", UrlError::Login),
            ("redis://user:%zz@h", UrlError::Login),
            ("redis://user:100%@h", UrlError::Login),
            ("redis+cluster://:%f@h", UrlError::Login),
            ("redis://", UrlError::Host),
            ("redis://u:p@", UrlError::Host),
            ("redis://h:1,h:2", UrlError::Host),
            ("redis://h:x", UrlError::Host),
            ("redis://h:0", UrlError::Host),
            ("redis://h:65536", UrlError::Host),
            ("redis://a b:1", UrlError::Host),
            ("redis://::1", UrlError::Host),
            ("redis://h:1/x", UrlError::Database),
            ("redis://h:1/-1", UrlError::Database),
            ("redis://h:1/0?protocol=resp3", UrlError::Database),
            ("redis+sentinel://h:1", UrlError::Sentinels),
            ("redis+sentinel://h:1/", UrlError::Sentinels),
            ("redis+sentinel://h:1,/main", UrlError::Sentinels),
            ("redis+sentinel://h:1/main/x", UrlError::Sentinels),
            ("redis+cluster://h:1/2", UrlError::Cluster),
            ("redis+cluster://h:1,", UrlError::Cluster),
        ] {
            assert_eq!(RedisUrl::parse(text).err(), Some(error), "{text}");
        }
    }

    #[test]
    fn every_form_that_is_documented_is_read() {
        for text in [
            "redis://127.0.0.1:6379",
            "redis://redis_1:6379",
            "rediss://user:p%40ss@h:1/15",
            "redis://:p@ss@h:1",
            "redis://[::1]:6379/0",
            "redis+sentinel://:p@h1:1,h2:2/main",
            "rediss+sentinel://h1:1/main/3",
            "redis+cluster://h1:1,h2:2",
            "rediss+cluster://u:p@h1:1",
        ] {
            assert!(RedisUrl::parse(text).is_ok(), "{text}");
        }
    }
}
