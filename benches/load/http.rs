//! HTTP/1.1 messages on keep-alive connections, with a Content-Length.

/// The only header that is parsed.
const LENGTH: &[u8] = b"content-length:";

/// One whole request or response.
pub(crate) struct Message<'a> {
    /// Its first line.
    pub(crate) start: &'a str,
    /// Its body.
    pub(crate) body: &'a [u8],
    /// Its length, head included.
    pub(crate) bytes: usize,
}

impl<'a> Message<'a> {
    /// The path of a request.
    pub(crate) fn path(&self) -> &'a str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> &'a str {
        self.path()
    }
}

/// The message at the start of `input`, if complete.
pub(crate) fn read(input: &[u8]) -> Option<Message<'_>> {
    let mut body_bytes = 0;
    let mut at = 0;
    loop {
        let line = at + input[at..].iter().position(|byte| *byte == b'\n')? + 1;
        let text = input[at..line].trim_ascii_end();
        at = line;
        if text.is_empty() {
            break;
        }
        if let Some((name, value)) = text.split_at_checked(LENGTH.len())
            && name.eq_ignore_ascii_case(LENGTH)
        {
            body_bytes = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
        }
    }
    let body = input.get(at..at + body_bytes)?;
    let start = input.split(|byte| *byte == b'\r').next().and_then(|line| std::str::from_utf8(line).ok())?;
    Some(Message { start, body, bytes: at + body_bytes })
}
