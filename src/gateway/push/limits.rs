//! What one push may contain, and how many a tenant may send.

use std::sync::Arc;

use tokio::time::Instant;

use crate::gateway::cluster::SharedLimits;
use crate::gateway::error::PushError;
use crate::tenant::Tenant;

/// Size, target and rate limits of pushes.
pub(super) struct Limits {
    content_bytes: usize,
    shared_limits: Arc<SharedLimits>,
}

impl Limits {
    /// At most `content_bytes` of content; rates are shared with `shared_limits`.
    pub(super) fn new(content_bytes: usize, shared_limits: Arc<SharedLimits>) -> Self {
        Self { content_bytes, shared_limits }
    }

    /// Checks a push and counts it.
    ///
    /// # Errors
    ///
    /// If a limit forbids it.
    pub(super) fn check(
        &self,
        tenant: &Tenant,
        targets: usize,
        actual_bytes: usize,
        now: Instant,
    ) -> Result<(), PushError> {
        let settings = tenant.settings();
        let limit = settings.limits.max_push_targets;
        if limit != 0 && targets > limit {
            return Err(PushError::TooManyTargets { targets, limit });
        }
        if actual_bytes > self.content_bytes {
            return Err(PushError::TooLarge { actual_bytes, limit_bytes: self.content_bytes });
        }
        if let Some(rate) = self.shared_limits.share(settings.push_rate()) {
            tenant.usage.take_push(rate, now.into_std()).map_err(|wait| PushError::TooFast {
                wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1),
            })?;
        }
        tenant.usage.count_push();
        Ok(())
    }
}
