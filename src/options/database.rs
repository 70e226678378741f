//! The address of a MySQL or MariaDB database: `mysql://USER:PASSWORD@HOST:PORT/DATABASE?ssl-mode=...`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::secret::Secret;

/// The port of MySQL and MariaDB.
const PORT: u16 = 3306;

/// Where a database is, and as which user it is used.
#[derive(Clone, Debug)]
pub struct DatabaseUrl {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User.
    pub user: String,
    /// The user's password.
    pub password: Secret,
    /// Name of the database.
    pub database: String,
    /// How the connection is protected.
    pub tls: DatabaseTls,
}

/// How a connection to a database is protected, named as MySQL does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DatabaseTls {
    /// Not at all.
    Disabled,
    /// Encrypted, whoever answers.
    Required,
    /// Encrypted, and the certificate is valid for the host.
    VerifyIdentity {
        /// PEM file with the authorities to trust; none: those of the system.
        authorities: Option<PathBuf>,
    },
}

/// An address that cannot be used. It does not contain the address, which may have a password.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidDatabaseUrl(String);

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let invalid = |advice: &str| InvalidDatabaseUrl(advice.to_owned());
        let form = || invalid("write it as mysql://USER:PASSWORD@HOST:PORT/DATABASE");
        let url = Url::parse(text).ok().filter(|url| url.scheme() == "mysql").ok_or_else(form)?;
        let decoded =
            |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(|_| form());
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(form)?;
        let database = decoded(url.path().trim_start_matches('/'))?;
        if database.is_empty() || database.contains('/') {
            return Err(invalid("it names no database: write it as mysql://USER:PASSWORD@HOST:PORT/DATABASE"));
        }
        if url.username().is_empty() {
            return Err(invalid("it names no user: write it as mysql://USER:PASSWORD@HOST:PORT/DATABASE"));
        }
        let (mut mode, mut authorities) = (String::from("disabled"), None);
        for (name, value) in url.query_pairs() {
            match &*name {
                "ssl-mode" => mode = value.to_ascii_lowercase().replace('-', "_"),
                "ssl-ca" => authorities = Some(PathBuf::from(value.into_owned())),
                _ => return Err(InvalidDatabaseUrl(format!("{name} is unknown: ssl-mode and ssl-ca are known"))),
            }
        }
        let tls = match (&*mode, authorities) {
            ("disabled", None) => DatabaseTls::Disabled,
            ("required", None) => DatabaseTls::Required,
            ("verify_identity", authorities) => DatabaseTls::VerifyIdentity { authorities },
            ("disabled" | "required", Some(_)) => return Err(invalid("ssl-ca is for ssl-mode=verify_identity")),
            _ => return Err(invalid("ssl-mode is disabled, required or verify_identity")),
        };
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(PORT),
            user: decoded(url.username())?,
            password: Secret::new(decoded(url.password().unwrap_or_default())?),
            database,
            tls,
        })
    }
}

impl DatabaseUrl {
    /// Whether others may read what is sent: it leaves this machine without TLS.
    pub fn is_exposed(&self) -> bool {
        let is_here = match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host == "localhost",
        };
        self.tls == DatabaseTls::Disabled && !is_here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read() {
        let url: DatabaseUrl =
            "mysql://wafer:p%40ss%2F1@db.example.com:3307/wafer%2Dgate?ssl-mode=VERIFY-IDENTITY&ssl-ca=/ca.pem"
                .parse()
                .expect("valid");

        assert_eq!((&*url.host, url.port, &*url.user), ("db.example.com", 3307, "wafer"));
        assert_eq!((url.password.expose(), &*url.database), ("p@ss/1", "wafer-gate"));
        assert_eq!(url.tls, DatabaseTls::VerifyIdentity { authorities: Some("/ca.pem".into()) });
        let url: DatabaseUrl = "mysql://root@[::1]/cAuth".parse().expect("valid");
        assert_eq!((&*url.host, url.port, url.password.expose(), &url.tls), ("::1", 3306, "", &DatabaseTls::Disabled));
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_the_password() {
        for (text, advice) in [
            ("mysql:cAuth", "mysql://USER"),
            ("postgres://a:hush@h/d", "mysql://USER"),
            ("mysql://a:hush@h", "no database"),
            ("mysql://a:hush@h/d/e", "no database"),
            ("mysql://h/d", "no user"),
            ("mysql://a:hush@h/d?ssl-mode=preferred", "ssl-mode is"),
            ("mysql://a:hush@h/d?ssl-ca=/a", "verify_identity"),
            ("mysql://a:hush@h/d?charset=latin1", "charset is unknown"),
            ("mysql://a:%ff@h/d", "mysql://USER"),
        ] {
            let error = text.parse::<DatabaseUrl>().expect_err(text).to_string();
            assert!(error.contains(advice) && !error.contains("hush"), "{text}: {error}");
        }
    }

    #[test]
    fn a_connection_that_others_can_read_is_known() {
        for (text, is_exposed) in [
            ("mysql://a@db/d", true),
            ("mysql://a@10.0.0.1/d", true),
            ("mysql://a@db/d?ssl-mode=required", false),
            ("mysql://a@127.0.0.1/d", false),
            ("mysql://a@[::1]/d", false),
            ("mysql://a@localhost/d", false),
        ] {
            assert_eq!(text.parse::<DatabaseUrl>().expect("valid").is_exposed(), is_exposed, "{text}");
        }
    }
}
