//! Decodes a chunked body. Pure: the caller feeds bytes.

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;

use crate::http_client::malformed::Malformed;

/// Limit of a chunk-size line, with extensions.
const MAX_LINE_BYTES: usize = 4 * 1024;

/// Limit of framing and trailers of one body.
const MAX_FRAMING_BYTES: usize = 512 * 1024;

/// The decoder of one body.
#[derive(Debug)]
pub(crate) struct Chunked {
    data: BytesMut,
    max_data: usize,
    framing_bytes: usize,
    state: State,
    /// Whether all framing was strictly valid, and not only readable.
    is_clean: bool,
}

/// The decoder state: what comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    /// The last chunk and the trailers are complete.
    Whole,
    /// The body was cut at its limit.
    Cut,
}

impl Chunked {
    /// A decoder that keeps at most `max_data` bytes.
    pub(crate) fn new(max_data: usize) -> Self {
        Self { data: BytesMut::new(), max_data, framing_bytes: 0, state: State::Size, is_clean: true }
    }

    /// Consumes bytes of the body from `buffer`; true once the body has ended or is cut.
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut) -> Result<bool, Malformed> {
        loop {
            self.state = match self.state {
                State::Whole | State::Cut => return Ok(true),
                State::Data(left) => {
                    let room = self.max_data - self.data.len();
                    let taken = left.min(buffer.len() as u64).min(room as u64) as usize;
                    self.data.extend_from_slice(&buffer[..taken]);
                    buffer.advance(taken);
                    match left - taken as u64 {
                        0 => State::DataEnd,
                        _ if taken == room => State::Cut,
                        left => {
                            self.state = State::Data(left);
                            return Ok(false);
                        }
                    }
                }
                State::Size | State::DataEnd | State::Trailer => {
                    let Some(line) = self.take_line(buffer)? else {
                        return Ok(false);
                    };
                    self.framing_bytes += line.len() + 2;
                    if self.framing_bytes > MAX_FRAMING_BYTES {
                        return Err(Malformed::Chunk);
                    }
                    self.after(&line)?
                }
            };
        }
    }

    /// Whether the body ended validly, so that the connection can be reused.
    pub(crate) fn is_clean(&self) -> bool {
        self.is_clean && self.state == State::Whole
    }

    /// Whether all data has arrived: the last chunk has, if not the trailers.
    pub(crate) fn has_all(&self) -> bool {
        matches!(self.state, State::Trailer | State::Whole)
    }

    /// Whether the body was cut at its limit.
    pub(crate) fn is_at_cap(&self) -> bool {
        self.state == State::Cut
    }

    /// Bytes decoded so far.
    pub(crate) fn length(&self) -> usize {
        self.data.len()
    }

    /// The decoded data.
    pub(crate) fn into_data(self) -> Bytes {
        self.data.freeze()
    }

    /// Removes the next complete line from `buffer`, without its end.
    fn take_line(&mut self, buffer: &mut BytesMut) -> Result<Option<BytesMut>, Malformed> {
        let searched = &buffer[..buffer.len().min(MAX_LINE_BYTES)];
        let Some(end) = searched.iter().position(|byte| *byte == b'\n') else {
            return if searched.len() < MAX_LINE_BYTES { Ok(None) } else { Err(Malformed::Chunk) };
        };
        let mut line = buffer.split_to(end);
        buffer.advance(1);
        if line.last() == Some(&b'\r') {
            line.truncate(end - 1);
        } else {
            self.is_clean = false;
        }
        Ok(Some(line))
    }

    /// The state after a framing line.
    fn after(&mut self, line: &[u8]) -> Result<State, Malformed> {
        match self.state {
            State::Size => {
                let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
                // Some servers pad the size.
                self.is_clean &= !size.iter().any(u8::is_ascii_whitespace);
                match parse_size(size.trim_ascii()).ok_or(Malformed::Chunk)? {
                    0 => Ok(State::Trailer),
                    size => Ok(State::Data(size)),
                }
            }
            State::DataEnd if line.is_empty() => Ok(State::Size),
            State::Trailer if line.is_empty() => Ok(State::Whole),
            State::Trailer => Ok(State::Trailer),
            _ => Err(Malformed::Chunk),
        }
    }
}

