//! Turns a client's bytes into WebSocket messages (RFC 6455) and then packets. No I/O: bytes in, actions out.

use std::str;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use tungstenite::protocol::frame::coding::Control;
use tungstenite::protocol::frame::coding::Data;

use crate::limit::Bucket;
use crate::limit::Rate;
use crate::protocol::content::Content;
use crate::protocol::content::Profile;
use crate::protocol::fault::Fault;
use crate::protocol::frame;
use crate::protocol::frame::Decoded;
use crate::protocol::frame::Frame;
use crate::protocol::frame::Goodbye;
use crate::protocol::frame::OpCode;
use crate::protocol::packet;
use crate::protocol::packet::Packet;

/// Frames of any kind allowed for each message allowed.
///
/// Pings, fragments and unknown packets fill no queue, but each costs time. Ten leaves room for a client's heartbeat and for long
/// messages in fragments.
const FRAMES_PER_MESSAGE: u32 = 10;

/// Limits for a client.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// Longest message, in bytes of payload.
    pub max_message_bytes: usize,
    /// Most messages, with ten times as many frames of any kind; none means unlimited.
    pub message_rate: Option<Rate>,
}

/// An action that follows from a client's input.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Send an event to the business server.
    Deliver(Content),
    /// Send this frame to the client.
    Reply(Bytes),
    /// The client closes: answer with a close frame as described, and end.
    Goodbye(Goodbye),
}

/// The reading side of one open socket.
///
/// It owns memory only while a frame or a message is incomplete.
#[derive(Debug)]
pub struct Session {
    profile: Profile,
    /// The beginning of an incomplete frame.
    carry: Vec<u8>,
    fragments: Option<Box<Fragments>>,
    messages: Bucket,
    frames: Bucket,
    /// How long the client was not read, in microseconds: messages sent in that time do not count against its rate.
    unread_us: u32,
}

/// The beginning of a message whose last frame has not arrived.
#[derive(Debug)]
struct Fragments {
    is_text: bool,
    bytes: Vec<u8>,
    /// How many of `bytes` are known to be UTF-8.
    checked: usize,
}

impl Session {
    /// The session of a client that has just connected.
    pub fn new(profile: Profile) -> Self {
        let (messages, frames) = (Bucket::default(), Bucket::default());
        Self { profile, carry: Vec::new(), fragments: None, messages, frames, unread_us: 0 }
    }

    /// Records that reading was paused for this long: everything sent meanwhile arrives at once now.
    pub fn was_not_read(&mut self, time: Duration) {
        self.unread_us = self.unread_us.saturating_add(micros(time));
    }

    /// Parses input from the socket and calls `act` for each resulting action, in order.
    ///
    /// `input` is unmasked in place. Bytes behind a close frame are ignored.
    ///
    /// # Errors
    ///
    /// The fault for which the connection must be closed; no further input may be passed then.
    pub fn handle_input(
        &mut self,
        input: &mut [u8],
        limits: &SessionLimits,
        now: Instant,
        act: &mut dyn FnMut(Action),
    ) -> Result<(), Fault> {
        if self.carry.is_empty() {
            let consumed = self.handle_frames(input, limits, now, act)?;
            self.carry.extend_from_slice(&input[consumed..]);
            return Ok(());
        }
        let mut whole = std::mem::take(&mut self.carry);
        whole.extend_from_slice(input);
        let consumed = self.handle_frames(&mut whole, limits, now, act)?;
        if consumed < whole.len() {
            whole.drain(..consumed);
            self.carry = whole;
        }
        Ok(())
    }

    /// Handles the whole frames in `input` and returns how many bytes they took.
    fn handle_frames(
        &mut self,
        input: &mut [u8],
        limits: &SessionLimits,
        now: Instant,
        act: &mut dyn FnMut(Action),
    ) -> Result<usize, Fault> {
        let frame_rate = limits.message_rate.map(|rate| rate.times(FRAMES_PER_MESSAGE));
        let mut at = 0;
        while at < input.len() {
            let frame = match frame::decode(&mut input[at..], limits.max_message_bytes)? {
                Decoded::Frame(frame) => frame,
                Decoded::BrokenClose(fault) => {
                    act(Action::Goodbye(Goodbye::Faulty(fault)));
                    return Ok(input.len());
                }
                Decoded::Incomplete(_) => break,
            };
            at += frame.consumed;
            if let Some(rate) = frame_rate {
                take(&mut self.frames, &mut self.unread_us, rate, now)?;
            }
            if let Some(action) = self.handle_frame(&frame, limits, now)? {
                let is_goodbye = matches!(action, Action::Goodbye(_));
                act(action);
                if is_goodbye {
                    return Ok(input.len());
                }
            }
        }
        Ok(at)
    }

