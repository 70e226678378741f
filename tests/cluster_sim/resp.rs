//! The Redis protocol, as far as the gateway and the tests use it.

/// A reply or push message of Redis.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Reply {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Push(Vec<Reply>),
}

impl Reply {
    pub(crate) fn ok() -> Self {
        Self::Simple("OK".to_owned())
    }

    pub(crate) fn text(text: impl AsRef<[u8]>) -> Self {
        Self::Bulk(text.as_ref().to_vec())
    }

    pub(crate) fn texts<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::Array(texts.into_iter().map(Self::text).collect())
    }

    /// With each list in order: Redis' own order of hashes means nothing.
    pub(crate) fn sorted(self) -> Self {
        match self {
            Self::Array(items) => {
                let mut items: Vec<Self> = items.into_iter().map(Self::sorted).collect();
                // Lists of lists are tuples: their order means something.
                if !items.iter().any(|item| matches!(item, Self::Array(_) | Self::Int(_))) {
                    items.sort();
                }
                Self::Array(items)
            }
            other => other,
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let items = |out: &mut Vec<u8>, kind: char, items: &[Self]| {
            out.extend(format!("{kind}{}\r\n", items.len()).bytes());
            items.iter().for_each(|item| item.write(out));
        };
        match self {
            Self::Simple(text) => out.extend(format!("+{text}\r\n").bytes()),
            Self::Error(text) => out.extend(format!("-{text}\r\n").bytes()),
            Self::Int(number) => out.extend(format!(":{number}\r\n").bytes()),
            Self::Nil => out.extend(b"_\r\n"),
            Self::Bulk(bytes) => {
                out.extend(format!("${}\r\n", bytes.len()).bytes());
                out.extend(bytes);
                out.extend(b"\r\n");
            }
            Self::Array(list) => items(out, '*', list),
            Self::Push(list) => items(out, '>', list),
            Self::Map(pairs) => {
                out.extend(format!("%{}\r\n", pairs.len()).bytes());
                for (key, value) in pairs {
                    key.write(out);
                    value.write(out);
                }
            }
        }
    }

    /// Reads one from the front, and says how long it was; none if it is not all there.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(&bytes[1..end]).expect("text");
        let mut at = end + 2;
        let reply = match bytes[0] {
            b'+' => Self::Simple(line.to_owned()),
            b'-' => Self::Error(line.to_owned()),
            b':' => Self::Int(line.parse().expect("a number")),
            b'$' | b'*' if line == "-1" => Self::Nil,
            b'$' => {
                let length: usize = line.parse().expect("a length");
                let text = bytes.get(at..at + length + 2)?;
                at += length + 2;
                Self::Bulk(text[..length].to_vec())
            }
            b'*' => {
                let count: usize = line.parse().expect("a count");
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    let (item, length) = Self::read(&bytes[at..])?;
                    items.push(item);
                    at += length;
                }
                Self::Array(items)
            }
            other => panic!("not a word of the protocol: {other}"),
        };
        Some((reply, at))
    }
}

/// Takes the commands that are all there from the front.
pub(crate) fn take_commands(bytes: &mut Vec<u8>) -> Vec<Vec<Vec<u8>>> {
    let (mut commands, mut at) = (vec![], 0);
    while at < bytes.len()
        && let Some((Reply::Array(words), length)) = Reply::read(&bytes[at..])
    {
        at += length;
        let bulk = |word| if let Reply::Bulk(bytes) = word { bytes } else { panic!("a command of words") };
        commands.push(words.into_iter().map(bulk).collect());
    }
    bytes.drain(..at);
    commands
}

/// A command as it travels.
pub(crate) fn command(words: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![];
    Reply::texts(words).write(&mut out);
    out
}
