//! What a connection is made of.

use std::sync::Arc;

use crate::gateway::Gateway;
use crate::http::body::Budget;
use crate::http::native::Caller;
use crate::http::proxy_headers::Client;

/// What a connection needs.
pub(super) struct Dialled {
    pub(super) gateway: Arc<Gateway>,
    pub(super) budget: Arc<Budget>,
    /// The tenant that dials, and its key.
    pub(super) caller: Caller,
    /// The other end.
    pub(super) client: Client,
}
