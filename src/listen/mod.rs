//! The rules of `wafergate listen`, without I/O: when it dials, what it says to the gateway, where events go, and what is kept.

mod body;
mod content;
mod history;
mod links;
mod pause;
mod refusal;
mod resign;
mod shown;
mod target;
mod unconfirmed;

pub use body::Body;
pub use content::content;
pub use content::content_bytes;
pub use history::Attempt;
pub use history::Entry;
pub use history::History;
pub use links::Action;
pub use links::Ended;
pub use links::Link;
pub use links::Links;
pub use links::Report;
pub use links::Settings;
pub use links::Trouble;
pub use refusal::Refusal;
pub use refusal::refusal;
pub use resign::editable;
pub use resign::edited;
pub use resign::resign;
pub use shown::Shown;
pub use target::Target;
pub use target::Targets;
pub use target::is_here;
pub use unconfirmed::Done;
