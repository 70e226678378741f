//! The calls: what is repeated and when, which secret is used, and the access token behind them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use tokio::time::Instant;
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::NoAnswer;
use super::WeChat;
use super::tokens::Token;
use super::tokens::Tokens;
use crate::clock::Clock;
use crate::clock::millis;
use crate::metrics::Metrics;
use crate::protocol::wechat;
use crate::protocol::wechat::Api;
use crate::protocol::wechat::CodeSession;
use crate::protocol::wechat::Denial;
use crate::protocol::wechat::Phone;
use crate::protocol::wechat::Question;
use crate::protocol::wechat::Unusable;
use crate::secret::Secret;

/// Wait before the only repeat.
const REPEAT_AFTER: Duration = Duration::from_millis(200);
/// How a request may end, in metrics.
const RESULTS: [&str; 8] = ["ok", "refused", "busy", "quota", "secret", "malformed", "away", "timeout"];

/// An app as WeChat knows it.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// Its id.
    pub app_id: &'a str,
    /// Its secrets; more than one while it is rotated.
    pub secrets: &'a [Secret],
}

/// Why a call failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    /// No answer.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// WeChat refuses, or its answer cannot be read.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

impl Failure {
    /// What it means if WeChat refuses.
    pub fn denial(&self) -> Option<Denial> {
        match self {
            Self::Unusable(Unusable::Refused { code, .. }) => Some(Denial::of(*code)),
            _ => None,
        }
    }

    /// One of [`RESULTS`].
    fn result(&self) -> &'static str {
        match self {
            Self::NoAnswer(NoAnswer::Late) => "timeout",
            Self::NoAnswer(_) => "away",
            Self::Unusable(Unusable::Malformed) => "malformed",
            Self::Unusable(Unusable::Refused { code, .. }) => match Denial::of(*code) {
                Denial::Busy => "busy",
                Denial::Quota => "quota",
                Denial::Secret => "secret",
                _ => "refused",
            },
        }
    }
}

/// Calls WeChat.
pub struct Calls {
    wechat: Arc<dyn WeChat>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    tokens: Tokens,
    /// Which of an app's secrets was right last.
    right: DashMap<String, usize>,
}

impl Calls {
    /// Calls through `wechat`.
    pub fn new(wechat: Arc<dyn WeChat>, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        for api in Api::ALL {
            RESULTS.iter().for_each(|result| metrics.wechat_requestable(api.as_str(), result));
        }
        Self { wechat, clock, metrics, tokens: Tokens::default(), right: DashMap::new() }
    }

    /// Exchanges the code of `wx.login`.
    ///
    /// # Errors
    ///
    /// If WeChat refuses or does not answer.
    pub async fn code_session(&self, account: Account<'_>, code: &str) -> Result<CodeSession, Failure> {
        let ask = |secret: &Secret| Question::code_session(account.app_id, secret.expose(), code);
        self.with_secret(account, ask, wechat::code_session).await
    }

    /// The phone number behind a code.
    ///
    /// # Errors
    ///
    /// If WeChat refuses or does not answer.
    pub async fn phone(&self, account: Account<'_>, code: &str) -> Result<Phone, Failure> {
        self.with_token(account, |token| Question::phone(token, code), wechat::phone).await
    }

    /// Asks whether a user's key is still valid; refused as [`Denial::StaleKey`] if not.
    ///
    /// # Errors
    ///
    /// If WeChat refuses or does not answer.
    pub async fn check_session(&self, account: Account<'_>, open_id: &str, key: &str) -> Result<(), Failure> {
        let signature = wechat::signature(key, b"");
        let ask = |token: &str| Question::check_session(token, open_id, &signature);
        self.with_token(account, ask, wechat::done).await
    }

    /// Replaces a user's key and returns the new one.
    ///
    /// # Errors
    ///
    /// If WeChat refuses or does not answer.
    pub async fn reset_key(&self, account: Account<'_>, open_id: &str, key: &str) -> Result<String, Failure> {
        let signature = wechat::signature(key, b"");
        let ask = |token: &str| Question::reset_key(token, open_id, &signature);
        self.with_token(account, ask, wechat::new_session_key).await
    }

    /// The app's access token and its end in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// If WeChat refuses or does not answer.
    pub async fn access_token(&self, account: Account<'_>) -> Result<(Zeroizing<String>, u64), Failure> {
        let token = self.token(account, None).await?;
        Ok((token.text, token.expires_ms))
    }

