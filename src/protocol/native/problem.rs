//! Errors as RFC 9457 problems: each has a stable code and a sentence that says what to change.

use serde::Serialize;

/// Longest detail of a problem, in characters.
const MAX_DETAIL_CHARS: usize = 2_000;

/// Every error code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Code {
    /// Neither a signature nor a bearer key was sent.
    CredentialsMissing,
    /// A bearer key that is wrong, or of an unknown tenant.
    CredentialsWrong,
    /// A bearer key over a connection that others can read.
    BearerInsecure,
    /// A signature that cannot be read.
    SignatureMalformed,
    /// A signature that leaves out what it must cover.
    SignatureIncomplete,
    /// A signature outside its time window.
    SignatureStale,
    /// A signature that does not match the request, or of an unknown tenant.
    SignatureWrong,
    /// A `Content-Digest` that does not match the body.
    DigestMismatch,
    /// A nonce that was used before.
    NonceReplayed,
    /// An unknown path.
    NotFound,
    /// The path exists, but not for this method.
    MethodNotAllowed,
    /// The tunnel is not open: requested only, closed, or never issued to this tenant.
    TunnelNotOpen,
    /// No open tunnel is in the group.
    GroupUnknown,
    /// No open tunnel is the user's.
    UserUnknown,
    /// The body is not the JSON that the call requires.
    BodyInvalid,
    /// A part of the path or query is not valid.
    ParameterInvalid,
    /// There is no URL to send events to.
    WebhookUrlMissing,
    /// The webhook URL is invalid, not allowed for the tenant, or unreachable by rule.
    WebhookUrlRefused,
    /// The body or a part of it exceeds its limit.
    TooLarge,
    /// Too many tunnel ids in one call.
    TooManyTargets,
    /// The tunnel is in the maximum number of groups, or its tenant has too many groups and users.
    TooManyGroups,
    /// Connectors are off for the tenant.
    ConnectorsOff,
    /// The call cannot be made over the connection of a connector.
    CallNotAllowed,
    /// The name of a connector is not the one in the path.
    ConnectorMismatch,
    /// The tenant has its maximum number of connectors.
    TooManyConnectors,
    /// The request is no WebSocket handshake.
    UpgradeRequired,
    /// A node of the last release cannot do this yet.
    UpgradeRunning,
    /// The tenant has its maximum number of tunnels.
    TooManyTunnels,
    /// Too many close events are waiting for the tenant's business server.
    TooManyPending,
    /// Calls exceed the rate limit.
    TooFast,
    /// The `Idempotency-Key` is not valid.
    IdempotencyKeyInvalid,
    /// The `Idempotency-Key` was used with another body.
    IdempotencyKeyReused,
    /// The first call with this `Idempotency-Key` is still running.
    IdempotencyKeyRunning,
    /// The body ended early or took too long.
    BodyBroken,
    /// The body has a content encoding such as gzip.
    BodyEncoded,
    /// The node is overloaded.
    Busy,
    /// This node accepts no new tunnels.
    Draining,
    /// The shared engine is not reachable.
    EngineAway,
    /// Another node involved does not respond.
    NodeAway,
    /// WeChat does not accept the code of a login.
    WechatCodeInvalid,
    /// WeChat blocks the user.
    WechatUserBlocked,
    /// WeChat has had too many requests.
    WechatQuota,
    /// WeChat does not accept the secret of the app.
    WechatSecretWrong,
    /// WeChat does not answer, or refuses for another reason.
    WechatAway,
    /// The session store does not answer.
    SessionStoreAway,
    /// The session has ended, or never was.
    SessionEnded,
    /// The user's key is not known any more.
    SessionKeyStale,
    /// Data that cannot be used: not encrypted with the user's key, or two things that exclude each other.
    DataInvalid,
    /// The tenant has no such app.
    AppUnknown,
    /// The user has never logged in.
    ProfileUnknown,
    /// The tenant may not read the access token.
    AccessTokenNotShared,
    /// Too many live views of timelines are open.
    TooManyTails,
    /// Too many captures of payloads run.
    TooManyCaptures,
    /// Payloads are not copied on this gateway.
    CaptureOff,
    /// A fault of the gateway itself.
    Internal,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 55] = [
        Self::CredentialsMissing,
        Self::CredentialsWrong,
        Self::BearerInsecure,
        Self::SignatureMalformed,
        Self::SignatureIncomplete,
        Self::SignatureStale,
        Self::SignatureWrong,
        Self::DigestMismatch,
        Self::NonceReplayed,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::TunnelNotOpen,
        Self::GroupUnknown,
        Self::UserUnknown,
        Self::BodyInvalid,
        Self::ParameterInvalid,
        Self::WebhookUrlMissing,
        Self::WebhookUrlRefused,
        Self::TooLarge,
        Self::TooManyTargets,
        Self::TooManyGroups,
        Self::ConnectorsOff,
        Self::CallNotAllowed,
        Self::ConnectorMismatch,
        Self::TooManyConnectors,
        Self::UpgradeRequired,
        Self::UpgradeRunning,
        Self::TooManyTunnels,
        Self::TooManyPending,
        Self::TooFast,
        Self::IdempotencyKeyInvalid,
        Self::IdempotencyKeyReused,
        Self::IdempotencyKeyRunning,
        Self::BodyBroken,
        Self::BodyEncoded,
        Self::Busy,
        Self::Draining,
        Self::EngineAway,
        Self::NodeAway,
        Self::WechatCodeInvalid,
        Self::WechatUserBlocked,
        Self::WechatQuota,
        Self::WechatSecretWrong,
        Self::WechatAway,
        Self::SessionStoreAway,
        Self::SessionEnded,
        Self::SessionKeyStale,
        Self::DataInvalid,
        Self::AppUnknown,
        Self::ProfileUnknown,
        Self::AccessTokenNotShared,
        Self::TooManyTails,
        Self::TooManyCaptures,
        Self::CaptureOff,
        Self::Internal,
    ];

    /// Code, HTTP status and title.
    fn row(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::CredentialsMissing => ("credentials_missing", 401, "The request is not signed"),
            Self::CredentialsWrong => ("credentials_wrong", 401, "Tenant or key is wrong"),
            Self::BearerInsecure => ("bearer_insecure", 401, "A bearer key needs TLS"),
            Self::SignatureMalformed => ("signature_malformed", 401, "The signature cannot be read"),
            Self::SignatureIncomplete => ("signature_incomplete", 401, "The signature covers too little"),
            Self::SignatureStale => ("signature_stale", 401, "The signature is outside of its time window"),
            Self::SignatureWrong => ("signature_wrong", 401, "The signature is not that of the request"),
            Self::DigestMismatch => ("digest_mismatch", 401, "Content-Digest is not that of the body"),
            Self::NonceReplayed => ("nonce_replayed", 401, "The nonce has been used"),
            Self::NotFound => ("not_found", 404, "There is nothing here"),
            Self::MethodNotAllowed => ("method_not_allowed", 405, "The method is not possible here"),
            Self::TunnelNotOpen => ("tunnel_not_open", 404, "The tunnel is not open"),
            Self::GroupUnknown => ("group_unknown", 404, "No open tunnel is in the group"),
            Self::UserUnknown => ("user_unknown", 404, "The user has no open tunnel"),
            Self::BodyInvalid => ("body_invalid", 400, "The body is not valid"),
            Self::ParameterInvalid => ("parameter_invalid", 400, "A parameter is not valid"),
            Self::WebhookUrlMissing => ("webhook_url_missing", 422, "There is no URL for events"),
            Self::WebhookUrlRefused => ("webhook_url_refused", 422, "Events cannot go to this URL"),
            Self::TooLarge => ("too_large", 413, "Too large"),
            Self::TooManyTargets => ("too_many_targets", 413, "Too many targets"),
            Self::TooManyGroups => ("too_many_groups", 422, "Too many groups"),
            Self::ConnectorsOff => ("connectors_off", 403, "Connectors are off"),
            Self::CallNotAllowed => ("call_not_allowed", 403, "This call is not possible here"),
            Self::ConnectorMismatch => ("connector_mismatch", 422, "Two connectors are named"),
            Self::TooManyConnectors => ("too_many_connectors", 429, "Too many connectors"),
            Self::UpgradeRequired => ("upgrade_required", 426, "This is for WebSocket connections"),
            Self::UpgradeRunning => ("upgrade_running", 503, "An upgrade is running"),
            Self::TooManyTunnels => ("too_many_tunnels", 429, "Too many tunnels"),
            Self::TooManyPending => ("too_many_pending", 429, "Too many close events wait"),
            Self::TooFast => ("too_fast", 429, "Too many calls"),
            Self::IdempotencyKeyInvalid => ("idempotency_key_invalid", 400, "The Idempotency-Key is not valid"),
            Self::IdempotencyKeyReused => ("idempotency_key_reused", 422, "The Idempotency-Key had another body"),
            Self::IdempotencyKeyRunning => ("idempotency_key_running", 409, "The first call is still running"),
            Self::BodyBroken => ("body_broken", 408, "The body did not come"),
            Self::BodyEncoded => ("body_encoded", 415, "The body is encoded"),
            Self::TooManyTails => ("too_many_tails", 429, "Too many live views"),
            Self::TooManyCaptures => ("too_many_captures", 429, "Too many captures"),
            Self::CaptureOff => ("capture_off", 403, "Payloads are not copied here"),
            Self::Busy => ("busy", 503, "Too much to do"),
            Self::Draining => ("draining", 503, "The gateway is draining"),
            Self::EngineAway => ("engine_away", 503, "The engine does not answer"),
            Self::NodeAway => ("node_away", 503, "A node does not answer"),
            Self::WechatCodeInvalid => ("wechat_code_invalid", 400, "WeChat does not accept the code"),
            Self::WechatUserBlocked => ("wechat_user_blocked", 403, "WeChat blocks the user"),
            Self::WechatQuota => ("wechat_quota", 429, "WeChat has had too many requests"),
            Self::WechatSecretWrong => ("wechat_secret_wrong", 502, "WeChat does not accept the appSecret"),
            Self::WechatAway => ("wechat_away", 502, "WeChat does not answer"),
            Self::SessionStoreAway => ("session_store_away", 503, "The session store does not answer"),
            Self::SessionEnded => ("session_ended", 403, "The session has ended"),
            Self::SessionKeyStale => ("session_key_stale", 409, "The session_key is not known any more"),
            Self::DataInvalid => ("data_invalid", 422, "The data cannot be used"),
            Self::AppUnknown => ("app_unknown", 404, "The tenant has no such app"),
            Self::ProfileUnknown => ("profile_unknown", 404, "The user has never logged in"),
            Self::AccessTokenNotShared => ("access_token_not_shared", 403, "The access token is not shared"),
            Self::Internal => ("internal", 500, "Internal error"),
        }
    }

    /// The code as it is written.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status that it comes with.
    pub fn status(self) -> u16 {
        self.row().1
    }
}

