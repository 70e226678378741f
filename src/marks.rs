//! Named points between a wait and the action after it, where a test can stop this process for a long time. Release builds have
//! none.

/// One such point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mark {
    /// An event has its permits and is about to be sent.
    EventAdmitted,
    /// A connection for an event is ready.
    EventConnected,
    /// Bytes of a request are about to be written to a business server.
    EventWritten,
    /// The response to an event has arrived.
    EventAnswered,
    /// The next action of a response is about to run.
    Action,
    /// Pushes have been batched and are about to run.
    PushCollected,
    /// The next turn of a push begins.
    PushTurn,
    /// A request to another node is about to be sent.
    Ask,
    /// A request of another node has arrived.
    Asked,
    /// The response to another node is about to be sent.
    Answer,
    /// A tunnel has been described, or tunnels have been listed.
    Told,
    /// A tunnel has been registered and its client has no response yet.
    Registered,
}

impl Mark {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::EventAdmitted,
        Self::EventConnected,
        Self::EventWritten,
        Self::EventAnswered,
        Self::Action,
        Self::PushCollected,
        Self::PushTurn,
        Self::Ask,
        Self::Asked,
        Self::Answer,
        Self::Told,
        Self::Registered,
    ];

    /// Called when the process reaches this point.
    #[inline]
    pub fn pass(self) {
        #[cfg(debug_assertions)]
        stop::stop_at(self);
    }
}

/// Stops the process itself, as a SIGSTOP at this point would: `WAFERGATE_STOP_AT=EventWritten:2` at the second time.
#[cfg(debug_assertions)]
mod stop {
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use super::Mark;

    static WANTED: OnceLock<Option<(Mark, usize)>> = OnceLock::new();
    static PASSED: AtomicUsize = AtomicUsize::new(0);

    pub(super) fn stop_at(mark: Mark) {
        let wanted = WANTED.get_or_init(|| {
            let wanted = std::env::var("WAFERGATE_STOP_AT").ok()?;
            let (name, time) = wanted.split_once(':')?;
            let mark = Mark::ALL.into_iter().find(|mark| format!("{mark:?}") == name)?;
            Some((mark, time.parse().ok()?))
        });
        if let Some((wanted, time)) = *wanted
            && wanted == mark
            && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == time
        {
            // If that fails, the test sees a process that still runs.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
            // Any thread may take the signal first: this one waits until all are stopped.
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }
}
