//! WebSocket frames (RFC 6455, section 5): decodes those of clients in place, and encodes those to clients.
//!
//! tungstenite reads and writes the header itself; the checks for a server are here.

use std::io::Cursor;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::Control;
use tungstenite::protocol::frame::coding::Data;
pub use tungstenite::protocol::frame::coding::OpCode;

use super::fault::Fault;

/// The longest header of a client's frame: two bytes, eight of length, four of mask.
pub const MAX_HEADER_BYTES: usize = 14;

/// Largest payload of a control frame (RFC 6455, section 5.5).
pub const MAX_CONTROL_BYTES: usize = 125;

/// One unmasked frame of a client, borrowed from the read buffer.
#[derive(Debug, Eq, PartialEq)]
pub struct Frame<'a> {
    /// Its opcode.
    pub opcode: OpCode,
    /// Whether it is the last frame of its message.
    pub is_final: bool,
    /// The unmasked payload.
    pub payload: &'a [u8],
    /// Its length in the input, header included.
    pub consumed: usize,
}

/// The start of an input.
#[derive(Debug, Eq, PartialEq)]
pub enum Decoded<'a> {
    /// A whole frame.
    Frame(Frame<'a>),
    /// A close frame with this fault in its header. It still closes the connection, and everything behind it is ignored.
    BrokenClose(Fault),
    /// An incomplete frame: its total length, or a lower bound of it.
    Incomplete(usize),
}

/// How a client closes the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Goodbye {
    /// With a valid close frame; the answer carries the same code, if any.
    Proper(Option<u16>),
    /// With this fault, which the answer names.
    Faulty(Fault),
}

impl Goodbye {
    /// The code of the close frame that answers it, if any.
    pub fn code(self) -> Option<u16> {
        match self {
            Self::Proper(code) => code,
            Self::Faulty(fault) => fault.reason().code(),
        }
    }

    /// The text of that close frame.
    pub fn text(self) -> &'static str {
        match self {
            Self::Proper(_) => "",
            Self::Faulty(fault) => fault.text(),
        }
    }
}

/// Decodes the frame at the start of `input` and unmasks its payload in place.
///
/// # Errors
///
/// A violation of RFC 6455, or [`Fault::TooBig`] for a payload over `max_payload_bytes`. Both are found in the header, before
/// anything is stored for the payload.
pub fn decode(input: &mut [u8], max_payload_bytes: usize) -> Result<Decoded<'_>, Fault> {
    let mut cursor = Cursor::new(&*input);
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Fault::ReservedOpcode)?;
    let Some((header, payload_bytes)) = parsed else {
        return Ok(Decoded::Incomplete(MAX_HEADER_BYTES.max(input.len() + 1)));
    };
    let header_bytes = header_bytes(&cursor);
    let mask = match check(&header, payload_bytes, header_bytes) {
        Ok(mask) => mask,
        Err(fault) if header.opcode == OpCode::Control(Control::Close) => return Ok(Decoded::BrokenClose(fault)),
        Err(fault) => return Err(fault),
    };
    let payload_bytes = usize::try_from(payload_bytes).map_err(|_| Fault::TooBig)?;
    if payload_bytes > max_payload_bytes {
        return Err(Fault::TooBig);
    }
    let consumed = header_bytes + payload_bytes;
    let Some(payload) = input.get_mut(header_bytes..consumed) else {
        return Ok(Decoded::Incomplete(consumed));
    };
    unmask(payload, mask);
    Ok(Decoded::Frame(Frame { opcode: header.opcode, is_final: header.is_final, payload, consumed }))
}

fn header_bytes(cursor: &Cursor<&[u8]>) -> usize {
    usize::try_from(cursor.position()).expect("a header is at most 14 bytes")
}

