//! What systemd gives to a node and hears from it: listening sockets of a `.socket` unit, and its state with `Type=notify`. Started by
//! anything else, it gets none and reports nothing.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use crate::shutdown::Shutdown;

/// How often the state is reported.
const STATE_EVERY: Duration = Duration::from_secs(10);

/// The listening sockets that systemd keeps for this process.
///
/// # Errors
///
/// If one of them is no TCP socket.
pub(super) fn sockets() -> io::Result<Vec<TcpListener>> {
    let mut passed = ListenFd::from_env();
    (0..passed.len()).filter_map(|place| passed.take_tcp_listener(place).transpose()).collect()
}

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
