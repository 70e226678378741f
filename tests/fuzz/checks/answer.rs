//! A business server's answer, whole or in pieces: its head, its framing and its body must come out the same.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use wafergate::http_client::Flights;
use wafergate::http_client::answer::Answer;
use wafergate::http_client::answer::End;
use wafergate::http_client::answer::MAX_BODY_BYTES;
use wafergate::http_client::client::Caller;
use wafergate::http_client::client::Client;
use wafergate::http_client::client::Settings;
use wafergate::http_client::dial::Dial;
use wafergate::http_client::dial::Transport;
use wafergate::http_client::receive_url::ReceiveUrl;
use wafergate::http_client::resolve::Resolve;
use wafergate::http_client::tls::Roots;
use wafergate::id::TenantId;
use wafergate::lease_guard::LeaseGuard;

/// Takes every request, and answers with these bytes, a piece at a time.
struct Script(VecDeque<Vec<u8>>);

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Every connection is the script; no network is reached.
struct Scripted(VecDeque<Vec<u8>>);

#[async_trait]
impl Dial for Scripted {
    async fn dial(&self, _address: SocketAddr) -> io::Result<Transport> {
        Ok(Transport::Right(Box::new(Script(self.0.clone()))))
    }
}

#[async_trait]
impl Resolve for Scripted {
    async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// What came of an answer in these pieces, if it was one, and whether something is wrong with its end: that may show sooner or later.
async fn post(pieces: VecDeque<Vec<u8>>) -> Option<(String, bool)> {
    let client = Client::new(Settings {
        guard: vec![].into(),
        roots: Roots::Given(vec![]),
        resolver: Arc::new(Scripted(VecDeque::new())),
        dial: Arc::new(Scripted(pieces)),
        wall_clock: Arc::new(|| UNIX_EPOCH + Duration::from_secs(784_111_777)),
        lease_guard: Arc::new(LeaseGuard::forever()),
        flights: Flights::unbounded(),
    });
    let url = ReceiveUrl::parse("http://93.184.216.34/").expect("valid");
    let caller = Caller { tenant: &TenantId::new("t"), incarnation: 0 };
    match client.post(caller, &url, &[], Bytes::from_static(b"{}"), Duration::from_secs(1)).await {
        Ok(answer) => {
            let Answer { status, retry_after, coding, body, end } = answer;
            assert!(body.len() <= MAX_BODY_BYTES);
            let is_broken = matches!(end, End::Broken(_));
            Some((format!("{status} {retry_after:?} {coding:?} {body:?}"), is_broken))
        }
        Err(error) => {
            assert!(!error.reason().is_empty());
            None
        }
    }
}

/// Panics where a promise does not hold.
pub(crate) fn check(input: (Vec<u8>, &[u8])) {
    let (cuts, answer) = input;
    let mut pieces = VecDeque::new();
    let mut rest = answer;
    let mut cuts = cuts.iter();
    while !rest.is_empty() {
        let length = cuts.next().map_or(rest.len(), |cut| usize::from(*cut)).clamp(1, rest.len());
        let (piece, behind) = rest.split_at(length);
        pieces.push_back(piece.to_vec());
        rest = behind;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let (whole, in_pieces) = runtime
        .expect("builds")
        .block_on(async { (post(VecDeque::from([answer.to_vec()])).await, post(pieces).await) });
    assert_eq!(whole.as_ref().map(|(answer, _)| answer), in_pieces.as_ref().map(|(answer, _)| answer));
    // Bytes behind its end are seen if they have come with it.
    let is_broken = |answer: Option<(String, bool)>| answer.is_some_and(|(_, is_broken)| is_broken);
    assert!(is_broken(whole) || !is_broken(in_pieces));
}
