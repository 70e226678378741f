//! Addresses by which clouds serve their machines: metadata, agents, name servers. They answer from inside the cloud
//! like private networks, although no registry lists them.
//!
//! Only documented addresses are listed. Most clouds use link-local, carrier-shared or unique local addresses, which
//! are not public anyway: AWS (169.254.169.254, 169.254.170.2, fd00:ec2::254), Google (169.254.169.254, fd20:ce::254),
//! Oracle (169.254.169.254, fd00:c1::a9fe:a9fe), Alibaba (100.100.100.200), Tencent (169.254.0.23), Huawei
//! (169.254.169.254, 100.125.0.0/16), Volcengine (100.96.0.96), Scaleway (169.254.42.42, fd00:42::42), Akamai
//! (fd00:a9fe:a9fe::1), OpenStack (fe80::a9fe:a9fe) and Oracle's old one, 192.0.0.192.

use std::net::IpAddr;

use ipnet::IpNet;

use super::networks::v4;
use super::networks::v6;

/// A block, its description, and the documentation of its cloud.
pub(super) struct Platform {
    pub(super) network: IpNet,
    pub(super) block: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "for maintainers of this list"))]
    source: &'static str,
}

const fn platform(network: IpNet, block: &'static str, source: &'static str) -> Platform {
    Platform { network, block, source }
}

const AZURE: &str = "https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16";
const GOOGLE: &str = "https://cloud.google.com/vpc/docs/configure-private-google-access";
const TENCENT: &str = "https://cloud.tencent.com/document/product/213/5225";
const IBM: &str = "https://cloud.ibm.com/docs/vpc?topic=vpc-service-endpoints-for-vpc";
const HETZNER: &str = "https://docs.hetzner.com/dns-console/dns/general/recursive-name-servers/";
const UPCLOUD: &str = "https://upcloud.com/resources/tutorials/dns-servers";

/// Blocks that the IANA registries do not list.
pub(super) const PLATFORMS: &[Platform] = &[
    platform(v4([168, 63, 129, 16], 32), "the platform of Azure: agents, name servers, probes", AZURE),
    platform(v4([199, 36, 153, 4], 30), "Google's services for machines in its cloud", GOOGLE),
    platform(v4([199, 36, 153, 8], 30), "Google's services for machines in its cloud", GOOGLE),
    platform(v6([0x2600, 0x2d00, 2, 0x1000, 0, 0, 0, 0], 64), "Google's services for machines in its cloud", GOOGLE),
    platform(v6([0x2600, 0x2d00, 2, 0x2000, 0, 0, 0, 0], 64), "Google's services for machines in its cloud", GOOGLE),
    platform(v4([183, 60, 82, 98], 32), "a name server for machines in Tencent's cloud", TENCENT),
    platform(v4([183, 60, 83, 19], 32), "a name server for machines in Tencent's cloud", TENCENT),
    platform(v4([161, 26, 0, 0], 16), "IBM's services for machines in its cloud", IBM),
    platform(v4([166, 8, 0, 0], 14), "IBM's services for machines in its cloud", IBM),
    platform(v4([185, 12, 64, 1], 32), "a name server for machines at Hetzner", HETZNER),
    platform(v4([185, 12, 64, 2], 32), "a name server for machines at Hetzner", HETZNER),
    platform(v6([0x2a01, 0x4ff, 0xff00, 0, 0, 0, 0xadd, 1], 128), "a name server for machines at Hetzner", HETZNER),
    platform(v6([0x2a01, 0x4ff, 0xff00, 0, 0, 0, 0xadd, 2], 128), "a name server for machines at Hetzner", HETZNER),
    platform(v4([94, 237, 40, 9], 32), "a name server for machines at UpCloud", UPCLOUD),
    platform(v4([94, 237, 127, 9], 32), "a name server for machines at UpCloud", UPCLOUD),
    platform(v6([0x2a04, 0x3540, 0x53, 0, 0, 0, 0, 1], 128), "a name server for machines at UpCloud", UPCLOUD),
    platform(v6([0x2a04, 0x3544, 0x53, 0, 0, 0, 0, 1], 128), "a name server for machines at UpCloud", UPCLOUD),
];

/// Addresses that serve machine credentials to any local process, in networks that an operator may allow.
pub const METADATA: &[(&str, &str)] = &[
    ("169.254.169.254", "most clouds"),
    ("169.254.170.2", "AWS"),
    ("169.254.170.23", "AWS"),
    ("169.254.0.23", "Tencent"),
    ("169.254.42.42", "Scaleway"),
    ("100.100.100.200", "Alibaba"),
    ("100.96.0.96", "Volcengine"),
    ("192.0.0.192", "Oracle"),
    ("168.63.129.16", "Azure"),
    ("fd00:ec2::254", "AWS"),
    ("fd00:ec2::23", "AWS"),
    ("fd20:ce::254", "Google"),
    ("fd00:c1::a9fe:a9fe", "Oracle"),
    ("fd00:42::42", "Scaleway"),
    ("fd00:a9fe:a9fe::1", "Akamai"),
    ("fe80::a9fe:a9fe", "OpenStack"),
];

/// The first metadata service in `network`: its address and cloud.
pub fn metadata_in(network: &IpNet) -> Option<(IpAddr, &'static str)> {
    let services = METADATA.iter().filter_map(|(address, cloud)| Some((address.parse().ok()?, *cloud)));
    services.into_iter().find(|(address, _)| network.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_client::guard::Guard;

    #[test]
    fn each_block_has_a_source_and_no_bits_beyond_its_prefix() {
        for platform in PLATFORMS {
            assert!(platform.source.starts_with("https://"), "{}", platform.network);
            assert_eq!(platform.network.network(), platform.network.addr(), "{}", platform.network);
        }
    }

    #[test]
    fn every_documented_metadata_service_is_refused() {
        for (address, cloud) in METADATA {
            let address: IpAddr = address.parse().expect("an address");
            assert!(Guard::default().admits(address).is_err(), "{address} of {cloud}");
        }
    }

    #[test]
    fn an_allowed_network_that_holds_a_metadata_service_is_known() {
        let network = |text: &str| text.parse::<IpNet>().expect("a network");
        assert_eq!(metadata_in(&network("100.64.0.0/10")).map(|(_, cloud)| cloud), Some("Alibaba"));
        assert_eq!(metadata_in(&network("fd00::/8")).map(|(_, cloud)| cloud), Some("AWS"));
        assert_eq!(metadata_in(&network("10.0.0.0/8")), None);
    }
}
