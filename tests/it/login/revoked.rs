//! Sessions that are revoked while their caller goes away, or while the store is late: they end everywhere all the same.

use std::sync::atomic::Ordering;

use wafergate::session::SessionId;
use wafergate::session_store::Which;

use super::service::Service;
use crate::support::wechat::APP;
use crate::support::within;

/// A session of Ann, on a store whose answers to revocations are held back.
struct Session {
    service: Service,
    id: SessionId,
}

impl Session {
    async fn new() -> Self {
        let service = Service::new(&[APP]);
        let id = service.log_in(APP, "ann-1", false).await.expect("logged in").session.id;
        service.store.is_late.store(true, Ordering::Release);
        Self { service, id }
    }

    async fn revoke(&self) -> bool {
        let (app, which) = (self.service.app(APP), Which::Session(self.id.clone()));
        self.service.sessions.revoke(app, which, false).await.is_ok()
    }

    /// Lets the store answer, and waits for the end of the tunnels.
    async fn ends(self) {
        let Service { store, ended, .. } = &self.service;
        store.goes_on.notify_one();
        within("its tunnels end", async {
            while ended.0.lock().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(*ended.0.lock(), [self.id]);
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_has_revoked_its_session() {
    let session = Session::new().await;
    tokio::select! {
        _ = session.revoke() => panic!("the store has not answered"),
        () = session.service.store.has_revoked.notified() => {}
    }

    session.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_late_has_revoked_the_session() {
    let session = Session::new().await;

    assert!(!session.revoke().await, "the caller is answered in time");

    session.ends().await;
}
