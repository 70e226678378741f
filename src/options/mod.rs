//! Every setting as typed data, one struct for each section of the configuration file.
//!
//! Name, type, default, range and documentation of a setting stand beside its field. `config` uses them to read, check and print
//! settings, and to generate `config/default.toml` and `docs/configuration.md`.

mod console;
mod database;
mod drain;
mod engine;
mod key;
mod limits;
mod log;
mod section;
mod server;
mod session;
mod tenant;
mod timeline;
mod tunnel;
mod webhook;

use serde::Deserialize;
use serde::Serialize;

pub use self::console::Console;
pub use self::database::DatabaseTls;
pub use self::database::DatabaseUrl;
pub use self::database::InvalidDatabaseUrl;
pub use self::drain::Drain;
pub use self::engine::Engine;
pub use self::engine::EngineKind;
pub(crate) use self::key::Key;
pub(crate) use self::key::Kind;
pub(crate) use self::key::Section;
pub use self::limits::LimitOverrides;
pub use self::limits::Limits;
pub use self::log::Log;
pub use self::log::LogFormat;
pub use self::server::ProxyProtocol;
pub use self::server::Server;
pub use self::session::App;
pub use self::session::Session;
pub use self::session::StoreKind;
pub use self::tenant::ConnectorUse;
pub use self::tenant::Enrolment;
pub use self::tenant::Reload;
pub use self::tenant::Tenant;
pub use self::timeline::Timeline;
pub use self::tunnel::Tunnel;
pub use self::webhook::Webhook;

/// The whole effective configuration of one node.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// `[server]`
    pub server: Server,
    /// `[engine]`
    pub engine: Engine,
    /// `[tunnel]`
    pub tunnel: Tunnel,
    /// `[webhook]`
    pub webhook: Webhook,
    /// `[session]`
    pub session: Session,
    /// `[drain]`
    pub drain: Drain,
    /// `[limits]`
    pub limits: Limits,
    /// `[enrolment]`
    pub enrolment: Enrolment,
    /// `[reload]`
    pub reload: Reload,
    /// `[[tenants]]`
    #[serde(default)]
    pub tenants: Vec<Tenant>,
    /// `[timeline]`
    pub timeline: Timeline,
    /// `[console]`
    pub console: Console,
    /// `[log]`
    pub log: Log,
}

impl Options {
    /// Every section except the lists of blocks, in documentation order.
    pub(crate) const SECTIONS: [Section; 12] = [
        Server::SECTION,
        Engine::SECTION,
        Tunnel::SECTION,
        Webhook::SECTION,
        Session::SECTION,
        Drain::SECTION,
        Limits::SECTION,
        Enrolment::SECTION,
        Reload::SECTION,
        Timeline::SECTION,
        Console::SECTION,
        Log::SECTION,
    ];
}
