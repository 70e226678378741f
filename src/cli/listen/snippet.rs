//! `--print-config`: what to set in each SDK, so that its events come to this listener.

use clap::ValueEnum;

/// An SDK of a business server.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Sdk {
    /// qcloud-weapp-server-sdk
    Node1,
    /// wafer-node-sdk
    Node2,
    /// qcloud/weapp-sdk
    Php,
    /// The Java SDK
    Java,
    /// The C# SDK
    Csharp,
    /// The native API, without an SDK
    Native,
}

/// The lines to write into the configuration of an SDK. `gateway` has no slash at its end.
pub(super) fn snippet(sdk: Sdk, gateway: &str, name: &str) -> String {
    let url = format!("{gateway}/@{name}");
    match sdk {
        Sdk::Node1 => format!(
            "qcloud.config({{\n    TunnelServerUrl: '{url}',\n    // ServerHost, TunnelSignatureKey and the rest as they are\n}});\n"
        ),
        Sdk::Node2 => format!(
            "const qcloud = require('wafer-node-sdk')({{\n    ...config,\n    tunnelServerUrl: '{url}',\n}});\n"
        ),
        Sdk::Php => format!(
            "\\QCloud_WeApp_SDK\\Conf::setup(array(\n    'TunnelServerUrl' => '{url}',\n    // ServerHost, TunnelSignatureKey and the rest as they are\n));\n"
        ),
        Sdk::Java | Sdk::Csharp => format!("{{\n    \"tunnelServerUrl\": \"{url}\"\n}}\n"),
        Sdk::Native => {
            format!(
                "POST {gateway}/v1/tunnels\n\n{{\"connector\": \"{name}\", \"webhookUrl\": \"http://localhost/events\"}}\n"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sdk_is_sent_to_the_name() {
        for sdk in [Sdk::Node1, Sdk::Node2, Sdk::Php, Sdk::Java, Sdk::Csharp] {
            let text = snippet(sdk, "https://ws.example.com", "ann");
            assert!(text.contains("https://ws.example.com/@ann") && text.ends_with('\n'), "{text}");
        }
        assert!(snippet(Sdk::Native, "https://ws.example.com", "ann").contains("\"connector\": \"ann\""));
    }
}
