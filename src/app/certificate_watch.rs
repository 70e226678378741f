//! The listener's certificate in a node that runs for months: its end comes without any reload.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::options;
use crate::server::Certificate;

/// How often the certificate is looked at. Start and reload do it too.
const INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// What the log gets when a newer certificate lies on disk.
const RENEWED: &str = "holds a newer certificate than the one in use; send SIGHUP (systemctl reload wafergate)";

/// The certificate that `server` names, if it names one.
pub(super) fn load(server: &options::Server, clock: &Arc<dyn Clock>) -> anyhow::Result<Option<Arc<Certificate>>> {
    if server.tls_cert.is_empty() {
        return Ok(None);
    }
    Ok(Some(Arc::new(Certificate::load(server, Arc::clone(clock))?)))
}

/// Tells once a day, until it is dropped, what is wrong with `certificate`.
pub(super) async fn watch(certificate: Arc<Certificate>, tell: impl Fn(&str)) {
    let mut days = tokio::time::interval(INTERVAL);
    days.tick().await;
    loop {
        days.tick().await;
        let certificate = Arc::clone(&certificate);
        // Files are read: the certificate's own, and the system's roots.
        let looked = tokio::task::spawn_blocking(move || {
            let doubts = certificate.doubts().into_iter().map(|doubt| doubt.to_string());
            doubts.chain(certificate.is_renewed().then(|| RENEWED.to_owned())).collect::<Vec<_>>()
        });
        looked.await.into_iter().flatten().for_each(|warning| tell(&warning));
    }
}

/// Writes a warning into the log.
pub(super) fn tell(warning: &str) {
    tracing::warn!(warning = format!("server.tls_cert {warning}"), "certificate");
}

#[cfg(test)]
mod tests {
    use std::fs;

    use parking_lot::Mutex;
    use rcgen::CertificateParams;
    use rcgen::KeyPair;

    use super::*;
    use crate::clock::ManualClock;
    use crate::options::Options;

    /// 2029-12-25, a week before the end.
    const LATE: u64 = 1_893_456_000 - 7 * 86_400;

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_ends_is_told_of_once_a_day_and_so_is_its_successor() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name| dir.path().join(name).to_str().expect("text").to_owned();
        let write = |last_year| {
            let mut params = CertificateParams::new(["gateway.test".to_owned()]).expect("a name");
            params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
            let key = KeyPair::generate().expect("a key");
            fs::write(path("cert.pem"), params.self_signed(&key).expect("a certificate").pem()).expect("written");
            fs::write(path("key.pem"), key.serialize_pem()).expect("written");
        };
        write(2030);
        let options: Options = toml::from_str(crate::config::defaults()).expect("the defaults");
        let server = options::Server { tls_cert: path("cert.pem"), tls_key: path("key.pem"), ..options.server };
        let clock = Arc::new(ManualClock::default());
        clock.set_secs(LATE);
        let clock: Arc<dyn Clock> = clock;
        let certificate = load(&server, &clock).expect("a certificate").expect("TLS");
        assert_eq!(certificate.seconds_left(), Some(7 * 86_400));
        let told = Mutex::new(vec![]);
        let tell = |warning: &str| told.lock().push(warning.to_owned());
        let watching = watch(Arc::clone(&certificate), tell);
        tokio::pin!(watching);
        let mut after = async |time: Duration| {
            let _ = tokio::time::timeout(time, watching.as_mut()).await;
            std::mem::take(&mut *told.lock())
        };

        assert_eq!(after(INTERVAL / 2).await, Vec::<String>::new());
        let ends = "expires in 7 days, at 2030-01-01T00:00:00.000Z; renew it, then send SIGHUP";
        assert_eq!(after(3 * INTERVAL).await, [ends; 3]);

        write(2040);
        assert_eq!(after(2 * INTERVAL).await, [ends, RENEWED, ends, RENEWED]);

        certificate.reload(&server).expect("a certificate");
        assert_eq!(after(3 * INTERVAL).await, Vec::<String>::new());
    }
}
