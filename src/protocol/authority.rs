//! Host and port as URLs, headers and settings write them.

/// Splits `host:port`; colons inside an IPv6 address belong to the host.
///
/// ```
/// use wafergate::protocol::authority::split_port;
///
/// assert_eq!(split_port("h.example:80"), ("h.example", Some("80")));
/// assert_eq!(split_port("[::1]"), ("[::1]", None));
/// ```
pub fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}
