//! Commands for tunnels and their frames: each is encoded at most once for all targets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;

use super::recording::Recording;
use crate::gateway::tunnels::Sent;
use crate::id::TunnelId;
use crate::metrics::Metrics;
use crate::protocol::connector::ConnectorName;
use crate::protocol::content::Profile;
use crate::protocol::frame;
use crate::protocol::native::Payload;
use crate::protocol::packet;
use crate::protocol::wafer;

/// What is done to each target of a push or close.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(in crate::gateway) enum Command<'a> {
    /// Send this text, byte for byte.
    Text(&'a str),
    /// Send these bytes; a Wafer tunnel gets them as Base64.
    Binary(&'a [u8]),
    /// Close for good, with this reason or the default in the close frame.
    Close(Option<&'a str>),
    /// No effect: only finds the owner.
    Nothing,
    /// Closes the tunnel because its session was ended.
    EndSession,
}

impl Command<'_> {
    /// Whether it ends its targets.
    pub(super) fn is_close(&self) -> bool {
        matches!(self, Self::Close(_) | Self::EndSession)
    }

    /// The content, and whether it is binary.
    fn payload(&self) -> Option<(bool, &[u8])> {
        match self {
            Self::Text(text) => Some((false, text.as_bytes())),
            Self::Binary(bytes) => Some((true, bytes)),
            Self::Close(_) | Self::Nothing | Self::EndSession => None,
        }
    }

    /// Length of the content.
    pub(in crate::gateway) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::Close(_) | Self::Nothing | Self::EndSession => 0,
        }
    }
}

impl<'a> From<&'a wafer::PushAction> for Command<'a> {
    fn from(command: &'a wafer::PushAction) -> Self {
        match command {
            wafer::PushAction::Message(content) => Self::Text(content),
            wafer::PushAction::Close => Self::Close(None),
        }
    }
}

impl<'a> From<&'a Payload> for Command<'a> {
    fn from(payload: &'a Payload) -> Self {
        match payload {
            Payload::Text(text) => Self::Text(text),
            Payload::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

/// A command with its encoded frames, and what counts and records what becomes of it.
pub(in crate::gateway) struct EncodedCommand<'a> {
    pub(in crate::gateway) command: Command<'a>,
    metrics: &'a Metrics,
    recording: Option<Recording<'a>>,
    wafer: Option<Bytes>,
    native: Option<Bytes>,
}

impl<'a> EncodedCommand<'a> {
    pub(in crate::gateway) fn new(command: Command<'a>, metrics: &'a Metrics) -> Self {
        Self { command, metrics, recording: None, wafer: None, native: None }
    }

    /// The same with records of it.
    pub(in crate::gateway) fn recorded(self, recording: Option<Recording<'a>>) -> Self {
        let recording = recording.filter(|_| self.command != Command::Nothing);
        let recording = recording.map(|recording| recording.with(self.command.bytes(), self.command.is_close()));
        Self { recording, ..self }
    }

    /// Its records, if there are any.
    pub(in crate::gateway) fn recording(&mut self) -> Option<&mut Recording<'a>> {
        self.recording.as_mut()
    }

    /// Ends the work on this node's targets.
    pub(in crate::gateway) fn finish(&mut self) {
        self.recording.iter_mut().for_each(Recording::finish);
    }

    /// The frame for `profile`; `None` for a command without a frame.
    pub(in crate::gateway) fn frame(&mut self, profile: Profile) -> Option<&Bytes> {
        let frame = match profile {
            Profile::Wafer => &mut self.wafer,
            Profile::Native => &mut self.native,
        };
        if frame.is_none() {
            *frame = encode(self.command, profile);
        }
        frame.as_ref()
    }

    /// Counts and records what became of it at one target of this node.
    pub(super) fn count(&mut self, tunnel: (TunnelId, Option<&ConnectorName>), sent: Sent) {
        if let Some(recording) = &mut self.recording {
            recording.target(tunnel, self.command.payload(), sent);
        }
        match sent {
            Sent::Accepted => self.metrics.deliveries.accepted.inc(),
            Sent::Slow => self.metrics.deliveries.slow.inc(),
            Sent::Closed => {}
        }
    }
}

fn encode(command: Command<'_>, profile: Profile) -> Option<Bytes> {
    match (command, profile) {
        (Command::Text(text), Profile::Wafer) => Some(frame::text(packet::MESSAGE_PREFIX, text)),
        (Command::Text(text), Profile::Native) => Some(frame::text("", text)),
        (Command::Binary(bytes), Profile::Wafer) => Some(frame::text(packet::MESSAGE_PREFIX, &STANDARD.encode(bytes))),
        (Command::Binary(bytes), Profile::Native) => Some(frame::binary(bytes)),
        (Command::Close(_) | Command::Nothing | Command::EndSession, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frame_is_encoded_once() {
        let metrics = Metrics::default();
        for command in [Command::Text("text"), Command::Binary(b"binary")] {
            let mut frames = EncodedCommand::new(command, &metrics);
            for profile in [Profile::Wafer, Profile::Native, Profile::Wafer, Profile::Native] {
                let first = frames.frame(profile).expect("it sends something").clone();
                let again = frames.frame(profile).expect("it sends something");
                assert_eq!((first.as_ptr(), first.len()), (again.as_ptr(), again.len()), "{command:?} {profile:?}");
            }
        }
        assert_eq!(EncodedCommand::new(Command::Close(None), &metrics).frame(Profile::Native), None);
    }
}