/// One error response.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// Its code.
    pub code: Code,
    /// What was expected and what was received; never a key.
    pub detail: String,
    /// When to retry, in seconds, if known.
    pub retry_after_secs: Option<u64>,
    /// What only the log may say.
    pub for_log: Option<String>,
}

impl Problem {
    /// An error with this explanation.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after_secs: None, for_log: None }
    }

    /// The same, with what only the log may say.
    pub fn log_only(self, words: impl Into<String>) -> Self {
        Self { for_log: Some(words.into()), ..self }
    }

    /// The same, to be retried after this many seconds.
    pub fn after_secs(self, secs: u64) -> Self {
        Self { retry_after_secs: Some(secs), ..self }
    }

    /// The `application/problem+json` document.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Document<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            code: &'a str,
            detail: &'a str,
        }
        let (code, status, title) = self.code.row();
        let detail: String = self.detail.chars().take(MAX_DETAIL_CHARS).map(visible).collect();
        let document =
            Document { r#type: format!("urn:wafergate:problem:{code}"), title, status, code, detail: &detail };
        serde_json::to_string(&document).expect("strings and numbers always serialise")
    }
}

/// Replaces control characters, which a request may have put into the detail. Line breaks stay, as in a signature base.
fn visible(char: char) -> char {
    if char.is_control() && char != '\n' { char::REPLACEMENT_CHARACTER } else { char }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_is_a_name_of_its_own() {
        let names: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|code| (400..600).contains(&code.status())));
    }

    #[test]
    fn a_problem_is_a_document_of_the_standards_members() {
        let json = Problem::new(Code::TooFast, "a\n\"b\" é\u{1b}").to_json();

        assert_eq!(
            json,
            r#"{"type":"urn:wafergate:problem:too_fast","title":"Too many calls","status":429,"code":"too_fast","detail":"a\n\"b\" é�"}"#
        );
    }
}
