//! 剪刀石头布 (rock, paper, scissors): a business server on the native API. It asks for tunnels; all else are actions in its answers to
//! events.

mod api;
mod table;
mod webhook;

use std::collections::VecDeque;
use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use hyper::header::HeaderValue;
use parking_lot::Mutex;
use serde_json::Value;
use serde_json::json;

use self::api::Api;
use self::table::Tables;
use self::webhook::Event;
use self::webhook::Kind;
use super::Settings;
use super::answer;
use super::name::Name;

/// Answers that are kept for events that come again: an event whose answer was lost is sent once more.
const KEPT_ANSWERS: usize = 256;
/// Longest id of a player, in bytes.
const MAX_PLAYER_BYTES: usize = 64;

/// The game's business server.
pub(super) struct Game {
    api: Api,
    key: String,
    clock: fn() -> Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tables: Tables,
    /// The webhook ids of the last events, with the answers.
    answers: VecDeque<(String, Value)>,
}

impl Game {
    /// A game without players.
    pub(super) fn new(settings: &Settings) -> Self {
        Self { api: Api::new(settings), key: settings.key.clone(), clock: settings.clock, state: Mutex::default() }
    }

    /// A page asks for a tunnel: `player` is its secret, by which it finds its seat again.
    pub(super) async fn issue(&self, player: &str, name: &str, host: Option<&HeaderValue>) -> Response<Full<Bytes>> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if player.is_empty() || player.len() > MAX_PLAYER_BYTES || !player.bytes().all(is_word) {
            return answer::error(StatusCode::BAD_REQUEST, "player is 1 to 64 letters, digits and hyphens");
        }
        let name = match Name::parse(name) {
            Ok(name) => name,
            Err(error) => return answer::error(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        match self.api.open(player, &name, (self.clock)(), host).await {
            Ok(connect_url) => answer::json(StatusCode::OK, &json!({ "connectUrl": connect_url })),
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "the game got no tunnel");
                answer::error(
                    StatusCode::BAD_GATEWAY,
                    "暂时连不上信道服务，请稍后再试 (no tunnel at the moment, please try again)",
                )
            }
        }
    }

    /// An event of the gateway. An event that comes again gets the answer of the first time.
    pub(super) fn receive(&self, headers: &HeaderMap, body: &[u8]) -> Response<Full<Bytes>> {
        let event = match webhook::open(headers, body, &self.key, (self.clock)()) {
            Ok(event) => event,
            Err(refusal) => return answer::error(StatusCode::BAD_REQUEST, &refusal.to_string()),
        };
        let mut state = self.state.lock();
        if let Some((_, known)) = state.answers.iter().find(|(id, _)| *id == event.id) {
            return answer::json(StatusCode::OK, known);
        }
        let actions = json!({ "actions": act(&mut state.tables, &event) });
        if state.answers.len() == KEPT_ANSWERS {
            state.answers.pop_front();
        }
        state.answers.push_back((event.id, actions.clone()));
        answer::json(StatusCode::OK, &actions)
    }
}

fn act(tables: &mut Tables, event: &Event) -> Vec<Value> {
    let Event { tunnel, player, .. } = event;
    match &event.kind {
        Kind::Connected { name } => match Name::parse(name) {
            Ok(name) => tables.connect(player, tunnel, name),
            Err(_) => vec![json!({ "close": { "reason": "no name" } })],
        },
        Kind::Message { text } => tables.message(player, tunnel, text),
        Kind::Closed => tables.close(player, tunnel),
    }
}
