//! Copies of payloads on all nodes, for minutes.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::millis;
use crate::gateway::Gateway;
use crate::gateway::cluster::NodeRequest;
use crate::gateway::cluster::read_answer;
use crate::id::NodeId;
use crate::id::TunnelId;
use crate::reason::Kind;
use crate::reason::Reason;
use crate::tenant::Tenant;
use crate::timeline::Of;
use crate::timeline::Record;
use crate::timeline::TenantNumber;
use crate::timeline::TooManyCaptures;

/// Why nothing is copied.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CaptureError {
    /// The operator does not allow it, or nothing is recorded here.
    #[error("payloads are not copied on this gateway: timeline.capture is false, or timeline.bytes is 0")]
    Off,
    /// Too many run.
    #[error(transparent)]
    TooMany(#[from] TooManyCaptures),
}

/// A capture that runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Capturing {
    /// When it ends, since 1970.
    pub until: Duration,
    /// The nodes that do not take part: they do not answer, or may not.
    pub missing: Vec<NodeId>,
}

impl Gateway {
    /// Copies payloads `of` tunnels of `tenant` for some time from now on, at most `max_bytes` of each, on all nodes; with no time it
    /// ends all captures of the tenant. `by` says in timelines who has asked.
    ///
    /// # Errors
    ///
    /// If that is not possible on this node.
    pub async fn capture(
        &self,
        tenant: &Arc<Tenant>,
        of: Of,
        time: Duration,
        max_bytes: usize,
        by: &str,
    ) -> Result<Capturing, CaptureError> {
        let until = if time.is_zero() { Duration::ZERO } else { self.clock.unix_time() + time };
        self.capture_here(tenant, of.clone(), millis(until), max_bytes, by)?;
        let nodes = self.engine.cluster.others();
        let request = NodeRequest::Capture {
            tenant: tenant.id.as_str(),
            of,
            until_ms: millis(until),
            max_bytes: u32::try_from(max_bytes).unwrap_or(u32::MAX),
            by,
        };
        let answers = self.router.ask_those(tenant, nodes, &request).await;
        let takes_part = |answer: &Option<bytes::Bytes>| {
            answer.as_ref().and_then(|answer| read_answer::<bool>(answer)).unwrap_or_default()
        };
        let missing = answers.into_iter().filter(|(_, answer)| !takes_part(answer)).map(|(node, _)| node).collect();
        Ok(Capturing { until, missing })
    }

    /// The same on this node; zero ends all of the tenant.
    pub(in crate::gateway) fn capture_here(
        &self,
        tenant: &Tenant,
        of: Of,
        until_ms: u64,
        max_bytes: usize,
        by: &str,
    ) -> Result<(), CaptureError> {
        let (number, now) = (self.tenant_number(tenant), self.clock.unix_time());
        if !self.may_capture || !self.timeline.is_on() || number == TenantNumber(0) {
            return Err(CaptureError::Off);
        }
        let captures = self.timeline.captures();
        match until_ms {
            0 => captures.end(number),
            _ => captures.begin(number, of.clone(), until_ms, max_bytes, millis(now))?,
        }
        let reason = if until_ms == 0 { Reason::CaptureEnded } else { Reason::CaptureOn };
        let record = Record::new(Kind::Config, reason, now).of_tenant(number);
        let record = record.with_bytes(max_bytes).with_words(self.timeline.word(by));
        match &of {
            Of::Tunnels(tunnels) if until_ms != 0 => {
                tunnels.iter().for_each(|id| self.timeline.record(record.of(number, TunnelId::from_bytes(*id))));
            }
            _ => self.timeline.record(record),
        }
        tracing::info!(tenant.id = %tenant.id, until_ms, max_bytes, by, "payloads of some tunnels are copied for their tenant");
        Ok(())
    }
}
