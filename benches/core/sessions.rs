//! Checks of sessions: from the cache, from the store, and the answer of a Wafer SDK. With many sessions they must cost the same.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use criterion::Criterion;
use tokio::runtime::Runtime;
use wafergate::clock::SystemClock;
use wafergate::config;
use wafergate::login::Care;
use wafergate::login::Parts;
use wafergate::login::Sessions;
use wafergate::metrics::Metrics;
use wafergate::protocol::wechat::Question;
use wafergate::session::Vault;
use wafergate::session_store::SessionStore;
use wafergate::session_store::SqliteStore;
use wafergate::wechat::Calls;
use wafergate::wechat::NoAnswer;
use wafergate::wechat::WeChat;

use crate::filled_store::credentials;
use crate::filled_store::filled;

/// Nobody logs in here.
struct NoWeChat;

#[async_trait]
impl WeChat for NoWeChat {
    async fn ask(&self, _: &str, _: &Question) -> Result<Bytes, NoAnswer> {
        Err(NoAnswer::Late)
    }
}

/// All benchmarks; the largest store has a million sessions, in a smoke test few.
pub(crate) fn benches(criterion: &mut Criterion) {
    let is_smoke = std::env::args().any(|argument| argument == "--test");
    let runtime = Runtime::new().expect("a runtime");
    for count in if is_smoke { [10, 100] } else { [1_000, 1_000_000] } {
        let folder = tempfile::tempdir().expect("a directory");
        let store = Arc::new(runtime.block_on(filled(&folder.path().join("sessions.db"), count, count)));
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
