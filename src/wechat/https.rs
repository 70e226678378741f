//! The HTTPS adapter: certificates are verified, redirects are not followed, and every wait has a limit.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hyper::Method;
use hyper::StatusCode;
use hyper::header::ACCEPT;
use hyper::header::CONTENT_TYPE;
use hyper::header::HeaderValue;
use hyper::header::USER_AGENT;
use ipnet::IpNet;
use zeroize::Zeroizing;

use super::NoAnswer;
use super::WeChat;
use crate::clock::Clock;
use crate::http_client::Flights;
use crate::http_client::answer::Coding;
use crate::http_client::answer::End;
use crate::http_client::client::Caller;
use crate::http_client::client::Client;
use crate::http_client::client::Settings;
use crate::http_client::dial::TcpDial;
use crate::http_client::error::AttemptError;
use crate::http_client::guard::Guard;
use crate::http_client::receive_url::ReceiveUrl;
use crate::http_client::resolve::Resolve;
use crate::http_client::tls::Roots;
use crate::id::TenantId;
use crate::lease_guard::LeaseGuard;
use crate::protocol::wechat::Question;

/// Asks WeChat over HTTPS.
pub struct Https {
    client: Client,
    origin: String,
    limit: Duration,
}

impl Https {
    /// Prepares requests to `origin`, such as `https://api.weixin.qq.com`, each within `limit`. It is the operator's address, so it
    /// may be any.
    pub fn new(
        origin: &str,
        limit: Duration,
        roots: Roots,
        resolver: Arc<dyn Resolve>,
        clock: Arc<dyn Clock>,
        flights: Flights,
    ) -> Self {
        let everything = ["0.0.0.0/0", "::/0"].map(|network| network.parse::<IpNet>().expect("a network"));
        let client = Client::new(Settings {
            guard: Guard::new(everything.into()),
            roots,
            resolver,
            dial: Arc::new(TcpDial),
            wall_clock: Arc::new(move || std::time::UNIX_EPOCH + clock.unix_time()),
            // Whoever logs in belongs to no tunnel of this node.
            lease_guard: Arc::new(LeaseGuard::forever()),
            flights,
        });
        Self { client, origin: origin.trim_end_matches('/').to_owned(), limit }
    }
}

#[async_trait]
impl WeChat for Https {
    async fn ask(&self, app_id: &str, question: &Question) -> Result<Bytes, NoAnswer> {
        let url = Zeroizing::new(format!("{}{}", self.origin, question.target.as_str()));
        let url = ReceiveUrl::parse(&url).map_err(|_| NoAnswer::Unusable("the request is too long".to_owned()))?;
        let (method, body) = match &question.body {
            Some(body) => (Method::POST, Bytes::copy_from_slice(body.as_bytes())),
            None => (Method::GET, Bytes::new()),
        };
        let headers = [
            (ACCEPT, HeaderValue::from_static("application/json")),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (USER_AGENT, HeaderValue::from_static(concat!("wafergate/", env!("CARGO_PKG_VERSION")))),
        ];
        // No tenant has a colon in its id.
        let app = TenantId::new(&format!("app:{app_id}"));
        let caller = Caller { tenant: &app, incarnation: 0 };
        let answer = self.client.send(caller, &method, &url, &headers, body, self.limit).await.map_err(no_answer)?;
        match (answer.status, answer.end, answer.coding) {
            (StatusCode::OK, End::Broken(error), _) => Err(no_answer(error)),
            (StatusCode::OK, End::Whole, Coding::None) if !answer.body.is_empty() => Ok(answer.body),
            (StatusCode::OK, End::Whole, Coding::None) => Err(NoAnswer::Unusable("the answer is empty".to_owned())),
            (StatusCode::OK, ..) => Err(NoAnswer::Unusable("the answer is too long or encoded".to_owned())),
            (status, ..) => Err(NoAnswer::Unusable(format!("the answer has status {}", status.as_u16()))),
        }
    }
}

fn no_answer(error: AttemptError) -> NoAnswer {
    match &error {
        AttemptError::Timeout { .. } => NoAnswer::Late,
        AttemptError::Connect(_) | AttemptError::Lost { .. } => NoAnswer::Lost(error.reason().into_owned()),
        _ => NoAnswer::Unusable(error.reason().into_owned()),
    }
}
