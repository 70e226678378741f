//! The native protocol: signed requests, problems, events, and actions in the responses to events.

pub mod actions;
pub mod capture;
pub mod event;
pub mod http_signature;
pub mod name;
pub mod problem;
pub mod request;
pub mod session;
pub mod signer;
pub mod trace;

pub use actions::Action;
pub use actions::Close;
pub use capture::CaptureOf;
pub use capture::CaptureRequest;
pub use name::Name;
pub use problem::Code;
pub use problem::Problem;
pub use request::Audience;
pub use request::CloseRequest;
pub use request::OpenRequest;
pub use request::Payload;
pub use request::PushRequest;
pub use request::To;
pub use trace::Trace;
