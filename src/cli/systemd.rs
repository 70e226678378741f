//! Notifies systemd of the node's state if it started the node with `Type=notify`. Otherwise does nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use crate::shutdown::Shutdown;

/// Reports that the node accepts connections, then feeds the watchdog and reports the start of a drain.
pub(super) fn ready(shutdown: &Shutdown) {
    tell(&[NotifyState::Ready]);
    let drain = shutdown.soft.clone();
    tokio::spawn(async move {
        drain.cancelled().await;
        tell(&[NotifyState::Stopping]);
    });
    if let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| *limit >= Duration::from_millis(1)) {
        tokio::spawn(async move {
            // Two pings per watchdog interval, so one late tick is tolerated.
            let mut ticks = interval(limit / 2);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                tell(&[NotifyState::Watchdog]);
            }
        });
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot notify systemd");
    }
}
