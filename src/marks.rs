//! Places between a wait and what must not be done behind it, where a test stops this process for long. A release build has none.

/// One such place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mark {
    /// An event has its permits, and is about to be sent.
    EventAdmitted,
    /// There is a connection for an event.
    EventConnected,
    /// Bytes of a request are about to be written to a business server.
    EventWritten,
    /// The answer to an event is there.
    EventAnswered,
    /// The next action of an answer is about to be done.
    Action,
    /// Pushes have been collected and are about to be done.
    PushCollected,
    /// The next turn of a push begins.
    PushTurn,
    /// A question to another node is about to be sent.
    Ask,
    /// A question of another node has come.
    Asked,
    /// The answer to a question of another node is about to be sent.
    Answer,
    /// A tunnel has been described, or tunnels have been listed.
    Told,
    /// A tunnel has been registered whose client has no answer yet.
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

    /// The process comes past this place.
    #[inline]
    pub fn pass(self) {
        #[cfg(debug_assertions)]
        stop::stop_at(self);
    }
}

/// Stops the process by itself, as SIGSTOP would at the worst moment: `WAFERGATE_STOP_AT=EventWritten:2` at the second time.
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
            // If that fails the test finds a process that runs.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
            // Any thread may take the signal first: this one goes no further before all are stopped.
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }
}
