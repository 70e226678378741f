//! The connection over scripted servers.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::DuplexStream;
use tokio::io::duplex;

use super::super::dial::Dial;
use super::*;

/// A server that answers every command but the login with this.
async fn serve(mut stream: DuplexStream, answer: &'static str) {
    let mut bytes = [0; 1_024];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        let is_login = bytes[..count].windows(5).any(|word| word == b"HELLO");
        let answer = if is_login { "%1\r\n$5\r\nproto\r\n:3\r\n" } else { answer };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn one_whose_answers_are_those_of_other_commands_is_replaced_and_the_command_sent_again() {
    let dialled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dialled);
    let dial = Dial::new(move || {
        let (near, far) = duplex(4_096);
        let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
        tokio::spawn(serve(far, if is_first { ":1\r\n" } else { "*1\r\n$1\r\na\r\n" }));
        Ok(Box::new(near))
    });
    let mut url = RedisUrl::parse("redis://scripted:1").expect("a URL");
    url.dial = Some(dial);
    let link = ReconnectingConnection::new(url, None);

    let answer: Vec<String> = link.call(redis::cmd("HKEYS").arg("key")).await.expect("asked again");

    assert_eq!((answer, dialled.load(Ordering::Relaxed), link.number()), (vec!["a".to_owned()], 2, Some(2)));
}
