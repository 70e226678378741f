//! `redis_url` in its three forms: one server, Sentinels, or a Cluster.

use percent::decoded;
use redis::Client;
use redis::ConnectionAddr;
use redis::ConnectionInfo;
use redis::IntoConnectionInfo;
use redis::ProtocolVersion;
use redis::RedisConnectionInfo;
use redis::RedisError;

use super::dial::Dial;

mod percent {
    //! `%40` in a user or password.

    /// The text with its percent escapes resolved, if the result is text.
    pub(super) fn decoded(text: &str) -> Option<String> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let digits = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            } else {
                bytes.push(byte);
            }
        }
        String::from_utf8(bytes).ok()
    }
}

/// The text is no address of a Redis. It may hold a password, so it is not repeated.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("engine.redis_url must be redis[s]://, redis[s]+sentinel:// or redis[s]+cluster://, with hosts and ports")]
pub struct UrlError;

/// Where Redis is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) form: Form,
    pub(super) is_tls: bool,
    hosts: Vec<(String, u16)>,
    user: Option<String>,
    password: Option<String>,
    database: i64,
    /// How connections are made, if they are no sockets.
    pub(super) dial: Option<Dial>,
}

/// What is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// One server.
    Single,
    /// Sentinels, which know the master of this service.
    Sentinel(String),
    /// Some nodes of a Cluster.
    Cluster,
}

impl Place {
    /// Reads a `redis_url`.
    pub(super) fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError)?;
        let (transport, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let is_tls = match transport {
            "redis" => false,
            "rediss" => true,
            _ => return Err(UrlError),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        let (user, password) = login.map_or((None, None), |login| {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            (Some(user), Some(password))
        });
        let text = |part: Option<&str>| match part {
            None | Some("") => Ok(None),
            Some(part) => decoded(part).map(Some).ok_or(UrlError),
        };
        let default_port = if kind == "sentinel" { 26_379 } else { 6_379 };
        let hosts: Result<Vec<_>, _> = hosts.split(',').map(|host| host_and_port(host, default_port)).collect();
        let (form, database) = match kind {
            "" => (Form::Single, path),
            "cluster" => (Form::Cluster, path),
            "sentinel" => {
                let (service, database) = path.split_once('/').unwrap_or((path, ""));
                (Form::Sentinel(service.to_owned()), database)
            }
            _ => return Err(UrlError),
        };
        let database = if database.is_empty() { 0 } else { database.parse().map_err(|_| UrlError)? };
        Ok(Self { form, is_tls, hosts: hosts?, user: text(user)?, password: text(password)?, database, dial: None })
    }

    /// Hosts and ports, for people.
    pub(super) fn names(&self) -> String {
        let names: Vec<String> = self.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        names.join(",")
    }

    /// The hosts as the client library wants them.
    pub(super) fn addresses(&self) -> Vec<ConnectionAddr> {
        let address = |(host, port): &(String, u16)| {
            let (host, port) = (host.clone(), *port);
            match self.is_tls {
                true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
                false => ConnectionAddr::Tcp(host, port),
            }
        };
        self.hosts.iter().map(address).collect()
    }

    /// Who logs in, and to which database. Messages from other nodes need version 3 of the protocol; the library's name would
    /// need one right more.
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

    /// Everything about each host.
    pub(super) fn hosts(&self) -> Result<Vec<ConnectionInfo>, RedisError> {
        let addresses = self.addresses().into_iter();
        addresses.map(|address| Ok(address.into_connection_info()?.set_redis_settings(self.login()))).collect()
    }

    /// A client of the one server.
    pub(super) fn client(&self) -> Result<Client, RedisError> {
        let first = self.hosts()?.swap_remove(0);
        Client::open(first)
    }
}

fn host_and_port(text: &str, default_port: u16) -> Result<(String, u16), UrlError> {
    let port_at = text.rfind(':').filter(|at| !text[*at..].contains(']'));
    let (host, port) = match port_at {
        Some(at) => (&text[..at], text[at + 1..].parse().map_err(|_| UrlError)?),
        None => (text, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() { Err(UrlError) } else { Ok((host.to_owned(), port)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_told_apart() {
        let single = Place::parse("redis://u:p%40ss@h:7000/3").expect("read");
        assert_eq!((single.form.clone(), single.is_tls, single.database), (Form::Single, false, 3));
        assert_eq!(single.hosts, [("h".to_owned(), 7_000)]);
        assert_eq!((single.user.as_deref(), single.password.as_deref()), (Some("u"), Some("p@ss")));

        let sentinel = Place::parse("rediss+sentinel://:secret@a,b:1/main/2").expect("read");
        assert_eq!(
            (sentinel.form.clone(), sentinel.is_tls, sentinel.database),
            (Form::Sentinel("main".into()), true, 2)
        );
        assert_eq!(sentinel.hosts, [("a".to_owned(), 26_379), ("b".to_owned(), 1)]);
        assert_eq!((sentinel.user.as_deref(), sentinel.password.as_deref()), (None, Some("secret")));

        let cluster = Place::parse("redis+cluster://a:1,[::1]:2").expect("read");
        assert_eq!(cluster.form, Form::Cluster);
        assert_eq!(cluster.hosts, [("a".to_owned(), 1), ("::1".to_owned(), 2)]);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "redis", "http://h:1", "redis+x://h:1", "redis://", "redis://h:x", "redis://h:1/x", "redis://%zz@h"]
        {
            assert_eq!(Place::parse(text).err(), Some(UrlError), "{text}");
        }
    }
}
