//! One check for each parser of outside bytes.

pub(crate) mod answer;
pub(crate) mod config;
pub(crate) mod connector;
pub(crate) mod envelope;
pub(crate) mod handshake;
pub(crate) mod packet;
pub(crate) mod push;
pub(crate) mod receive_url;
pub(crate) mod session;
pub(crate) mod ticket;
