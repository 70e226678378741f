//! The two ways to end: the first signal drains, the second one stops at once.

use std::io;

use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio_util::sync::CancellationToken;

/// Signals the parts of the program to end. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Drain, then end.
    pub soft: CancellationToken,
    /// End at once.
    pub hard: CancellationToken,
}

impl Shutdown {
    /// Drains at the first SIGTERM or SIGINT and ends at once at the second one. A drain started by other means does not count as
    /// the first.
    ///
    /// # Errors
    ///
    /// If the system does not let this process handle signals.
    pub fn on_signals(&self) -> io::Result<impl Future<Output = ()> + Send + use<>> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        Ok(async move {
            for step in [&shutdown.soft, &shutdown.hard] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                step.cancel();
            }
        })
    }
}

/// SIGHUP, the signal to reload the configuration.
///
/// # Errors
///
/// If the system does not let this process handle signals.
pub fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Keeps SIGHUP from ending this process, as it would by default: a reload may be requested while the process still starts.
///
/// # Errors
///
/// If the system does not let this process handle signals.
pub fn survive_hangups() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _inside = runtime.enter();
    // The handler stays for the life of the process.
    signal(SignalKind::hangup()).map(drop)
}
