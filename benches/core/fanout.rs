//! One frame to a thousand clients, on sockets that accept everything or nothing: a push without the system calls.

use std::future::Future;
use std::future::ready;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use criterion::BatchSize;
use criterion::Criterion;
use criterion::Throughput;
use wafergate::gateway::Connection;
use wafergate::gateway::Sent;
use wafergate::gateway::Socket;
use wafergate::http_client::Flights;
use wafergate::id::TenantId;
use wafergate::id::TunnelId;
use wafergate::options;
use wafergate::options::Limits;
use wafergate::protocol::content::Profile;
use wafergate::protocol::frame;
use wafergate::secret::Secret;
use wafergate::tenant::Settings;
use wafergate::tenant::Tenant;
use wafergate::webhook::Endpoints;
use wafergate::webhook::EventQueue;

use crate::content;
use crate::start;

const TARGETS: usize = 1_000;
const OUTBOX_BYTES: usize = 1024 * 1024;

/// A socket in memory, without system calls.
struct Memory {
    takes_all: bool,
    written: AtomicUsize,
}

impl Socket for Memory {
    fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn try_read(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.takes_all {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes = pieces.iter().map(|piece| piece.len()).sum();
        self.written.fetch_add(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    fn try_flush(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn hung_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(ready(()))
    }

    fn shutdown_write(&self) {}
}

/// Connections of one tenant.
fn connections(takes_all: bool) -> Vec<Arc<Connection<dyn Socket>>> {
    let limits = Limits {
        connections: 0,
        messages_per_sec: 0,
        messages_per_sec_per_connection: 0,
        pushes_per_sec: 0,
        max_push_targets: 0,
        connectors: 0,
    };
    let entry = options::Tenant { keys: vec![Secret::new("k")], ..options::Tenant::default() };
    let tenant = Arc::new(Tenant::new(TenantId::new("x"), Settings::new(&entry, limits)));
    let endpoint = Endpoints::new(1, Duration::from_secs(10), Flights::unbounded())
        .endpoint(&tenant.id, "http://business.example.com/tunnel")
        .expect("valid");
    let connect = |id: usize| -> Arc<Connection<dyn Socket>> {
        let tunnel = TunnelId::from_bytes((id as u128).to_be_bytes());
        let event_queue = Arc::new(EventQueue::new(tunnel, Arc::clone(&tenant), Arc::clone(&endpoint), 0));
        let socket = Memory { takes_all, written: AtomicUsize::new(0) };
        Arc::new(Connection::new(event_queue, Profile::Wafer, socket, Duration::ZERO, 0))
    };
    (0..TARGETS).map(connect).collect()
}

pub(crate) fn benches(criterion: &mut Criterion) {
    let frame = frame::text("message:", &content(128));
    let now = start().into();
    let send = |targets: &[Arc<Connection<dyn Socket>>]| {
        for connection in targets {
            assert_eq!(connection.send(&frame, OUTBOX_BYTES, now), Sent::Accepted);
        }
    };
    let mut group = criterion.benchmark_group("fan-out to 1,000");
    group.throughput(Throughput::Elements(TARGETS as u64));
    let ready = connections(true);
    group.bench_function("written", |bencher| bencher.iter(|| send(&ready)));
    group.bench_function("queued", |bencher| {
        bencher.iter_batched_ref(|| connections(false), |targets| send(targets), BatchSize::LargeInput);
    });
    group.finish();
}
