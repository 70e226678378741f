//! Wire formats, without I/O: how messages of each protocol are parsed and encoded.

pub mod authority;
pub mod close;
pub mod connector;
pub mod content;
pub mod fault;
pub mod frame;
pub mod login;
pub mod native;
pub mod origin;
pub mod packet;
pub mod signature;
pub mod subprotocol;
pub mod text;
pub mod ticket;
pub mod wafer;
pub mod wechat;
