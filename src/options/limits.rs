//! `[limits]`, and the overrides of a tenant.

use serde::Deserialize;
use serde::Serialize;

use super::key::BILLION;
use super::key::number;
use super::section::section;

/// Defines a section whose keys each tenant may override.
macro_rules! limits {
    (
        $(#[doc = $about:literal])*
        [$section:ident]
        $(#[$attribute:meta])*
        pub struct $name:ident {
            $($(#[doc = $doc:literal])* $field:ident: $type:ty = $default:tt, $kind:expr;)*
        }
    ) => {
        section! {
            $(#[doc = $about])*
            [$section]
            $(#[$attribute])*
            pub struct $name {
                $($(#[doc = $doc])* $field: $type = $default, $kind;)*
            }
        }

        /// Limits that a tenant overrides; absent ones come from `[limits]`.
        #[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct LimitOverrides {
            $(
                $(#[doc = $doc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
        }

        impl LimitOverrides {
            /// Applies these overrides to `base`.
            pub fn over(&self, base: $name) -> $name {
                $name { $($field: self.$field.unwrap_or(base.$field)),* }
            }
        }
    };
}

limits! {
    /// What one tenant may use, unless its own `limits` override it. 0 means unlimited. With several nodes the rates are divided
    /// among them.
    [limits]
    #[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Limits {
        /// Largest number of tunnels, open or requested. Further ones are refused. Independently of this limit, new tunnels are
        /// refused when the process runs short of file descriptors (its open-file limit), because the last ones are reserved for
        /// webhooks.
        connections: u64 = 0, number(0, BILLION, "tunnels (0 = unlimited)");

        /// Most messages per second from all clients of the tenant. Above it their sockets are read more slowly; no client is
        /// closed.
        messages_per_sec: u64 = 0, number(0, BILLION, "messages per second (0 = unlimited)");

        /// Most messages per second from one client: more than people type, less than a loop sends. A burst of twice as many is
        /// allowed; beyond it the client is closed with code 1008. WebSocket frames of any kind (pings, fragments) have ten times
        /// this rate and burst.
        messages_per_sec_per_connection: u64 = 50, number(0, BILLION, "messages per second (0 = unlimited)");

        /// Most push requests per second.
        pushes_per_sec: u64 = 0, number(0, BILLION, "requests per second (0 = unlimited)");

        /// Most tunnel ids in one push request, including those in `except`.
        max_push_targets: usize = 10_000, number(0, BILLION, "tunnel ids (0 = unlimited)");

        /// Most connectors of the tenant at each node: processes that dial in and receive its events there. One that is being
        /// replaced does not count.
        connectors: u64 = 16, number(0, BILLION, "connectors (0 = unlimited)");
    }
}
