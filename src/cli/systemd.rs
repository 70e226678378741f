//! Notifies systemd of the node's state if it started the node with `Type=notify`. Otherwise does nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use crate::shutdown::Shutdown;

/// How often the state is reported.
const STATE_EVERY: Duration = Duration::from_secs(10);

/// Reports that the node accepts connections, then feeds the watchdog and reports its state and the start of a drain.
pub(super) fn ready(shutdown: &Shutdown, state: impl Fn() -> String + Send + 'static) {
    tell(&[NotifyState::Ready, NotifyState::Status(&state())]);
    tokio::spawn(async move {
        let mut ticks = interval(STATE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            tell(&[NotifyState::Status(&state())]);
        }
    });
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

/// Reports a state in words, until the next one.
pub(super) fn state(words: &str) {
    tell(&[NotifyState::Status(words)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot notify systemd");
    }
}