    /// The app's token; another one than `refused`.
    async fn token(&self, account: Account<'_>, refused: Option<&str>) -> Result<Token, Failure> {
        let mut place = self.tokens.place(account.app_id).await;
        let now_ms = millis(self.clock.unix_time());
        let is_other = |token: &Token| refused.is_none_or(|refused| token.text.as_str() != refused);
        if let Some(token) = place.as_ref().filter(|token| token.is_good(now_ms) && is_other(token)) {
            return Ok(token.clone());
        }
        let ask = |secret: &Secret| Question::access_token(account.app_id, secret.expose(), false);
        let fresh = self.with_secret(account, ask, wechat::access_token).await?;
        let expires_ms = now_ms.saturating_add(fresh.valid_secs.saturating_mul(1_000));
        let token = Token { text: Zeroizing::new(fresh.token), expires_ms };
        *place = Some(token.clone());
        Ok(token)
    }

    /// A call with the token; once more with another one if WeChat does not accept it.
    async fn with_token<T>(
        &self,
        account: Account<'_>,
        ask: impl Fn(&str) -> Question,
        read: impl Fn(&[u8]) -> Result<T, Unusable>,
    ) -> Result<T, Failure> {
        let token = self.token(account, None).await?;
        match self.ask(account.app_id, &ask(&token.text), &read).await {
            Err(failure) if failure.denial() == Some(Denial::Token) => {
                let token = self.token(account, Some(&token.text)).await?;
                self.ask(account.app_id, &ask(&token.text), &read).await
            }
            answer => answer,
        }
    }

    /// A call with the secret that was right last, then with the others.
    async fn with_secret<T>(
        &self,
        account: Account<'_>,
        ask: impl Fn(&Secret) -> Question,
        read: impl Fn(&[u8]) -> Result<T, Unusable>,
    ) -> Result<T, Failure> {
        let count = account.secrets.len();
        let right = self.right.get(account.app_id).map_or(0, |right| *right);
        let mut failure = Failure::Unusable(Unusable::Malformed);
        for turn in 0..count {
            let number = (right + turn) % count;
            match self.ask(account.app_id, &ask(&account.secrets[number]), &read).await {
                Err(wrong) if wrong.denial() == Some(Denial::Secret) => failure = wrong,
                answer => {
                    if answer.is_ok() && number != right {
                        self.right.insert(account.app_id.to_owned(), number);
                    }
                    return answer;
                }
            }
        }
        tracing::error!(
            app.id = account.app_id,
            reason = %failure,
            "WeChat refuses the secret of an app: nobody can log in to it, correct session.apps or `wafergate app rotate-secret`",
        );
        Err(failure)
    }

    /// One call; repeated once if the connection failed or WeChat is busy.
    async fn ask<T>(
        &self,
        app_id: &str,
        question: &Question,
        read: &impl Fn(&[u8]) -> Result<T, Unusable>,
    ) -> Result<T, Failure> {
        let mut answer = self.ask_once(app_id, question, read).await;
        let is_lost = matches!(&answer, Err(Failure::NoAnswer(NoAnswer::Lost(_))));
        if is_lost || matches!(&answer, Err(failure) if failure.denial() == Some(Denial::Busy)) {
            sleep(REPEAT_AFTER).await;
            answer = self.ask_once(app_id, question, read).await;
        }
        if let Err(Failure::NoAnswer(reason)) = &answer {
            tracing::warn!(app.id = app_id, api = question.api.as_str(), %reason, "WeChat does not answer: users cannot log in, check session.wechat_url and the network");
        }
        answer
    }

    async fn ask_once<T>(
        &self,
        app_id: &str,
        question: &Question,
        read: &impl Fn(&[u8]) -> Result<T, Unusable>,
    ) -> Result<T, Failure> {
        let (api, start): (Api, _) = (question.api, Instant::now());
        let answer: Result<Bytes, NoAnswer> = self.wechat.ask(app_id, question).await;
        self.metrics.wechat_duration(api.as_str(), start.elapsed());
        let result = match answer {
            Ok(body) => read(&body).map_err(Failure::from),
            Err(error) => Err(error.into()),
        };
        let label = result.as_ref().map_or_else(Failure::result, |_| "ok");
        self.metrics.wechat_request(api.as_str(), label);
        result
    }
}
