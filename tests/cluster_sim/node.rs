//! One node: the real engine in its own runtime with stepped time, and the gateway logic around it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;
use tokio::time::sleep;
use wafergate::clock::ManualClock;
use wafergate::engine::Dial;
use wafergate::engine::RedisEngine;
use wafergate::engine::RedisSettings;
use wafergate::metrics::Metrics;

use crate::dice::Dice;
use crate::history::Process;
use crate::history::Shared;
use crate::host::Host;
use crate::network::Network;

/// How long a connect URL is good.
pub(crate) const CONNECT_TTL: Duration = Duration::from_secs(60);

/// A process that runs, or is stopped.
pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) host: Arc<Host>,
    runtime: Runtime,
}

impl Node {
    pub(crate) fn start(
        process: Process,
        slot: usize,
        network: &Network,
        history: &Shared,
        mut dice: Dice,
        asks_once: bool,
    ) -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let host = {
            let _inside = runtime.enter();
            let dial = network.dial(slot);
            let settings = RedisSettings {
                url: "redis://simulated:1",
                sentinel_password: "",
                prefix: "w",
                ticket_key: b"the key of the simulated nodes",
                connect_ttl: CONNECT_TTL,
                clock: Arc::new(ManualClock::default()),
            };
            let dial = Dial::new(move || Ok(Box::new(dial())));
            let names = Mutex::new(Dice::from(dice.next()));
            let draw = Arc::new(move || names.lock().bytes());
            let engine = RedisEngine::over(dial, draw, &settings, Metrics::default()).expect("an address");
            let host = Host::new(process, Arc::clone(&engine), Arc::clone(history), dice, asks_once);
            tokio::spawn(engine.run(host.clone()));
            host
        };
        Self { process, host, runtime }
    }

    /// Lets it run for a while.
    pub(crate) fn run(&self, duration: Duration) {
        self.runtime.block_on(async { sleep(duration).await });
    }

    /// It was stopped for so long, and goes on: its clock has not stood still.
    pub(crate) fn was_stopped(&self, duration: Duration) {
        self.runtime.block_on(tokio::time::advance(duration));
    }

    /// Begins some work, to be done while it [runs](Self::run).
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }
}
