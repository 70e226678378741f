//! Words of the protocols, without any I/O: what goes over the wires and how it is read and written.

pub mod close;
pub mod content;
pub mod fault;
pub mod frame;
pub mod native;
pub mod packet;
pub mod signature;
pub mod subprotocol;
pub mod text;
pub mod ticket;
pub mod wafer;
