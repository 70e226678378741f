//! Checks of sessions: from the cache, from the store, and the answer of a Wafer SDK. With many sessions they must cost the same.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use criterion::Criterion;
use futures_util::future::join_all;
use tokio::runtime::Runtime;
use wafergate::clock::SystemClock;
use wafergate::config;
use wafergate::login::Care;
use wafergate::login::Parts;
use wafergate::login::Sessions;
use wafergate::metrics::Metrics;
use wafergate::protocol::login::Profile;
use wafergate::protocol::wechat::Question;
use wafergate::session::Credentials;
use wafergate::session::Limits;
use wafergate::session::Session;
use wafergate::session::Vault;
use wafergate::session_store::Login;
use wafergate::session_store::SessionStore;
use wafergate::session_store::SqliteStore;
use wafergate::wechat::Calls;
use wafergate::wechat::NoAnswer;
use wafergate::wechat::WeChat;

const LIMITS: Limits = Limits { login: Duration::from_secs(86_400), idle: Duration::from_secs(86_400), per_user: 8 };
/// Logins that wait for the store at a time.
const AT_A_TIME: u64 = 1_000;

/// Nobody logs in here.
struct NoWeChat;

#[async_trait]
impl WeChat for NoWeChat {
    async fn ask(&self, _: &Question) -> Result<Bytes, NoAnswer> {
        Err(NoAnswer::Late)
    }
}

/// All benchmarks; the largest store has a million sessions, in a smoke test few.
pub(crate) fn benches(criterion: &mut Criterion) {
    let is_smoke = std::env::args().any(|argument| argument == "--test");
    let runtime = Runtime::new().expect("a runtime");
    for count in if is_smoke { [10, 100] } else { [1_000, 1_000_000] } {
        let folder = tempfile::tempdir().expect("a directory");
        let store = runtime.block_on(filled(&folder.path().join("sessions.db"), count));
        let sessions = service(Arc::clone(&store));
        let mut turn = 0;
        criterion.bench_function(&format!("sessions/cached/{count}"), |bencher| {
            let known = credentials(count / 2);
            bencher.iter(|| runtime.block_on(sessions.check(&known, Care::Cached, "bench", |_| true)).is_ok());
        });
        criterion.bench_function(&format!("sessions/sqlite/{count}"), |bencher| {
            bencher.iter(|| {
                turn = (turn + 7_919) % count;
                runtime.block_on(store.find(&credentials(turn).id)).expect("it answers").is_some()
            });
        });
        criterion.bench_function(&format!("sessions/answer/{count}"), |bencher| {
            let known = runtime.block_on(sessions.check(&credentials(1), Care::Cached, "bench", |_| true));
            let known = known.expect("a session");
            bencher.iter(|| wafergate::protocol::login::checked(&known.user_info()).len());
        });
    }
}

fn credentials(number: u64) -> Credentials {
    let mut random = [0; 32];
    // Spread over the index as random ids are.
    random[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Credentials::new(random)
}

async fn filled(path: &Path, count: u64) -> Arc<SqliteStore> {
    let store = Arc::new(SqliteStore::open(path).expect("opens"));
    for first in (0..count).step_by(usize::try_from(AT_A_TIME).expect("few")) {
        let logins = (first..count.min(first + AT_A_TIME)).map(|number| store.log_in(login(number)));
        join_all(logins).await.into_iter().for_each(|stored| drop(stored.expect("stored")));
    }
    store
}

fn login(number: u64) -> Login {
    use wafergate::clock::Clock;
    let now_ms = u64::try_from(SystemClock.unix_time().as_millis()).expect("a time");
    let profile =
        r#"{"nickName":"三木","gender":1,"city":"Shenzhen","avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/x/0"}"#;
    let credentials = credentials(number);
    Login {
        session: Session {
            skey_hash: credentials.skey_hash(),
            id: credentials.id,
            app_id: "wx4f4bc4dec97d474b".into(),
            open_id: format!("oGZUI0egBJY1zhBYw2KhdU{number:06}"),
            previous: None,
            created_ms: now_ms,
            seen_ms: now_ms + 1,
            expires_ms: now_ms + 86_400_000,
            metadata: None,
        },
        union_id: None,
        sealed_key: vec![7; 64],
        profile: Profile::parse(profile),
        kept: None,
        limits: LIMITS,
    }
}

fn service(store: Arc<SqliteStore>) -> Arc<Sessions> {
    let (metrics, clock) = (Metrics::default(), Arc::new(SystemClock));
    let options = config::load(None, []).expect("usable defaults").options.session;
    Sessions::new(Parts {
        options,
        store,
        wechat: Calls::new(Arc::new(NoWeChat), clock.clone(), metrics.clone()),
        vault: Vault::new(b"bench"),
        clock,
        random: || [0; 32],
        metrics,
    })
}
