//! A mini-program and a business server's calls, by hand, over any stream.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;

use socket2::Domain;
use socket2::Socket;
use socket2::Type;
use wafergate::protocol::signature;
use wafergate::protocol::text::md5_hex;

use super::gateway::KEY;
use super::gateway::SOON;

/// Connects to the address in a URL of the gateway.
pub(crate) fn connect(url: &str) -> TcpStream {
    let authority = url.split("://").nth(1).expect("a URL").split('/').next().expect("an authority");
    let stream = TcpStream::connect(authority).expect("connected");
    stream.set_read_timeout(Some(SOON)).expect("set");
    stream
}

/// The same from an address of this machine.
pub(crate) fn connect_from(from: [u8; 4], url: &str) -> TcpStream {
    let to: SocketAddr = url.split("://").nth(1).expect("a URL").parse().expect("an address");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("bound");
    socket.set_read_timeout(Some(SOON)).expect("set");
    socket.connect(&to.into()).expect("connected");
    socket.into()
}

/// One request, one answer: its head and its body.
pub(crate) fn exchange(stream: &mut (impl Read + Write), request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).expect("written");
    let head = read_head(stream);
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    (head, String::from_utf8(body).expect("text"))
}

pub(crate) fn get(url: &str, path: &str) -> (String, String) {
    exchange(&mut connect(url), &format!("GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n"))
}

/// Calls `/get/wsurl` or `/ws/push` for the tenant of `business`; returns the answer.
pub(crate) fn call(stream: &mut (impl Read + Write), business: &str, path: &str, data: &str) -> serde_json::Value {
    try_call(stream, business, path, data).unwrap_or_else(|answer| panic!("{answer}"))
}

/// The same; an answer that is none of the gateway's own, as it came.
pub(crate) fn try_call(
    stream: &mut (impl Read + Write),
    business: &str,
    path: &str,
    data: &str,
) -> Result<serde_json::Value, String> {
    let signature = signature::wafer(data, KEY);
    let body = serde_json::json!({"data": data, "tcId": md5_hex(business), "tcKey": KEY, "signature": signature});
    let body = body.to_string();
    let head = format!("POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {}\r\n\r\n", body.len());
    let (head, answer) = exchange(stream, &(head + &body));
    serde_json::from_str(&answer).map_err(|_| head + &answer)
}

/// Asks for a tunnel; its id and the path of its connect URL.
pub(crate) fn ask(stream: &mut (impl Read + Write), business: &str) -> (String, String) {
    try_ask(stream, business).unwrap_or_else(|answer| panic!("refused: {answer}"))
}

/// Asks for a tunnel; the answer if it is not granted.
pub(crate) fn try_ask(stream: &mut (impl Read + Write), business: &str) -> Result<(String, String), serde_json::Value> {
    try_ask_for(stream, business, &format!("http://{business}/tunnel"))
}

/// The same with another receive URL.
pub(crate) fn try_ask_for(
    stream: &mut (impl Read + Write),
    business: &str,
    receive_url: &str,
) -> Result<(String, String), serde_json::Value> {
    let data = format!("{{\"receiveUrl\":\"{receive_url}\",\"protocolType\":\"ws\"}}");
    let answer = call(stream, business, "/get/wsurl", &data);
    if answer["code"] != 0 {
        return Err(answer);
    }
    let data: serde_json::Value = serde_json::from_str(answer["data"].as_str().expect("text")).expect("JSON");
    let path = data["connectUrl"].as_str().expect("text").split("gateway").nth(1).expect("a path").to_owned();
    Ok((data["tunnelId"].as_str().expect("text").to_owned(), path))
}

/// A tunnel's client.
pub(crate) struct Client<S>(pub(crate) S);

impl<S: Read + Write> Client<S> {
    /// Opens a tunnel at the path of its connect URL, and takes its first packet.
    pub(crate) fn open(stream: S, path: &str) -> Self {
        Self::open_with(stream, path, 30)
    }

    /// The same on a node with another heartbeat.
    pub(crate) fn open_with(stream: S, path: &str, heartbeat_secs: u64) -> Self {
        let mut client = Self::try_open(stream, path).unwrap_or_else(|head| panic!("{head}"));
        assert_eq!(client.receive(), (1, format!("timeout:{heartbeat_secs}").into_bytes()));
        client
    }

    /// Opens a tunnel, and takes nothing yet; the answer's head if it is refused.
    pub(crate) fn try_open(mut stream: S, path: &str) -> Result<Self, String> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("written");
        let head = read_head(&mut stream);
        if head.starts_with("HTTP/1.1 101 ") { Ok(Self(stream)) } else { Err(head) }
    }

    /// Sends a text frame; its mask is zero.
    pub(crate) fn send(&mut self, text: &str) {
        let mut frame = vec![0x81, 0xff];
        frame.extend((text.len() as u64).to_be_bytes());
        if text.len() < 65_536 {
            frame = vec![0x81, 0xfe];
            frame.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
        }
        if text.len() < 126 {
            frame = vec![0x81, 0x80 | u8::try_from(text.len()).expect("short")];
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.0.write_all(&frame).expect("written");
    }

    /// The next frame: opcode and payload.
    pub(crate) fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a frame");
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.0.read_exact(&mut length).expect("a length");
                u64::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.0.read_exact(&mut length).expect("a length");
                u64::from_be_bytes(length)
            }
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).expect("it fits")];
        self.0.read_exact(&mut payload).expect("a payload");
        (head[0] & 0x0f, payload)
    }
}

fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}
