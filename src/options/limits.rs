//! `[limits]`, and what a tenant says otherwise.

use serde::Deserialize;
use serde::Serialize;

use super::key::BILLION;
use super::key::number;
use super::section::section;

/// A section of which a tenant may set each key for itself.
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

        /// The limits that a tenant sets for itself; what is absent is taken from `[limits]`.
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
            /// The limits of a tenant that has these overrides.
            pub fn over(&self, base: $name) -> $name {
                $name { $($field: self.$field.unwrap_or(base.$field)),* }
            }
        }
    };
}

limits! {
    /// What one tenant may use, unless its own `limits` say otherwise. 0 means unlimited. With several nodes the rates are
    /// divided among them.
    [limits]
    #[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Limits {
        /// Most tunnels, open or asked for. Beyond it new tunnels are refused. Whatever is set here, they are refused too when the
        /// process has few descriptors left (its limit of open files): the last ones are for webhooks.
        connections: u64 = 0, number(0, BILLION, "tunnels (0 = unlimited)");

        /// Most messages per second from all clients of the tenant. Their sockets are read no faster; none is closed.
        messages_per_sec: u64 = 0, number(0, BILLION, "messages per second (0 = unlimited)");

        /// Most messages per second from one client. Twice as many at once are tolerated; then it is closed with code 1008. More
        /// than people produce, less than a loop does. Ten times as many WebSocket frames of any kind (pings, fragments) are let
        /// through, with the same tolerance and the same end.
        messages_per_sec_per_connection: u64 = 50, number(0, BILLION, "messages per second (0 = unlimited)");

        /// Most push requests per second.
        pushes_per_sec: u64 = 0, number(0, BILLION, "requests per second (0 = unlimited)");

        /// Most tunnel ids in one push request, those in `except` too.
        max_push_targets: usize = 10_000, number(0, BILLION, "tunnel ids (0 = unlimited)");
    }
}
