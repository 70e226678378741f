//! `wafergate listen` itself: it dials out to a gateway as a connector and forwards events to servers on this machine.

mod connect;
mod forward;
mod judged;
mod proxy;
mod run;
mod socket;
mod tls;
mod upgrade;

pub use connect::Unreached;
pub use forward::Forwarded;
pub use forward::Forwarder;
pub use forward::Local;
pub use judged::verdict;
pub use proxy::Proxy;
pub use run::Output;
pub use run::Parts;
pub use run::run;
pub use tls::Trust;
pub use upgrade::Gateway;
