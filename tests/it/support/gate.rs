//! Something that waits until a test says go.

use tokio::sync::watch;

/// Closed until it is opened, then open for ever. Clones are the same gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    /// A closed gate.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets everybody through.
    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the gate is open.
    pub(crate) async fn passed(&self) {
        let mut gate = self.0.subscribe();
        gate.wait_for(|is_open| *is_open).await.expect("the gate holds its sender");
    }
}
