//! A native business server's side: it calls with a bearer key or signs by RFC 9421, both written here again from the standards.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Hmac;
use hmac::KeyInit;
use hmac::Mac;
use serde_json::Value;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;
use wafergate::clock::Clock;
use wafergate::clock::SystemClock;

use super::HttpAnswer;
use super::Issued;
use super::TestClient;
use super::request;

static NONCE: AtomicU64 = AtomicU64::new(0);

/// A native business server with its settings.
#[derive(Clone, Debug)]
pub(crate) struct Native {
    pub(crate) gateway: SocketAddr,
    pub(crate) tenant: String,
    pub(crate) key: String,
}

/// A signed request, ready to be spoilt.
#[derive(Clone, Debug)]
pub(crate) struct SignedCall {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: String,
    pub(crate) components: Vec<&'static str>,
    pub(crate) created: u64,
    pub(crate) nonce: String,
    pub(crate) key_id: String,
    pub(crate) key: String,
}

impl Native {
    /// A call with a bearer key; further header lines end with CRLF.
    pub(crate) async fn call_with(&self, line: &str, headers: &str, body: &str) -> HttpAnswer {
        let headers = format!("Authorization: Bearer {}:{}\r\n{headers}", self.tenant, self.key);
        request(self.gateway, line, &headers, body.as_bytes()).await
    }

    /// A call with a bearer key.
    pub(crate) async fn call(&self, line: &str, body: &Value) -> HttpAnswer {
        self.call_with(line, "", &if body.is_null() { String::new() } else { body.to_string() }).await
    }

    /// A call that must succeed; its JSON.
    pub(crate) async fn ok(&self, line: &str, body: &Value) -> Value {
        let answer = self.call(line, body).await;
        assert!((200..300).contains(&answer.status), "{line}: {answer:?}");
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    /// A call that must be refused; its status and code.
    pub(crate) async fn refused(&self, line: &str, body: &Value) -> (u16, String) {
        problem(&self.call(line, body).await)
    }

    /// Asks for a tunnel that must be granted.
    pub(crate) async fn issue(&self, body: &Value) -> Issued {
        let opened = self.ok("POST /v1/tunnels", body).await;
        let text = |name: &str| opened[name].as_str().expect("a string").to_owned();
        assert!(text("expiresAt").ends_with('Z'));
        Issued { tunnel: text("tunnelId"), connect_url: text("connectUrl") }
    }

    /// Opens a tunnel.
    pub(crate) async fn open(&self, body: &Value) -> TestClient {
        TestClient::dial(&self.issue(body).await).await.expect("a fresh connect URL works")
    }

    /// Pushes text to one tunnel.
    pub(crate) async fn push(&self, to: &Value, content: &Value) -> Value {
        self.ok("POST /v1/push", &json!({"to": to, "content": content})).await
    }

    /// A signed request that is right in every way.
    pub(crate) fn signed(&self, line: &str, body: &str) -> SignedCall {
        let (method, target) = line.split_once(' ').expect("a method and a target");
        let mut components = vec!["@method", "@path", "content-digest"];
        if target.contains('?') {
            components.push("@query");
        }
        SignedCall {
            method: method.to_owned(),
            target: target.to_owned(),
            body: body.to_owned(),
            components,
            created: SystemClock.unix_time().as_secs(),
            nonce: format!("nonce-{}", NONCE.fetch_add(1, Ordering::Relaxed)),
            key_id: self.tenant.clone(),
            key: self.key.clone(),
        }
    }
}

impl SignedCall {
    /// The header lines that sign it.
    pub(crate) fn headers(&self) -> String {
        let digest = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(&self.body)));
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let names: Vec<String> = self.components.iter().map(|name| format!("\"{name}\"")).collect();
        let parameters = format!(
            "({});created={};keyid=\"{}\";nonce=\"{}\";alg=\"hmac-sha256\"",
            names.join(" "),
            self.created,
            self.key_id,
            self.nonce
        );
        let mut base = String::new();
        for name in &self.components {
            let value = match *name {
                "@method" => self.method.clone(),
                "@path" => path.to_owned(),
                "@query" => format!("?{query}"),
                "content-digest" => digest.clone(),
                other => panic!("{other}"),
            };
            base.push_str(&format!("\"{name}\": {value}\n"));
        }
        base.push_str(&format!("\"@signature-params\": {parameters}"));
        let mut mac = Hmac::<Sha256>::new_from_slice(&key_bytes(&self.key)).expect("any length");
        mac.update(base.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        format!("Content-Digest: {digest}\r\nSignature-Input: s={parameters}\r\nSignature: s=:{signature}:\r\n")
    }

    /// Sends it.
    pub(crate) async fn send(&self, gateway: SocketAddr) -> HttpAnswer {
        request(gateway, &format!("{} {}", self.method, self.target), &self.headers(), self.body.as_bytes()).await
    }
}

/// The bytes that a tenant's key stands for in an HMAC.
pub(crate) fn key_bytes(key: &str) -> Vec<u8> {
    match key.strip_prefix("whsec_") {
        Some(encoded) => STANDARD.decode(encoded).expect("Base64"),
        None => key.as_bytes().to_vec(),
    }
}

/// Status and code of an answer that must be a problem.
pub(crate) fn problem(answer: &HttpAnswer) -> (u16, String) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let json = answer.json();
    assert_eq!(json["status"], answer.status);
    let code = json["code"].as_str().expect("a string").to_owned();
    assert_eq!(json["type"], format!("urn:wafergate:problem:{code}"));
    assert!(json["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{json}");
    assert_eq!(answer.header("www-authenticate").is_some(), answer.status == 401, "{answer:?}");
    (answer.status, code)
}
