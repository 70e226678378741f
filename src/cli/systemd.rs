//! Tells systemd how the node is, where systemd started it with `Type=notify`. Elsewhere nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use crate::shutdown::Shutdown;

/// The node accepts connections: from now on systemd's watchdog is fed, and told when the drain begins.
pub(super) fn ready(shutdown: &Shutdown) {
    tell(&[NotifyState::Ready]);
    let drain = shutdown.soft.clone();
    tokio::spawn(async move {
        drain.cancelled().await;
        tell(&[NotifyState::Stopping]);
    });
    if let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| *limit >= Duration::from_millis(1)) {
        tokio::spawn(async move {
            // Whoever misses one of two is late, and not dead.
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
        tracing::warn!(error = &error as &dyn std::error::Error, "systemd cannot be told");
    }
}
