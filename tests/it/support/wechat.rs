//! WeChat's servers, as far as logins need them: HTTP on a port of 127.0.0.1.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use aes::Aes128;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::Encryptor;
use cbc::cipher::BlockModeEncrypt;
use cbc::cipher::KeyIvInit;
use cbc::cipher::block_padding::Pkcs7;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::http::header;
use super::http::read_head;

/// The app of the tests.
pub(crate) const APP: &str = "wx4f4bc4dec97d474b";
/// Its secret.
pub(crate) const SECRET: &str = "appsecret-hush-0123456789abcdef01";

/// A running server. A code `USER-ANYTHING` logs in the user `oUSER`, once.
pub(crate) struct FakeWeChat {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    used: HashSet<String>,
    /// Key versions of users: WeChat replaces keys at times.
    versions: HashMap<String, u8>,
    /// Answers that come before others: status and body; no body: the connection ends.
    scripted: VecDeque<Option<(u16, String)>>,
    seen: Vec<String>,
    secrets: Vec<String>,
    tokens: u64,
}

impl FakeWeChat {
    /// Starts one.
    pub(crate) async fn start() -> Self {
        Self::listen(|stream| std::future::ready(Some(stream))).await
    }

    /// One that speaks TLS with this certificate and key, both PEM.
    pub(crate) async fn start_with_tls(certificate: &str, key: &str) -> Self {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(|one| one.expect("a certificate"));
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain.collect(), key)
            .expect("they belong together");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::listen(move |stream| {
            let acceptor = acceptor.clone();
            async move { acceptor.accept(stream).await.ok() }
        })
        .await
    }

    async fn listen<S, F>(secure: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
        F: Future<Output = Option<S>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State { secrets: vec![SECRET.to_owned()], ..State::default() }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (secured, shared) = (secure(stream), Arc::clone(&shared));
                tokio::spawn(async move {
                    if let Some(stream) = secured.await {
                        serve(stream, shared).await;
                    }
                });
            }
        });
        Self { address, state }
    }

    /// Its address for the configuration.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request gets this answer.
    pub(crate) fn answer_next(&self, status: u16, body: impl ToString) {
        self.state.lock().scripted.push_back(Some((status, body.to_string())));
    }

    /// The next request gets no answer: its connection ends.
    pub(crate) fn hang_up_next(&self) {
        self.state.lock().scripted.push_back(None);
    }

    /// The secrets that it takes from now on.
    pub(crate) fn set_secrets(&self, secrets: &[&str]) {
        self.state.lock().secrets = secrets.iter().map(|secret| (*secret).to_owned()).collect();
    }

    /// A user gets another key at the next login.
    pub(crate) fn replace_key(&self, user: &str) {
        *self.state.lock().versions.entry(user.to_owned()).or_default() += 1;
    }

    /// Path and query of all requests so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.state.lock().seen.clone()
    }

    /// What a client of `user` brings, encrypted with the user's key of now.
    pub(crate) fn data(&self, user: &str, data: &Value) -> (String, String) {
        let version = self.state.lock().versions.get(user).copied().unwrap_or_default();
        encrypt(&session_key(user, version), data)
    }
}

/// Data as WeChat encrypts it, and its iv.
pub(crate) fn encrypt(session_key: &str, data: &Value) -> (String, String) {
    let key = STANDARD.decode(session_key).expect("base64");
    let iv = [7; 16];
    let plain = data.to_string();
    let mut sealed = vec![0; plain.len() + 16];
    let encryptor = Encryptor::<Aes128>::new_from_slices(&key, &iv).expect("lengths");
    let length = encryptor.encrypt_padded_b2b::<Pkcs7>(plain.as_bytes(), &mut sealed).expect("room").len();
    (STANDARD.encode(&sealed[..length]), STANDARD.encode(iv))
}

/// The data of a user with this name.
pub(crate) fn profile_of(user: &str, name: &str) -> Value {
    json!({
        "openId": format!("o{user}"), "nickName": name, "gender": 1, "language": "zh_CN", "city": "Shenzhen",
        "province": "Guangdong", "country": "CN", "avatarUrl": "http://wx.qlogo.cn/mmopen/vi_32/x/0",
        "watermark": { "timestamp": 1_477_314_187, "appid": APP },
    })
}

/// A user's key.
pub(crate) fn session_key(user: &str, version: u8) -> String {
    let mut key = [version; 16];
    user.bytes().enumerate().for_each(|(at, byte)| key[at % 16] ^= byte);
    STANDARD.encode(key)
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, state: Arc<Mutex<State>>) {
    let mut buffer = vec![];
    loop {
        // The end of the connection is not an end of a head.
        if buffer.is_empty() && stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            return;
        }
        let head = read_head(&mut stream, &mut buffer).await;
        let length: usize = header(&head, "content-length").map_or(0, |length| length.parse().expect("a length"));
        while buffer.len() < length {
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body: Vec<u8> = buffer.drain(..length).collect();
        let target = head.split(' ').nth(1).expect("a target").to_owned();
        let Some((status, answer)) = answer(&state, &target, &String::from_utf8_lossy(&body)) else { return };
        let head =
            format!("HTTP/1.1 {status} X\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", answer.len());
        if stream.write_all(&[head.as_bytes(), answer.as_bytes()].concat()).await.is_err() {
            return;
        }
    }
}

fn answer(state: &Mutex<State>, target: &str, body: &str) -> Option<(u16, String)> {
    let mut state = state.lock();
    state.seen.push(target.to_owned());
    if let Some(scripted) = state.scripted.pop_front() {
        return scripted;
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query: HashMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let of = |name: &str| query.get(name).cloned().unwrap_or_default();
    let posted: Value = serde_json::from_str(body).unwrap_or_default();
    let refused = |code: i64, words: &str| json!({ "errcode": code, "errmsg": format!("{words}, rid: 61ea-1") });
    let answer = match path {
        "/sns/jscode2session" if !state.secrets.contains(&of("secret")) => refused(40125, "invalid appsecret"),
        "/sns/jscode2session" => {
            let code = of("js_code");
            let user = code.split('-').next().unwrap_or_default().to_owned();
            let version = state.versions.get(&user).copied().unwrap_or_default();
            match code.contains('-') {
                false => refused(40029, "invalid code"),
                true if !state.used.insert(code) => refused(40163, "code been used"),
                true => {
                    json!({ "openid": format!("o{user}"), "session_key": session_key(&user, version), "errcode": 0 })
                }
            }
        }
        "/cgi-bin/stable_token" if !state.secrets.iter().any(|secret| posted["secret"] == secret.as_str()) => {
            refused(40125, "invalid appsecret")
        }
        "/cgi-bin/stable_token" => {
            state.tokens += 1;
            json!({ "access_token": format!("token-hush-{}", state.tokens), "expires_in": 7_200 })
        }
        "/wxa/business/getuserphonenumber" => json!({
            "errcode": 0, "errmsg": "ok",
            "phone_info": { "phoneNumber": "+8613580006666", "purePhoneNumber": "13580006666", "countryCode": "86" },
        }),
        "/wxa/checksession" => json!({ "errcode": 0, "errmsg": "ok" }),
        "/wxa/resetusersessionkey" => {
            let user = of("openid").trim_start_matches('o').to_owned();
            let version = state.versions.entry(user.clone()).or_default();
            *version += 1;
            json!({ "errcode": 0, "errmsg": "ok", "openid": of("openid"), "session_key": session_key(&user, *version) })
        }
        _ => refused(-1, "system error"),
    };
    Some((200, answer.to_string()))
}
