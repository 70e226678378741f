//! What a tunnel is told to do, and the frames that carry it: each is encoded at most once, however many targets there are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;

use crate::metrics::Metrics;
use crate::protocol::content::Profile;
use crate::protocol::frame;
use crate::protocol::native::Payload;
use crate::protocol::packet;
use crate::protocol::wafer;

/// What is done to each target of a push or a close.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Order<'a> {
    /// Send this text, byte for byte.
    Text(&'a str),
    /// Send these bytes; a Wafer tunnel gets them as Base64.
    Binary(&'a [u8]),
    /// Close it for good; the close frame says this, or the usual.
    Close(Option<&'a str>),
    /// Nothing: it is only asked who has it.
    Nothing,
}

impl Order<'_> {
    /// How long its content is.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::Close(_) | Self::Nothing => 0,
        }
    }
}

impl<'a> From<&'a wafer::Order> for Order<'a> {
    fn from(order: &'a wafer::Order) -> Self {
        match order {
            wafer::Order::Message(content) => Self::Text(content),
            wafer::Order::Close => Self::Close(None),
        }
    }
}

impl<'a> From<&'a Payload> for Order<'a> {
    fn from(payload: &'a Payload) -> Self {
        match payload {
            Payload::Text(text) => Self::Text(text),
            Payload::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

/// An order on its way to its targets. When it is dropped it counts those that did as they were told, also if whoever gave it has
/// hung up before the last of them had its turn.
pub(super) struct Frames<'a> {
    pub(super) order: Order<'a>,
    metrics: &'a Metrics,
    wafer: Option<Bytes>,
    native: Option<Bytes>,
    /// How many targets did as they were told.
    pub(super) accepted: u64,
}

impl<'a> Frames<'a> {
    pub(super) fn new(order: Order<'a>, metrics: &'a Metrics) -> Self {
        Self { order, metrics, wafer: None, native: None, accepted: 0 }
    }

    /// The frame for a socket that speaks `profile`; none for an order that sends nothing.
    pub(super) fn frame(&mut self, profile: Profile) -> Option<&Bytes> {
        let frame = match profile {
            Profile::Wafer => &mut self.wafer,
            Profile::Native => &mut self.native,
        };
        if frame.is_none() {
            *frame = encode(self.order, profile);
        }
        frame.as_ref()
    }
}

impl Drop for Frames<'_> {
    fn drop(&mut self) {
        self.metrics.deliveries.accepted.inc_by(self.accepted);
    }
}

fn encode(order: Order<'_>, profile: Profile) -> Option<Bytes> {
    match (order, profile) {
        (Order::Text(text), Profile::Wafer) => Some(frame::text(packet::MESSAGE_PREFIX, text)),
        (Order::Text(text), Profile::Native) => Some(frame::text("", text)),
        (Order::Binary(bytes), Profile::Wafer) => Some(frame::text(packet::MESSAGE_PREFIX, &STANDARD.encode(bytes))),
        (Order::Binary(bytes), Profile::Native) => Some(frame::binary(bytes)),
        (Order::Close(_) | Order::Nothing, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frame_is_encoded_once() {
        let metrics = Metrics::default();
        for order in [Order::Text("text"), Order::Binary(b"binary")] {
            let mut frames = Frames::new(order, &metrics);
            for profile in [Profile::Wafer, Profile::Native, Profile::Wafer, Profile::Native] {
                let first = frames.frame(profile).expect("it sends something").clone();
                let again = frames.frame(profile).expect("it sends something");
                assert_eq!((first.as_ptr(), first.len()), (again.as_ptr(), again.len()), "{order:?} {profile:?}");
            }
        }
        assert_eq!(Frames::new(Order::Close(None), &metrics).frame(Profile::Native), None);
    }
}