/// Parses a chunk size.
fn parse_size(size: &[u8]) -> Option<u64> {
    // `from_str_radix` would also accept a sign.
    let is_number = !size.is_empty() && size.iter().all(u8::is_ascii_hexdigit);
    let size = str::from_utf8(size).ok().filter(|_| is_number)?;
    u64::from_str_radix(size, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `body` in pieces of `size` bytes; returns the data, whether it was complete, and the rest.
    fn decode(body: &str, size: usize, max_data: usize) -> Result<(Bytes, bool, usize), Malformed> {
        let mut chunked = Chunked::new(max_data);
        let mut buffer = BytesMut::new();
        let mut is_done = false;
        for piece in body.as_bytes().chunks(size) {
            buffer.extend_from_slice(piece);
            is_done = is_done || chunked.decode(&mut buffer)?;
        }
        assert_eq!(is_done, matches!(chunked.state, State::Whole | State::Cut));
        let is_whole = chunked.state == State::Whole;
        Ok((chunked.into_data(), is_whole, buffer.len()))
    }

    #[test]
    fn chunks_are_put_together_however_they_are_cut() {
        let bodies = [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("5\r\nhello\r\n1;x=\"y\"\r\n \r\n00A \r\n0123456789\r\n000\r\n\r\n", "hello 0123456789"),
            ("2\r\n\r\n\r\n0\r\nexpires: never\r\nx: y\r\n\r\n", "\r\n"),
        ];

        for (body, data) in bodies {
            for size in 1..=body.len() {
                assert_eq!(decode(body, size, 100), Ok((data.into(), true, 0)), "{body:?} by {size}");
            }
        }
    }

    #[test]
    fn what_can_be_read_is_read_and_noted() {
        let bodies = [
            ("2\r\nok\r\n0\r\n\r\n", true),
            ("2;name=\"value\"; x\r\nok\r\n0;last\r\ntrailer: x\r\n\r\n", true),
            ("2 \r\nok\r\n0\r\n\r\n", false),
            (" 2\r\nok\r\n0\r\n\r\n", false),
            ("2 ;x\r\nok\r\n0\r\n\r\n", false),
            ("2\nok\r\n0\r\n\r\n", false),
            ("2\r\nok\n0\r\n\r\n", false),
            ("2\r\nok\r\n0\n\n", false),
        ];

        for (body, is_clean) in bodies {
            let mut chunked = Chunked::new(100);
            assert_eq!(chunked.decode(&mut body.into()), Ok(true), "{body:?}");
            assert_eq!((chunked.is_clean(), chunked.has_all()), (is_clean, true), "{body:?}");
            assert_eq!(chunked.into_data(), "ok", "{body:?}");
        }
    }

    #[test]
    fn what_comes_after_the_body_is_left() {
        assert_eq!(decode("1\r\nx\r\n0\r\n\r\nHTTP", 100, 100), Ok(("x".into(), true, 4)));
    }

    #[test]
    fn a_body_is_cut_at_its_cap() {
        let body = "5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n";

        assert_eq!(decode(body, 3, 10), Ok(("helloworld".into(), true, 0)));
        for cap in [0, 1, 4, 6, 9] {
            let (data, is_whole, _) = decode(body, 3, cap).expect("well formed");
            assert_eq!((data, is_whole), ("helloworld"[..cap].to_owned().into(), false), "{cap}");
        }
    }

    #[test]
    fn bad_framing_is_refused() {
        let long_line = format!("1;{}\r\nx\r\n", "x".repeat(MAX_LINE_BYTES));
        let long_trailers = format!("0\r\n{}", "x: y\r\n".repeat(100_000));
        let bodies = [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\nx\r\n",
            "0x1\r\nx\r\n",
            "1 2\r\nx\r\n",
            "1\r\nxy\r\n",
            "1\r\nx0\r\n\r\n",
            "11111111111111111\r\n",
            ";\r\n",
            &long_line,
            &long_trailers,
        ];

        for body in bodies {
            let start = &body[..body.len().min(20)];
            assert_eq!(decode(body, 777, 100), Err(Malformed::Chunk), "{start:?}");
        }
    }

    #[test]
    fn a_body_that_breaks_off_is_not_whole() {
        for body in ["", "5", "5\r\nhel", "5\r\nhello", "5\r\nhello\r\n", "0\r\n", "0\r\nx: y\r\n"] {
            let (_, is_whole, _) = decode(body, 100, 100).expect("well formed so far");
            assert!(!is_whole, "{body:?}");
            let mut chunked = Chunked::new(100);
            assert_eq!(chunked.decode(&mut body.into()), Ok(false));
            assert_eq!((chunked.has_all(), chunked.is_clean()), (body.starts_with('0'), false), "{body:?}");
        }
    }
}
