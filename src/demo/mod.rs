//! The chat room 三木聊天室 on the Wafer calls, and beside it 剪刀石头布 on the native API: ordinary business servers that show the use of a
//! tunnel.
//!
//! They use only the public HTTP API of the gateway.

mod answer;
mod api;
mod game;
mod gateway;
mod history;
mod name;
mod room;
mod settings;
mod webhook;
pub mod wechat;

use std::collections::VecDeque;
use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::LengthLimitError;
use http_body_util::Limited;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::Uri;
use hyper::body::Body;
use hyper::header::HOST;
use hyper::header::HeaderMap;
use hyper::header::HeaderValue;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::timeout;
use url::form_urlencoded;

pub use self::settings::Settings;

use self::api::Api;
use self::api::ApiError;
use self::game::Game;
use self::name::Name;
use self::room::Packet;
use self::room::Room;
use self::webhook::Event;

/// Largest webhook, in bytes.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// Time limit for the body of a webhook.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The chat room's business server.
pub struct Demo {
    api: Api,
    key: String,
    clock: fn() -> Duration,
    /// Held while its packets are pushed, so that everyone receives them in the same order.
    room: Mutex<Room>,
    /// The second room.
    game: Game,
}

impl Demo {
    /// Opens an empty room.
    pub fn new(settings: Settings) -> Self {
        let game = Game::new(&settings);
        Self { api: Api::new(&settings), key: settings.key, clock: settings.clock, room: Mutex::default(), game }
    }

    /// Answers one request: the page, its tunnel request, or a webhook.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        match (head.uri.path(), &head.method) {
            ("/", &Method::GET | &Method::HEAD) => answer::page(),
            ("/", _) => answer::wrong_method("GET, HEAD"),
            ("/chat/tunnel", &Method::GET | &Method::HEAD) => self.issue(&head.uri, &head.headers).await,
            ("/chat/tunnel", &Method::POST) => self.receive(&head.uri, body).await,
            ("/chat/tunnel", _) => answer::wrong_method("GET, HEAD, POST"),
            ("/game", &Method::GET | &Method::HEAD) => answer::game_page(),
            ("/game/tunnel", &Method::GET | &Method::HEAD) => {
                let query = |key| query(&head.uri, key).unwrap_or_default();
                self.game.issue(&query("player"), &query("name"), host(&head.uri, &head.headers).as_ref()).await
            }
            ("/game" | "/game/tunnel", _) => answer::wrong_method("GET, HEAD"),
            ("/game/events", &Method::POST) => match read(body).await {
                Ok(body) => self.game.receive(&head.headers, &body),
                Err(refusal) => refusal,
            },
            ("/game/events", _) => answer::wrong_method("POST"),
            _ => answer::not_found(),
        }
    }

    async fn issue(&self, uri: &Uri, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let query = |key| query(uri, key);
        let name = match Name::parse(&query("name").unwrap_or_default()) {
            Ok(name) => name,
            Err(error) => return answer::error(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let scheme = query("scheme").unwrap_or_else(|| "wss".to_owned());
        if !matches!(scheme.as_str(), "ws" | "wss") {
            return answer::error(StatusCode::BAD_REQUEST, "scheme is ws or wss");
        }
        if let Err(full) = self.room.lock().await.has_place() {
            return answer::error(StatusCode::SERVICE_UNAVAILABLE, &full.to_string());
        }
        let issued = match self.api.issue(&scheme, host(uri, headers).as_ref(), &name).await {
            Ok(issued) => issued,
            Err(error) => return no_tunnel(&error),
        };
        let data = json!({ "connectUrl": issued.connect_url, "tunnelId": issued.tunnel_id });
        answer::json(StatusCode::OK, &json!({ "code": 0, "data": data }))
    }

    async fn receive<B>(&self, uri: &Uri, body: B) -> Response<Full<Bytes>>
    where
        B: Body,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let body = match read(body).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        match webhook::open(&body, &self.key) {
            Ok(event) => {
                // The receive URL carries the name to the gateway and back, so nothing is stored here until the tunnel connects.
                self.apply(event, Name::parse(&query(uri, "name").unwrap_or_default()).ok()).await;
                answer::json(StatusCode::OK, &json!({ "code": 0, "message": "ok" }))
            }
            Err(refusal) => {
                let body = json!({ "code": refusal.code(), "message": refusal.to_string() });
                answer::json(StatusCode::BAD_REQUEST, &body)
            }
        }
    }

    async fn apply(&self, event: Event, name: Option<Name>) {
        let time_ms = (self.clock)().as_millis() as u64;
        let mut room = self.room.lock().await;
        let packets = match event {
            Event::Connect { tunnel_id } => room.connect(&tunnel_id, name, time_ms),
            Event::Message { tunnel_id, content } => room.message(&tunnel_id, &content, time_ms),
            Event::Close { tunnel_id } => room.close(&tunnel_id),
        };
        self.push(&mut room, packets).await;
    }

    /// Pushes the packets in order; tunnels that turn out to be gone leave the room, which causes further packets.
    async fn push(&self, room: &mut Room, packets: Vec<Packet>) {
        let mut packets = VecDeque::from(packets);
        while let Some(packet) = packets.pop_front() {
            match self.api.push(&packet).await {
                Ok(gone) => packets.extend(room.lost(&gone)),
                Err(error) => tracing::warn!(error = &error as &dyn Error, "the chat room lost a packet"),
            }
        }
    }
}

/// The body of a webhook, or the answer that refuses it.
async fn read<B>(body: B) -> Result<Bytes, Response<Full<Bytes>>>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    match timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(answer::error(StatusCode::PAYLOAD_TOO_LARGE, "a webhook has at most 256 KiB"))
        }
        Ok(Err(_)) => Err(answer::error(StatusCode::BAD_REQUEST, "the request body broke off")),
        Err(_) => Err(answer::error(StatusCode::REQUEST_TIMEOUT, "the request body did not arrive in time")),
    }
}

fn no_tunnel(error: &ApiError) -> Response<Full<Bytes>> {
    tracing::warn!(error = error as &dyn Error, "the chat room got no tunnel");
    answer::error(StatusCode::BAD_GATEWAY, "暂时连不上信道服务，请稍后再试 (no tunnel at the moment, please try again)")
}

/// The first value of `key` in the query.
fn query(uri: &Uri, key: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs.find(|(name, _)| name == key).map(|(_, value)| value.into_owned())
}

/// This server's host as the browser sent it; HTTP/2 has it in the URI.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<HeaderValue> {
    let authority = || HeaderValue::from_str(uri.authority()?.as_str()).ok();
    headers.get(HOST).cloned().or_else(authority)
}

#[cfg(test)]
mod tests;