/// Checks a client's frame by its header alone and returns the mask.
fn check(header: &FrameHeader, payload_bytes: u64, header_bytes: usize) -> Result<[u8; 4], Fault> {
    let is_control = matches!(header.opcode, OpCode::Control(_));
    match header.mask {
        _ if header.rsv1 => Err(Fault::Compressed),
        _ if header.rsv2 || header.rsv3 => Err(Fault::ReservedBit),
        None => Err(Fault::Unmasked),
        _ if is_control && !header.is_final => Err(Fault::FragmentedControl),
        _ if is_control && payload_bytes > MAX_CONTROL_BYTES as u64 => Err(Fault::LongControl),
        _ if payload_bytes >> 63 != 0 => Err(Fault::HugeLength),
        _ if header_bytes != header.len(payload_bytes) => Err(Fault::LongLength),
        Some(mask) => Ok(mask),
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let mut words = payload.chunks_exact_mut(8);
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    for word in &mut words {
        let plain = u64::from_ne_bytes((&*word).try_into().expect("chunks of eight")) ^ wide;
        word.copy_from_slice(&plain.to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Encodes a text frame whose payload is `prefix` followed by `content`.
pub fn text(prefix: &str, content: &str) -> Bytes {
    encode(OpCode::Data(Data::Text), &[prefix.as_bytes(), content.as_bytes()])
}

/// Encodes a binary frame.
pub fn binary(content: &[u8]) -> Bytes {
    encode(OpCode::Data(Data::Binary), &[content])
}

/// Encodes the answer to a ping, which carries the ping's payload.
pub fn pong(payload: &[u8]) -> Bytes {
    encode(OpCode::Control(Control::Pong), &[payload])
}

/// Encodes a ping without payload.
pub fn ping() -> Bytes {
    encode(OpCode::Control(Control::Ping), &[])
}

/// Encodes a close frame; without a code it is empty.
pub fn close(code: Option<u16>, reason: &str) -> Bytes {
    match code {
        None => encode(OpCode::Control(Control::Close), &[]),
        Some(code) => encode(OpCode::Control(Control::Close), &[&code.to_be_bytes(), reason.as_bytes()]),
    }
}

fn encode(opcode: OpCode, parts: &[&[u8]]) -> Bytes {
    let payload_bytes: usize = parts.iter().map(|part| part.len()).sum();
    let header = FrameHeader { is_final: true, opcode, ..FrameHeader::default() };
    let mut frame = BytesMut::with_capacity(MAX_HEADER_BYTES + payload_bytes);
    header.format(payload_bytes as u64, &mut (&mut frame).writer()).expect("a buffer grows as needed");
    for part in parts {
        frame.put_slice(part);
    }
    frame.freeze()
}

/// Parses the payload of a client's close frame (RFC 6455, sections 5.5.1 and 7.4).
pub fn goodbye(payload: &[u8]) -> Goodbye {
    match payload {
        [] => Goodbye::Proper(None),
        [_] => Goodbye::Faulty(Fault::HalfCloseCode),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Goodbye::Faulty(Fault::BadCloseCode);
            }
            if std::str::from_utf8(reason).is_err() {
                return Goodbye::Faulty(Fault::BadCloseText);
            }
            Goodbye::Proper(Some(code))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).expect("short")];
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
        frame
    }

    fn refusal(mut input: Vec<u8>) -> Fault {
        decode(&mut input, 1_000).expect_err("must be refused")
    }

    /// The masked "Hello" of RFC 6455, section 5.7.
    #[test]
    fn the_example_of_the_standard_is_decoded() {
        let mut input = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58, 0xff];

        let decoded = decode(&mut input, 1_000);

        let frame = Frame { opcode: OpCode::Data(Data::Text), is_final: true, payload: b"Hello", consumed: 11 };
        assert_eq!(decoded, Ok(Decoded::Frame(frame)));
    }

    #[test]
    fn every_cut_of_a_frame_is_incomplete() {
        let whole = masked(0x82, &[7; 100]);
        for cut in 0..whole.len() {
            let mut input = whole[..cut].to_vec();
            match decode(&mut input, 1_000) {
                Ok(Decoded::Incomplete(needed)) => assert!(needed > cut),
                other => panic!("cut at {cut}: {other:?}"),
            }
        }
    }

    #[test]
    fn long_lengths_are_read_and_bounded() {
        let mut medium = vec![0x82, 0xfe, 0x01, 0x00];
        medium.extend(MASK);
        medium.extend([0; 256]);
        assert!(matches!(decode(&mut medium, 256), Ok(Decoded::Frame(Frame { consumed: 264, .. }))));
        medium.truncate(8);
        assert_eq!(decode(&mut medium, 255), Err(Fault::TooBig));
    }

    /// A ping or close frame with a payload over the limit.
    fn long_control(first: u8) -> Vec<u8> {
        [&[first, 0xfe, 0x00, 0x7e][..], &MASK, &[0; 126]].concat()
    }

    #[test]
    fn what_the_standard_forbids_is_named() {
        let forbidden = [
            (Fault::Compressed, masked(0xc1, b"x")),
            (Fault::Compressed, masked(0xf1, b"x")),
            (Fault::ReservedBit, masked(0xa1, b"x")),
            (Fault::ReservedBit, masked(0x92, b"x")),
            (Fault::ReservedOpcode, masked(0x83, b"x")),
            (Fault::ReservedOpcode, masked(0x8b, b"x")),
            (Fault::FragmentedControl, masked(0x09, b"x")),
            (Fault::Unmasked, vec![0x81, 0x01, b'x']),
            (Fault::LongControl, long_control(0x89)),
            (Fault::LongLength, [&[0x82, 0xfe, 0x00, 0x05][..], &MASK, &[0; 5]].concat()),
            (Fault::LongLength, [&[0x82, 0xff][..], &[0; 7], &[5], &MASK, &[0; 5]].concat()),
            (Fault::HugeLength, [&[0x82, 0xff, 0x80][..], &[0; 7], &MASK].concat()),
        ];
        for (fault, input) in forbidden {
            assert_eq!(refusal(input.clone()), fault, "{input:x?}");
        }
    }

    #[test]
    fn a_close_frame_is_a_goodbye_whatever_is_wrong_with_its_header() {
        let broken = [
            (Fault::Compressed, masked(0xc8, b"\x03\xe8")),
            (Fault::ReservedBit, masked(0xa8, b"\x03\xe8")),
            (Fault::FragmentedControl, masked(0x08, b"\x03\xe8")),
            (Fault::Unmasked, vec![0x88, 0x02, 0x03, 0xe8]),
            (Fault::LongControl, long_control(0x88)),
            (Fault::LongControl, long_control(0x88)[..8].to_vec()),
            (Fault::LongLength, [&[0x88, 0xfe, 0x00, 0x02][..], &MASK, &[0; 2]].concat()),
        ];
        for (fault, mut input) in broken {
            assert_eq!(decode(&mut input, 1_000), Ok(Decoded::BrokenClose(fault)));
        }
    }

    #[test]
    fn close_codes_follow_the_table() {
        let frame = |code: u16| [&code.to_be_bytes()[..], b"bye"].concat();
        assert_eq!(goodbye(b""), Goodbye::Proper(None));
        assert_eq!(goodbye(b"\x03"), Goodbye::Faulty(Fault::HalfCloseCode));
        for code in [1000, 1001, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4999] {
            assert_eq!(goodbye(&frame(code)), Goodbye::Proper(Some(code)));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert_eq!(goodbye(&frame(code)), Goodbye::Faulty(Fault::BadCloseCode), "{code}");
        }
        assert_eq!(goodbye(b"\x03\xe8\xff"), Goodbye::Faulty(Fault::BadCloseText));
        assert_eq!(goodbye(b"\x03\xe8caf\xc3"), Goodbye::Faulty(Fault::BadCloseText), "cut inside a character");
    }

    #[test]
    fn a_goodbye_is_answered_with_its_code_or_with_what_is_wrong_with_it() {
        assert_eq!((Goodbye::Proper(Some(4000)).code(), Goodbye::Proper(Some(4000)).text()), (Some(4000), ""));
        assert_eq!((Goodbye::Proper(None).code(), Goodbye::Proper(None).text()), (None, ""));
        let faulty = Goodbye::Faulty(Fault::BadCloseText);
        assert_eq!((faulty.code(), faulty.text()), (Some(1007), Fault::BadCloseText.text()));
    }

    #[test]
    fn frames_for_clients_are_unmasked_and_in_one_piece() {
        assert_eq!(&text("message:", "é")[..], b"\x81\x0amessage:\xc3\xa9");
        assert_eq!(&close(Some(1001), "x")[..], b"\x88\x03\x03\xe9x");
        assert_eq!(&close(None, "x")[..], b"\x88\x00");
        assert_eq!(&pong(b"p")[..], b"\x8a\x01p");
        assert_eq!(text("", &"x".repeat(70_000)).len(), 70_010);
    }
}
