//! WeChat's servers: a port with the HTTPS adapter, and calls with their repeats, secrets and access tokens.

mod calls;
mod https;
mod tokens;

use async_trait::async_trait;
use bytes::Bytes;

pub use calls::Account;
pub use calls::Calls;
pub use calls::Failure;
pub use https::Https;

use crate::protocol::wechat::Question;

/// Carries requests to WeChat.
#[async_trait]
pub trait WeChat: Send + Sync {
    /// Sends one request of an app, once, and returns the body of an answer with status 200 that has one. Apps share connections and
    /// look-ups as tenants do.
    ///
    /// # Errors
    ///
    /// With a reason that holds no part of the request.
    async fn ask(&self, app_id: &str, question: &Question) -> Result<Bytes, NoAnswer>;
}

/// Why there is no answer of WeChat.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoAnswer {
    /// No connection, or it was lost before the answer.
    #[error("{0}")]
    Lost(String),
    /// It did not come in time.
    #[error("no answer in time")]
    Late,
    /// It has another status than 200, no body, or is not whole.
    #[error("{0}")]
    Unusable(String),
}
