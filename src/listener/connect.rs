//! TCP connections that are made again and again while the network is away, and words for what fails.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::protocol::connector::FailureCode;

/// A packet that a broken network swallows is sent again only after one second, then three, seven. A new connection is tried sooner, so that
/// it is there within a second of the network's return.
const STAGGER: Duration = Duration::from_millis(700);

/// A stream of bytes in both directions.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection: plain or TLS, direct or through a proxy.
pub(super) type Stream = Box<dyn Duplex>;

/// Why there is no connection. Nothing was sent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{words}")]
pub struct Unreached {
    /// The kind.
    pub code: FailureCode,
    /// What happened, and what to change.
    pub words: String,
}

/// Connects to `host`, which may be an address in brackets, within `patience`.
pub(super) async fn connect(host: &str, port: u16, patience: Duration) -> Result<TcpStream, Unreached> {
    let bare = host.trim_matches(['[', ']']);
    let deadline = Instant::now() + patience;
    let found = timeout_at(deadline, tokio::net::lookup_host((bare, port))).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            let error = error.to_string();
            let why = error.rsplit_once("address information: ").map_or(error.as_str(), |(_, why)| why);
            return Err(Unreached { code: FailureCode::Dns, words: format!("{bare} does not resolve: {why}") });
        }
        Err(_) => {
            let words = format!("{bare} does not resolve: the name server does not respond");
            return Err(Unreached { code: FailureCode::Dns, words });
        }
    };
    match one_of(&addresses, deadline, TcpStream::connect).await {
        Ok(stream) => {
            // Small messages must not wait for each other. Without it they are late, and still right.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Err(error) => Err(Unreached { code: FailureCode::Connect, words: words(&error, host, port) }),
    }
}

/// The first connection to one of the addresses. They are dialled in turn, the next one as soon as one fails or takes long. Behind the last one
/// they are dialled again while a try is still out, each after the pause, since a try that fails at once would be repeated without end.
async fn one_of<S, F: Future<Output = io::Result<S>>>(
    addresses: &[SocketAddr],
    deadline: Instant,
    mut dial: impl FnMut(SocketAddr) -> F,
) -> io::Result<S> {
    let mut tries = FuturesUnordered::new();
    let mut error = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for (number, address) in addresses.iter().cycle().enumerate() {
        if number >= addresses.len() && tries.is_empty() {
            break;
        }
        tries.push(dial(*address));
        let has_new_address = number + 1 < addresses.len();
        let next = (Instant::now() + STAGGER).min(deadline);
        while let Ok(Some(ended)) = timeout_at(next, tries.next()).await {
            match ended {
                Ok(stream) => return Ok(stream),
                Err(failed) => error = failed,
            }
            if has_new_address {
                break;
            }
        }
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Err(error)
}

fn words(error: &io::Error, host: &str, port: u16) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("connection refused at {host}:{port}"),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => format!("no route to {host}"),
        io::ErrorKind::TimedOut => format!("{host}:{port} does not respond"),
        _ => format!("no connection to {host}:{port}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_second_address_is_tried_when_the_first_one_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let there = listener.local_addr().expect("an address");
        let refused: SocketAddr = "127.0.0.1:1".parse().expect("an address");

        let deadline = Instant::now() + Duration::from_secs(5);
        let stream = one_of(&[refused, there], deadline, TcpStream::connect).await.expect("connects");

        assert_eq!(stream.peer_addr().expect("an address"), there);
        let error = one_of(&[refused], deadline, TcpStream::connect).await.expect_err("refused");
        assert_eq!(words(&error, "[::1]", 1), "connection refused at [::1]:1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_fails_at_once_beside_one_that_hangs_is_repeated_after_a_pause() {
        let mut dials = 0;
        let address: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        let dial = |_| {
            dials += 1;
            let hangs = dials == 1;
            async move {
                match hangs {
                    true => std::future::pending::<io::Result<()>>().await,
                    false => Err(io::ErrorKind::NetworkUnreachable.into()),
                }
            }
        };

        let error =
            one_of(&[address], Instant::now() + Duration::from_secs(10), dial).await.expect_err("no connection");

        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!((10..=15).contains(&dials), "{dials}");
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_named() {
        let unreached = connect("nowhere.invalid", 1, Duration::from_secs(10)).await.expect_err("no such name");

        assert_eq!(unreached.code, FailureCode::Dns);
        assert!(unreached.words.starts_with("nowhere.invalid does not resolve: "), "{unreached}");
    }
}
