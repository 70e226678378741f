//! Ports that receive URLs may not use by default: other protocols listen there, and may misread a webhook.

/// The bad ports of the Fetch standard, <https://fetch.spec.whatwg.org/#port-blocking>.
const BAD_PORTS: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
    110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531,
    532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060,
    5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Docker, etcd, MySQL, PostgreSQL, Redis, Elasticsearch, memcached and MongoDB: services near a business server.
const SERVICES: [u16; 8] = [2375, 2379, 3306, 5432, 6379, 9200, 11211, 27017];

/// Whether receive URLs may not use `port` by default.
pub(super) fn is_refused(port: u16) -> bool {
    BAD_PORTS.contains(&port) || SERVICES.contains(&port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_web_servers_are_free_and_those_of_others_are_not() {
        for port in [80, 81, 443, 591, 3000, 5000, 8000, 8080, 8081, 8443, 9000, 18013, 65535] {
            assert!(!is_refused(port), "{port}");
        }
        for port in [22, 25, 110, 143, 587, 6000, 6667, 10080, 2375, 2379, 3306, 5432, 6379, 9200, 11211, 27017] {
            assert!(is_refused(port), "{port}");
        }
        assert!(BAD_PORTS.is_sorted(), "each once");
    }
}