    fn handle_frame(
        &mut self,
        frame: &Frame<'_>,
        limits: &SessionLimits,
        now: Instant,
    ) -> Result<Option<Action>, Fault> {
        match frame.opcode {
            OpCode::Control(Control::Ping) => Ok(Some(Action::Reply(frame::pong(frame.payload)))),
            OpCode::Control(Control::Pong) => Ok(None),
            OpCode::Control(Control::Close) => Ok(Some(Action::Goodbye(frame::goodbye(frame.payload)))),
            OpCode::Data(Data::Continue) => self.handle_continuation(frame, limits, now),
            OpCode::Data(kind @ (Data::Text | Data::Binary)) => {
                if self.fragments.is_some() {
                    return Err(Fault::UnfinishedMessage);
                }
                let is_text = kind == Data::Text;
                if frame.is_final {
                    return self.handle_message(is_text, frame.payload, limits, now);
                }
                let mut fragments = Fragments { is_text, bytes: frame.payload.to_vec(), checked: 0 };
                fragments.check()?;
                self.fragments = Some(Box::new(fragments));
                Ok(None)
            }
            OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => Err(Fault::ReservedOpcode),
        }
    }

    fn handle_continuation(
        &mut self,
        frame: &Frame<'_>,
        limits: &SessionLimits,
        now: Instant,
    ) -> Result<Option<Action>, Fault> {
        let fragments = self.fragments.as_mut().ok_or(Fault::NothingToContinue)?;
        if fragments.bytes.len() + frame.payload.len() > limits.max_message_bytes {
            return Err(Fault::TooBig);
        }
        fragments.bytes.extend_from_slice(frame.payload);
        if !frame.is_final {
            fragments.check()?;
            return Ok(None);
        }
        let whole = self.fragments.take().expect("it was there a moment ago");
        self.handle_message(whole.is_text, &whole.bytes, limits, now)
    }

    fn handle_message(
        &mut self,
        is_text: bool,
        payload: &[u8],
        limits: &SessionLimits,
        now: Instant,
    ) -> Result<Option<Action>, Fault> {
        let content = if is_text {
            let text = str::from_utf8(payload).map_err(|_| Fault::BadText)?;
            match self.profile {
                Profile::Native => Content::Text(text.into()),
                Profile::Wafer => match Packet::decode(text) {
                    Packet::Message(content) => Content::Text(content.into()),
                    Packet::Ping => return Ok(Some(Action::Reply(frame::text(packet::PONG, "")))),
                    Packet::Close => return Ok(Some(Action::Goodbye(Goodbye::Proper(Some(1000))))),
                    Packet::Unknown => return Ok(None),
                },
            }
        } else {
            match self.profile {
                Profile::Native => Content::Binary(Bytes::copy_from_slice(payload)),
                Profile::Wafer => return Ok(None),
            }
        };
        if let Some(rate) = limits.message_rate {
            take(&mut self.messages, &mut self.unread_us, rate, now)?;
        }
        Ok(Some(Action::Deliver(content)))
    }
}

/// Takes a token from the client's bucket, or else from the time in which it was not read.
fn take(bucket: &mut Bucket, unread_us: &mut u32, rate: Rate, now: Instant) -> Result<(), Fault> {
    if bucket.take(rate, now).is_err() {
        *unread_us = unread_us.checked_sub(micros(rate.interval()).max(1)).ok_or(Fault::TooFast)?;
    }
    Ok(())
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

impl Fragments {
    /// Fails as soon as no continuation can make the text valid UTF-8.
    fn check(&mut self) -> Result<(), Fault> {
        if !self.is_text {
            return Ok(());
        }
        match str::from_utf8(&self.bytes[self.checked..]) {
            Ok(_) => self.checked = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Fault::BadText),
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
