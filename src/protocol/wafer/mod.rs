//! The Wafer protocol over HTTP: the two calls of a business server, and its webhooks.

mod answer;
mod envelope;
mod push;
mod webhook;

pub use answer::Refusal;
pub use answer::error_answer;
pub use answer::issue_answer;
pub use answer::push_answer;
pub use envelope::Envelope;
pub use envelope::WsurlRequest;
pub use push::MAX_TARGETS;
pub use push::PushAction;
pub use push::PushPacket;
pub use push::Target;
pub use push::too_many;
pub use webhook::Event;
pub use webhook::is_accepted;
pub use webhook::may_refuse_signature;
pub use webhook::refuses_signature;
pub use webhook::webhook_body;
