//! The order in which a node ends.

use std::time::Duration;

use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::options;
use crate::shutdown::Shutdown;
use crate::webhook::Dispatcher;
use crate::webhook::Undelivered;

/// Drain window of the memory engine: there is no other node, and Wafer clients retry for only about 16 s until the successor
/// runs.
const MEMORY_WINDOW: Duration = Duration::from_secs(2);

/// Divides the window: the first part gives a load balancer time to see that this node takes no new clients.
const NOTICE_PART: u32 = 6;

/// Time limit for the clients' answers to close frames; their tasks have a limit of 5 s of their own.
const ANSWERS: Duration = Duration::from_secs(6);

/// Time limit for the last words to connectors.
const CONNECTORS: Duration = Duration::from_secs(1);

/// Waits until a drain is requested, and runs it.
pub(super) async fn when_told(
    gateway: &Gateway,
    dispatcher: &Dispatcher,
    options: &options::Drain,
    has_others: bool,
    shutdown: &Shutdown,
) {
    shutdown.soft.cancelled().await;
    let began = Instant::now();
    gateway.connect_urls.begin_drain();
    gateway.connectors.announce_drain(options.window() + options.flush());
    tracing::info!(
        tunnels = gateway.tunnels.count(),
        webhooks = dispatcher.pending(),
        new_tunnels = if has_others { "for the other nodes" } else { "refused" },
        "draining",
    );
    if has_others && !gateway.tunnels.is_idle() {
        // A client released before the load balancer knows would be sent back here.
        let notice = options.window() / NOTICE_PART;
        tokio::time::sleep(notice).await;
        gateway.tunnels.release_sockets(options.window() - notice).await;
    } else if !has_others && gateway.tunnels.count() > 0 {
        dispatcher.flush(Instant::now() + options.flush()).await;
        gateway.tunnels.release_sockets(MEMORY_WINDOW.min(options.window())).await;
    } else {
        gateway.tunnels.release_sockets(Duration::ZERO).await;
    }
    gateway.connections_ended(ANSWERS).await;
    dispatcher.flush(Instant::now() + options.flush()).await;
    let left = dispatcher.give_up(has_others);
    if has_others {
        // They have tunnels of other nodes, and go to one of these.
        gateway.connectors.until_left(began + options.window()).await;
    }
    gateway.connectors.close_all(CONNECTORS).await;
    gateway.leave_cluster().await;
    match left {
        Undelivered { lost: 0, to_others: 0 } => tracing::info!("drained"),
        Undelivered { lost, to_others } if has_others => tracing::warn!(
            events = lost + to_others,
            lost,
            flush_secs = options.flush_secs,
            "drained, but these events could not be delivered in time: close events are left to the other nodes, others are lost",
        ),
        Undelivered { lost, .. } => tracing::error!(
            events = lost,
            flush_secs = options.flush_secs,
            "drained, but these events could not be delivered in time and are lost",
        ),
    }
}
