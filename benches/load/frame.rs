//! WebSocket frames of a client (RFC 6455, section 5.2), as far as the load tool needs them.

/// The mask of all frames: real clients use random ones, at the same cost for the server.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One whole frame of a server.
pub(crate) struct Frame<'a> {
    /// Its opcode: 1 is text, 8 is close.
    pub(crate) opcode: u8,
    /// Its payload.
    pub(crate) payload: &'a [u8],
    /// Its length, header included.
    pub(crate) bytes: usize,
}

/// The frame at the start of `input`, if complete.
pub(crate) fn read(input: &[u8]) -> Option<Frame<'_>> {
    let (header, length) = length(input)?;
    let bytes = header + length;
    Some(Frame { opcode: input[0] & 0x0f, payload: input.get(header..bytes)?, bytes })
}

/// Lengths of header and payload.
fn length(input: &[u8]) -> Option<(usize, usize)> {
    match input.get(1)? & 0x7f {
        126 => Some((4, usize::from(u16::from_be_bytes(*input.get(2..)?.first_chunk()?)))),
        127 => Some((10, usize::try_from(u64::from_be_bytes(*input.get(2..)?.first_chunk()?)).ok()?)),
        short => Some((2, usize::from(short))),
    }
}

/// Appends a client's text frame.
pub(crate) fn write_masked(out: &mut Vec<u8>, text: &[u8]) {
    out.push(0x81);
    push_length(out, 0x80, text.len());
    out.extend(MASK);
    let start = out.len();
    out.extend_from_slice(text);
    unmask(&mut out[start..], MASK);
}

/// Appends a server's frame.
pub(crate) fn write_plain(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    push_length(out, 0, payload.len());
    out.extend_from_slice(payload);
}

fn push_length(out: &mut Vec<u8>, mask_bit: u8, length: usize) {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..126), _) => out.push(mask_bit | short),
        (_, Ok(medium)) => {
            out.push(mask_bit | 126);
            out.extend(medium.to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
}

/// The client's frame at the start of `input`, unmasked in place, if complete.
pub(crate) fn read_masked(input: &mut [u8]) -> Option<Frame<'_>> {
    let (header, length) = length(input)?;
    let start = header + MASK.len();
    let bytes = start + length;
    let mask = *input.get(header..)?.first_chunk()?;
    let opcode = input[0] & 0x0f;
    let payload = input.get_mut(start..bytes)?;
    unmask(payload, mask);
    Some(Frame { opcode, payload, bytes })
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let (words, rest) = payload.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask) {
        *byte ^= key;
    }
}
