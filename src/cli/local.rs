//! What `trigger` and `replay` share: a server on this machine, and the rule about others.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use url::Url;

use super::event_line::Columns;
use super::event_line::Look;
use super::local_time;
use crate::listen::Attempt;
use crate::listen::Targets;
use crate::listen::content_bytes;
use crate::listen::is_here;
use crate::listener::Forwarder;
use crate::listener::Local;
use crate::listener::Trust;
use crate::protocol::connector::Event;
use crate::protocol::connector::MAX_LISTEN_ATTEMPT;

/// How the server is reached.
#[derive(Args, Debug)]
pub(super) struct Reach {
    /// Send it to another machine than this one
    #[arg(long)]
    pub(super) yes: bool,
    /// Accept every certificate
    #[arg(long, conflicts_with = "cacert")]
    insecure: bool,
    /// PEM file with the authority of its certificate
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
}

impl Reach {
    /// Requests to `url` and no other place.
    ///
    /// # Errors
    ///
    /// If it is no URL, or another machine without `--yes`; with what to change.
    pub(super) fn prepare(&self, url: &str) -> Result<(Url, Forwarder), String> {
        let target = url.parse()?;
        let url = Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
        if !self.yes && !is_here(&url) {
            let host = url.host_str().unwrap_or_default();
            return Err(format!(
                "{host} is not this machine: a made-up event there is real for its users; add --yes if you mean it"
            ));
        }
        let targets = Targets::new(vec![target])?;
        let local = Local { targets, headers: vec![], limit: MAX_LISTEN_ATTEMPT };
        let trust = match (&self.cacert, self.insecure) {
            (Some(file), _) => Trust::File(file),
            (None, true) => Trust::Anything,
            (None, false) => Trust::System,
        };
        Ok((url, Forwarder::new(local, trust)?))
    }
}

/// The line of an attempt that was made at this time since 1970.
pub(super) fn line(at: Duration, event: &Event, body: &[u8], attempt: &Attempt, words: &str) -> String {
    let columns = Columns {
        at,
        tunnel: &event.tunnel,
        what: &event.event,
        bytes: (event.event == "message").then(|| content_bytes(event.is_native(), body)),
        status: attempt.status.into(),
        took: Some(Duration::from_millis(attempt.ms)),
        words,
        has_failed: false,
    };
    columns.to_text(Look { offset_secs: local_time::offset_secs(at), has_colours: false }) + "\n"
}
