//! What one app does to the logins of another.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::service::Service;

const LOUD: &str = "wx-loud";
const QUIET: &str = "wx-quiet";

#[tokio::test(start_paused = true)]
async fn an_app_whose_logins_hang_delays_no_other() {
    let service = Arc::new(Service::new(&[LOUD, QUIET]));
    for number in 0..2_000 {
        let service = Arc::clone(&service);
        tokio::spawn(async move { service.log_in(LOUD, &format!("never-{number}"), false).await });
    }
    tokio::task::yield_now().await;

    let quiet = timeout(Duration::from_secs(1), service.log_in(QUIET, "ann-1", false)).await;

    assert!(quiet.expect("at once").is_ok());
}

#[tokio::test(start_paused = true)]
async fn callers_that_go_away_leave_no_work_behind() {
    let service = Service::new(&[LOUD]);
    let before = Handle::current().metrics().num_alive_tasks();
    let mut first = Box::pin(service.log_in(LOUD, "never-1", true));
    assert!((&mut first).now_or_never().is_none());
    tokio::task::yield_now().await;

    let gone = (0..1_000).map(|_| timeout(Duration::from_millis(10), service.log_in(LOUD, "never-1", true)));
    assert!(join_all(gone).await.iter().all(Result::is_err));

    let left = Handle::current().metrics().num_alive_tasks() - before;
    assert!(left <= 1, "{left} tasks for one code");
}
