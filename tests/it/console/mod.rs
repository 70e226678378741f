//! The console's calls: who may use them, what they find and do.

mod entry;
mod finding;
mod streams;

use std::net::SocketAddr;

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

use super::support::HttpAnswer;
use super::support::TestGateway;
use super::support::http::read_answer;
use super::support::http::read_head;
use super::support::request;
use super::support::within;

/// The token of the tests.
const TOKEN: &str = "a token of the console's tests";

/// Header lines that the page adds to a change.
const OWN: &str = "X-Wafergate: 1\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/json\r\n";

/// An operator with a session.
struct Operator {
    admin: SocketAddr,
    cookie: String,
}

impl Operator {
    /// Logs in.
    async fn of(gateway: &TestGateway) -> Self {
        let answer = log_in(gateway.admin, TOKEN).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let cookie = answer.header("set-cookie").expect("a cookie").split(';').next().expect("a pair").to_owned();
        Self { admin: gateway.admin, cookie }
    }

    /// The header line of the session.
    fn session(&self) -> String {
        format!("Cookie: other=1; {}\r\n", self.cookie)
    }

    /// Reads below `/console/api/`.
    async fn get(&self, path: &str) -> HttpAnswer {
        request(self.admin, &format!("GET /console/api/{path}"), &self.session(), b"").await
    }

    /// Reads what must be there.
    async fn read(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// Changes something as the page does.
    async fn post(&self, path: &str, body: &Value) -> HttpAnswer {
        let headers = self.session() + OWN;
        request(self.admin, &format!("POST /console/api/{path}"), &headers, body.to_string().as_bytes()).await
    }
}

/// A change of which the gateway waits for the body.
struct Begun(TcpStream);

impl Begun {
    /// Sends the head from this address of the machine, and waits until the body is asked for.
    async fn from(source: &str, admin: SocketAddr, path: &str, headers: &str, length: usize) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(source.parse().expect("an address"), 0)).expect("a free port");
        let mut stream = socket.connect(admin).await.expect("connects");
        let head = format!("POST /console/api/{path} HTTP/1.1\r\nHost: {admin}\r\nContent-Length: {length}\r\n");
        let head = format!("{head}Expect: 100-continue\r\n{headers}{OWN}\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let interim = within("it is asked for", read_head(&mut stream, &mut vec![])).await;
        assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
        Self(stream)
    }

    async fn finish(mut self, body: &str) -> HttpAnswer {
        self.0.write_all(body.as_bytes()).await.expect("sent");
        within("an answer", read_answer(&mut self.0, &mut vec![])).await
    }
}

async fn log_in(admin: SocketAddr, token: &str) -> HttpAnswer {
    request(admin, "POST /console/api/login", OWN, json!({"token": token}).to_string().as_bytes()).await
}

/// Status and code of a refusal.
fn refusal(answer: &HttpAnswer) -> (u16, String) {
    let json = answer.json();
    assert!(json["message"].as_str().is_some_and(|message| message.len() > 10), "{json}");
    (answer.status, json["code"].as_str().expect("a code").to_owned())
}
