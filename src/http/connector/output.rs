//! The messages to a connector, written to its socket.

use std::io;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio::time::Interval;
use tokio::time::MissedTickBehavior;
use tokio::time::interval_at;
use tokio::time::timeout;

use crate::connector::Link;
use crate::connector::Out;
use crate::connector::Outbox;
use crate::gateway::Gateway;
use crate::protocol::connector::HEARTBEAT;
use crate::protocol::connector::SILENCE;
use crate::protocol::frame;

/// Bytes that are collected for one write.
const BATCH_BYTES: usize = 64 * 1024;
/// Longest reason of a close frame, in bytes (RFC 6455, section 5.5).
const MAX_REASON_BYTES: usize = 123;

/// The writing side of a connection.
pub(super) struct Output<W> {
    writer: W,
    pings: Interval,
    batch: Vec<u8>,
    /// What others may use again when the batch is written.
    unsent: Vec<OwnedSemaphorePermit>,
}

impl<W: AsyncWrite + Unpin> Output<W> {
    /// The output of a new connection.
    pub(super) fn new(writer: W) -> Self {
        let mut pings = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { writer, pings, batch: vec![], unsent: vec![] }
    }

    /// Writes what is in `outbox` until its end, or until the socket fails or is not read.
    pub(super) async fn run(&mut self, gateway: &Gateway, link: &Link, outbox: &mut Outbox) {
        loop {
            let first = tokio::select! {
                out = outbox.recv() => out,
                _ = self.pings.tick() => Some(Out::Frame(frame::ping())),
            };
            let Some(first) = first else { return };
            let mut is_last = self.collect(gateway, link, first);
            while !is_last && self.batch.len() < BATCH_BYTES {
                let Ok(out) = outbox.try_recv() else { break };
                is_last = self.collect(gateway, link, out);
            }
            let written = self.flush().await;
            if is_last || written.is_err() {
                return;
            }
        }
    }

    /// Writes a single frame, before there is an outbox.
    pub(super) async fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.batch.extend_from_slice(frame);
        self.flush().await
    }

    /// Adds a message to the batch; true if it is the last one.
    ///
    /// The lease is checked here: nothing is waited for between this and the write.
    fn collect(&mut self, gateway: &Gateway, link: &Link, out: Out) -> bool {
        match out {
            Out::Frame(frame) => self.batch.extend_from_slice(&frame),
            Out::Event { frame, id, number, permit, unsent } => {
                if !gateway.permits(permit) {
                    gateway.connectors.not_written(link, &id, number);
                } else if gateway.connectors.may_write(link, &id, number) {
                    self.batch.extend_from_slice(&frame);
                    self.unsent.push(unsent);
                }
            }
            Out::Result { frame, unsent, place } => {
                self.batch.extend_from_slice(&frame);
                self.unsent.extend([unsent, place]);
            }
            Out::Close(code, reason) => {
                self.batch.extend_from_slice(&close(code, &reason));
                return true;
            }
        }
        false
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let write = async {
            self.writer.write_all(&self.batch).await?;
            self.writer.flush().await
        };
        let written = timeout(SILENCE, write).await;
        self.batch.clear();
        if self.batch.capacity() > 2 * BATCH_BYTES {
            self.batch.shrink_to(BATCH_BYTES);
        }
        self.unsent.clear();
        written.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Ends this direction of the connection. With TLS it waits until the other end reads.
    pub(super) async fn shutdown(&mut self) {
        // It fails only on a broken connection.
        let _ = self.writer.shutdown().await;
    }
}

/// A close frame with as much of the reason as fits.
pub(super) fn close(code: u16, reason: &str) -> Bytes {
    frame::close(Some(code), &reason[..reason.floor_char_boundary(MAX_REASON_BYTES)])
}
