//! Checks the certificate that this server presents, without contacting other servers.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use url::Host;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::Encode;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc5280::ANY_EXTENDED_KEY_USAGE;
use x509_cert::der::oid::db::rfc5280::ID_AD_CA_ISSUERS;
use x509_cert::der::oid::db::rfc5280::ID_KP_SERVER_AUTH;
use x509_cert::ext::pkix::AuthorityInfoAccessSyntax;
use x509_cert::ext::pkix::ExtendedKeyUsage;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use crate::clock;

/// Remaining validity from which on a certificate is reported.
pub const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Signatures with MD5 or SHA-1, which clients reject.
const OLD_SIGNATURES: [ObjectIdentifier; 4] = [
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5"),
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"),
    ObjectIdentifier::new_unwrap("1.3.14.3.2.29"),
];

/// Most names listed in a sentence.
const LISTED_NAMES: usize = 5;

/// A reason for which clients reject a certificate, or soon will, with advice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Doubt {
    /// It has expired.
    Expired {
        /// Its subject, unless it is the server's own.
        issuer: Option<String>,
        /// The expiry date.
        since: Duration,
    },
    /// It expires within [`EXPIRES_SOON`].
    ExpiresSoon {
        /// Its subject, unless it is the server's own.
        issuer: Option<String>,
        /// The expiry date.
        at: Duration,
        /// The time left.
        left: Duration,
    },
    /// It is not valid yet.
    NotYetValid {
        /// Its subject, unless it is the server's own.
        issuer: Option<String>,
        /// When it becomes valid.
        from: Duration,
    },
    /// It has no subjectAltName.
    NoNames {
        /// The common name, which clients ignore.
        common_name: Option<String>,
    },
    /// It does not match the host that clients connect to.
    AnotherName {
        /// That host.
        host: String,
        /// The names that it is valid for.
        names: Vec<String>,
    },
    /// The issuer's certificate is neither in the chain nor among the roots.
    NoIntermediate {
        /// The issuer.
        issuer: String,
        /// Where the issuer publishes its certificate.
        url: Option<String>,
    },
    /// The issuer's certificate is in the chain, but not next to it.
    WrongOrder {
        /// The certificate with the misplaced issuer.
        subject: String,
        /// That issuer.
        issuer: String,
    },
    /// Its extended key usage excludes servers.
    NotForServers,
    /// It is signed with MD5 or SHA-1.
    OldSignature,
}

/// When the server's own certificate of `chain` expires, since 1970.
pub fn expiry(chain: &[CertificateDer<'_>]) -> Option<Duration> {
    let own = Certificate::from_der(chain.first()?).ok()?;
    Some(own.tbs_certificate().validity().not_after.to_unix_duration())
}

/// The names that a certificate is valid for: its alternative names, or else its subject.
pub fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = Certificate::from_der(certificate) else { return vec![] };
    let names = alternative_names(&certificate);
    if names.is_empty() { vec![certificate.tbs_certificate().subject().to_string()] } else { names }
}

