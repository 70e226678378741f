//! The session service without HTTP, on a store that can be late, with a WeChat that can hang.

use std::sync::Arc;
use std::sync::Weak;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use wafergate::clock::SystemClock;
use wafergate::config;
use wafergate::login::App;
use wafergate::login::Entered;
use wafergate::login::LoginError;
use wafergate::login::LoginRequest;
use wafergate::login::Parts;
use wafergate::login::Sessions;
use wafergate::login::Tunnels;
use wafergate::metrics::Metrics;
use wafergate::options;
use wafergate::protocol::wechat::Question;
use wafergate::secret::Secret;
use wafergate::session::SessionId;
use wafergate::session::Vault;
use wafergate::wechat::Calls;
use wafergate::wechat::NoAnswer;
use wafergate::wechat::WeChat;

use super::outage::Fickle;

/// A code `USER-ANYTHING` is of this user; those of `never` get no answer.
struct Played;

#[async_trait]
impl WeChat for Played {
    async fn ask(&self, _: &str, question: &Question) -> Result<Bytes, NoAnswer> {
        let code = question.target.split("js_code=").nth(1).unwrap_or_default();
        let user = code.split("%2D").next().unwrap_or_default();
        if user == "never" {
            std::future::pending::<()>().await;
        }
        Ok(json!({ "openid": format!("o{user}"), "session_key": "AAECAwQFBgcICQoLDA0ODw==" }).to_string().into())
    }
}

/// The sessions with tunnels that were told to end.
#[derive(Default)]
pub(super) struct Ended(pub(super) Mutex<Vec<SessionId>>);

#[async_trait]
impl Tunnels for Ended {
    async fn close_of(self: Arc<Self>, _: &str, sessions: &[SessionId]) {
        self.0.lock().extend(sessions.iter().cloned());
    }
}

/// The service and what it uses.
pub(super) struct Service {
    pub(super) sessions: Arc<Sessions>,
    pub(super) store: Arc<Fickle>,
    pub(super) ended: Arc<Ended>,
}

impl Service {
    /// With these apps.
    pub(super) fn new(apps: &[&str]) -> Self {
        let (metrics, clock, store) = (Metrics::default(), Arc::new(SystemClock), Arc::new(Fickle::default()));
        let mut options = config::load(None, []).expect("usable defaults").options.session;
        let app = |id: &&str| options::App {
            app_id: (*id).to_owned(),
            secret: Secret::new("secret"),
            ..options::App::default()
        };
        options.apps = apps.iter().map(app).collect();
        let sessions = Sessions::new(Parts {
            options,
            store: store.clone(),
            wechat: Calls::new(Arc::new(Played), clock.clone(), metrics.clone()),
            vault: Vault::new(b"test"),
            clock,
            random: rand::random,
            metrics,
        });
        let ended = Arc::new(Ended::default());
        let tunnels: Weak<Ended> = Arc::downgrade(&ended);
        sessions.set_tunnels(tunnels);
        Self { sessions, store, ended }
    }

    /// An app.
    pub(super) fn app(&self, id: &str) -> Arc<App> {
        Arc::clone(self.sessions.apps().app(id).expect("it is configured"))
    }

    /// Logs in with a code.
    pub(super) async fn log_in(&self, app: &str, code: &str, is_repeatable: bool) -> Result<Entered, LoginError> {
        let (app, code) = (self.app(app), code.to_owned());
        self.sessions.log_in(LoginRequest { app, code, data: None, metadata: None, life: None, is_repeatable }).await
    }
}
