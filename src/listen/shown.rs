//! Which events are shown. All are forwarded.

use serde::Deserialize;

use crate::protocol::connector::Event;

/// A filter of lines.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shown {
    /// Kinds of events; empty: all.
    pub events: Vec<String>,
    /// The beginning of tunnel ids; empty: all.
    pub tunnels: Vec<String>,
    /// Users of native tunnels; empty: all.
    pub users: Vec<String>,
    /// Whether only attempts that failed are shown.
    pub failed: bool,
}

impl Shown {
    /// Whether an attempt of this event is shown.
    pub fn is_shown(&self, event: &Event, body: &[u8], has_failed: bool) -> bool {
        let among = |all: &[String], is: &dyn Fn(&str) -> bool| all.is_empty() || all.iter().any(|one| is(one));
        (has_failed || !self.failed)
            && among(&self.events, &|kind| event.event == kind)
            && among(&self.tunnels, &|start| event.tunnel.starts_with(start))
            && (self.users.is_empty() || user(body).is_some_and(|own| self.users.contains(&own)))
    }
}

/// The user of a CloudEvent.
fn user(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct CloudEvent {
        userid: String,
    }
    serde_json::from_slice(body).ok().map(|event: CloudEvent| event.userid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::connector::Headers;

    #[test]
    fn each_filter_must_let_it_through() {
        let event = Event {
            id: "i".into(),
            attempt: 1,
            tunnel: "t3f9".into(),
            event: "message".into(),
            sequence: None,
            url: String::new(),
            path: String::new(),
            headers: Headers::default(),
            timeout_ms: 0,
            expires: 0,
        };
        let is_shown = |shown: Shown, has_failed| shown.is_shown(&event, br#"{"userid":"ann"}"#, has_failed);
        let some = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();

        assert!(is_shown(Shown::default(), false));
        assert!(is_shown(Shown { events: some(&["close", "message"]), ..Shown::default() }, false));
        assert!(!is_shown(Shown { events: some(&["close"]), ..Shown::default() }, false));
        assert!(is_shown(Shown { tunnels: some(&["t3"]), users: some(&["ann"]), ..Shown::default() }, false));
        assert!(!is_shown(Shown { tunnels: some(&["t4"]), users: some(&["ann"]), ..Shown::default() }, false));
        assert!(!is_shown(Shown { users: some(&["bob"]), ..Shown::default() }, false));
        let failed = Shown { failed: true, ..Shown::default() };
        assert!(is_shown(failed.clone(), true) && !is_shown(failed, false));
    }
}