/// All doubts about `chain`, the server's own certificate first, at `now`, for clients that connect to `host` and trust `roots`.
/// Certificates that cannot be parsed are skipped, because TLS rejects them.
pub fn doubts(
    chain: &[CertificateDer<'_>],
    host: Option<&Host<String>>,
    roots: &RootCertStore,
    now: Duration,
) -> Vec<Doubt> {
    let read = read(chain);
    let Some((own, issuers)) = read.split_first() else { return vec![] };
    let mut doubts = vec![];
    doubts.extend(untimely(own, None, now));
    doubts.extend(wrong_name(own, &chain[0], host));
    doubts.extend(unfit(own));
    // Above an intermediate there may be a private root that clients have and this machine does not.
    match follow(&read, |issuer| is_root(issuer, roots)) {
        Origin::Missing { issuer, url } => doubts.push(Doubt::NoIntermediate { issuer, url }),
        Origin::Misplaced { subject, issuer } => doubts.push(Doubt::WrongOrder { subject, issuer }),
        Origin::Itself | Origin::Authority(_) => {}
    }
    for issuer in issuers {
        doubts.extend(untimely(issuer, Some(called(issuer.tbs_certificate().subject())), now));
    }
    doubts
}

fn read(chain: &[CertificateDer<'_>]) -> Vec<Certificate> {
    chain.iter().map_while(|certificate| Certificate::from_der(certificate).ok()).collect()
}

fn untimely(certificate: &Certificate, issuer: Option<String>, now: Duration) -> Option<Doubt> {
    let validity = certificate.tbs_certificate().validity();
    let (from, until) = (validity.not_before.to_unix_duration(), validity.not_after.to_unix_duration());
    if now > until {
        return Some(Doubt::Expired { issuer, since: until });
    }
    if now < from {
        return Some(Doubt::NotYetValid { issuer, from });
    }
    let left = until - now;
    (left <= EXPIRES_SOON).then_some(Doubt::ExpiresSoon { issuer, at: until, left })
}

fn wrong_name(own: &Certificate, der: &CertificateDer<'_>, host: Option<&Host<String>>) -> Option<Doubt> {
    let names = alternative_names(own);
    if names.is_empty() {
        let subject = own.tbs_certificate().subject();
        let common_name = subject.common_name().ok().flatten().map(|name| name.value().into_owned());
        return Some(Doubt::NoNames { common_name });
    }
    let host = host?;
    let name = match host {
        Host::Ipv4(address) => ServerName::from(IpAddr::V4(*address)),
        Host::Ipv6(address) => ServerName::from(IpAddr::V6(*address)),
        Host::Domain(name) => ServerName::try_from(name.as_str()).ok()?,
    };
    // Names are compared as clients do it: wildcards match one label, addresses match addresses.
    let is_named = verify_server_name(&ParsedCertificate::try_from(der).ok()?, &name).is_ok();
    (!is_named).then(|| Doubt::AnotherName { host: host.to_string(), names })
}

fn unfit(own: &Certificate) -> Option<Doubt> {
    let purposes = own.tbs_certificate().get_extension::<ExtendedKeyUsage>().ok().flatten();
    let is_for_servers = |(_, purposes): &(bool, ExtendedKeyUsage)| {
        purposes.0.iter().any(|purpose| [ID_KP_SERVER_AUTH, ANY_EXTENDED_KEY_USAGE].contains(purpose))
    };
    if purposes.is_some_and(|purposes| !is_for_servers(&purposes)) {
        return Some(Doubt::NotForServers);
    }
    // The self-signature of a root is not checked by clients.
    let is_old = OLD_SIGNATURES.contains(&own.signature_algorithm().oid) && !is_self_issued(own);
    is_old.then_some(Doubt::OldSignature)
}

/// Where the issuers of a chain lead, from the server's own certificate upwards.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// It is self-signed.
    Itself,
    /// The certificate of an issuer is missing.
    Missing {
        /// The issuer.
        issuer: String,
        /// Where the issuer publishes its certificate.
        url: Option<String>,
    },
    /// The certificate of an issuer is in the chain, but not next to the one it issued.
    Misplaced {
        /// The certificate issued by it.
        subject: String,
        /// The issuer.
        issuer: String,
    },
    /// An authority above the last certificate, or the last one itself.
    Authority(String),
}

/// Where `chain` leads; `None` if it cannot be parsed.
pub fn origin(chain: &[CertificateDer<'_>]) -> Option<Origin> {
    let read = read(chain);
    (!read.is_empty()).then(|| follow(&read, |_| false))
}

/// Follows `chain`, which is not empty, until `is_root` accepts an issuer.
fn follow(chain: &[Certificate], is_root: impl Fn(&Name) -> bool) -> Origin {
    let mut place = 0;
    loop {
        let certificate = &chain[place];
        let issuer = certificate.tbs_certificate().issuer();
        let is_issuer = |candidate: &Certificate| candidate.tbs_certificate().subject() == issuer;
        if is_issuer(certificate) && place == 0 {
            return Origin::Itself;
        }
        if is_issuer(certificate) || is_root(issuer) {
            return Origin::Authority(called(issuer));
        }
        if chain.get(place + 1).is_some_and(is_issuer) {
            place += 1;
        } else if chain.iter().any(is_issuer) {
            let subject = called(certificate.tbs_certificate().subject());
            return Origin::Misplaced { subject, issuer: called(issuer) };
        } else if place == 0 {
            return Origin::Missing { issuer: called(issuer), url: issuer_url(certificate) };
        } else {
            return Origin::Authority(called(issuer));
        }
    }
}

fn is_self_issued(certificate: &Certificate) -> bool {
    certificate.tbs_certificate().issuer() == certificate.tbs_certificate().subject()
}

fn is_root(name: &Name, roots: &RootCertStore) -> bool {
    let name = name.to_der().unwrap_or_default();
    roots.subjects().iter().any(|root| root.as_ref() == name)
}

/// The URL at which the issuer of `certificate` publishes its own certificate.
fn issuer_url(certificate: &Certificate) -> Option<String> {
    let (_, access) = certificate.tbs_certificate().get_extension::<AuthorityInfoAccessSyntax>().ok()??;
    access.0.into_iter().find_map(|entry| match entry.access_location {
        GeneralName::UniformResourceIdentifier(url) if entry.access_method == ID_AD_CA_ISSUERS => {
            Some(url.as_str().to_owned())
        }
        _ => None,
    })
}

fn alternative_names(certificate: &Certificate) -> Vec<String> {
    let Ok(Some((_, names))) = certificate.tbs_certificate().get_extension::<SubjectAltName>() else { return vec![] };
    names.0.iter().filter_map(plain_name).collect()
}

/// A host as written in a URL; `None` for names of other kinds.
fn plain_name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let address = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            address.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// The readable form of a name.
fn called(name: &Name) -> String {
    let common_name = name.common_name().ok().flatten().map(|name| name.value().into_owned());
    common_name.unwrap_or_else(|| name.to_string())
}

/// `names` as a list in a sentence.
pub(super) fn list(names: &[String]) -> String {
    let listed = names.iter().take(LISTED_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(LISTED_NAMES) {
        Some(more @ 1..) => format!("{listed} and {more} more"),
        _ => listed,
    }
}

fn days(duration: Duration) -> String {
    match duration.as_secs() / 86_400 {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

impl fmt::Display for Doubt {
    /// The rest of a sentence that begins with the setting.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = |issuer: &Option<String>| match issuer {
            Some(issuer) => format!("holds the certificate of its issuer \"{issuer}\", which "),
            None => String::new(),
        };
        match self {
            Self::Expired { issuer, since } => {
                let (whose, since) = (whose(issuer), clock::rfc3339(*since));
                write!(f, "{whose}expired at {since}: clients refuse it; renew it, then send SIGHUP")
            }
            Self::ExpiresSoon { issuer, at, left } => {
                let (whose, left, at) = (whose(issuer), days(*left), clock::rfc3339(*at));
                write!(f, "{whose}expires in {left}, at {at}; renew it, then send SIGHUP")
            }
            Self::NotYetValid { issuer, from } => {
                let (whose, from) = (whose(issuer), clock::rfc3339(*from));
                write!(f, "{whose}is not valid before {from}: clients refuse it; compare this machine's clock, or wait")
            }
            Self::NoNames { common_name } => {
                f.write_str("has no subjectAltName: clients refuse it")?;
                if let Some(name) = common_name {
                    write!(f, " and do not look at its common name \"{name}\"")?;
                }
                f.write_str("; have it issued with the host as a subjectAltName")
            }
            Self::AnotherName { host, names } => write!(
                f,
                "is for {}, not for {host}, where server.public_url sends clients: they refuse it; name {host} in the \
                 certificate, or correct server.public_url",
                list(names)
            ),
            Self::NoIntermediate { issuer, url } => {
                write!(
                    f,
                    "lacks the certificate of its issuer \"{issuer}\", which is no root that this machine knows: many clients \
                     refuse it; append that intermediate certificate"
                )?;
                match url {
                    Some(url) => write!(f, " ({url}, as PEM)"),
                    None => f.write_str(" (often the file is called fullchain.pem)"),
                }
            }
            Self::WrongOrder { subject, issuer } => write!(
                f,
                "does not have the certificate of \"{issuer}\" right behind that of \"{subject}\", which it issued: some clients \
                 refuse that; write each certificate once, the server's own first, then its issuer, then the issuer of that one"
            ),
            Self::NotForServers => f.write_str(
                "is not for servers: its extended key usage lacks serverAuth, and clients refuse it; have it issued for TLS servers",
            ),
            Self::OldSignature => {
                f.write_str("is signed with MD5 or SHA-1: clients refuse it; have it issued again, signed with SHA-256")
            }
        }
    }
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
