//! Actions in the response to an event, which save the business server a request of its own.

use serde::Deserialize;

use super::Name;
use super::PushRequest;
use super::To;
use super::request::Reason;
use super::request::defect;
use super::request::targets;
use crate::protocol::text::Object;
use crate::protocol::wafer::Target;

/// Most actions in one response.
pub const MAX_ACTIONS: usize = 100;

/// One action, for the tunnel of the event.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Push something; without `to`, to the tunnel itself.
    Push(PushRequest),
    /// The tunnel joins a group.
    Join(Name),
    /// The tunnel leaves a group.
    Leave(Name),
    /// The tunnel gets this user.
    User(Name),
    /// Close something; without `to`, the tunnel itself.
    Close(Close),
}

/// How to close tunnels.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Close {
    /// The targets; none: the tunnel of the event.
    #[serde(default)]
    pub to: Option<To>,
    /// Tunnels that are left out.
    #[serde(default, deserialize_with = "targets")]
    pub except: Vec<Target>,
    /// Text of the close frame.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// Whether a group or user without an open tunnel is an error.
    #[serde(default)]
    pub strict: bool,
}

impl Action {
    /// Its name in logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Push(_) => "push",
            Self::Join(_) => "join",
            Self::Leave(_) => "leave",
            Self::User(_) => "user",
            Self::Close(_) => "close",
        }
    }

    /// Whether it is about other tunnels than that of the event.
    pub fn has_targets(&self) -> bool {
        match self {
            Self::Push(push) => push.to.is_some(),
            Self::Close(close) => close.to.is_some(),
            Self::Join(_) | Self::Leave(_) | Self::User(_) => false,
        }
    }

    /// Whether what it does has a record of its own in timelines.
    pub fn is_recorded(&self) -> bool {
        matches!(self, Self::Join(_) | Self::Leave(_) | Self::User(_))
    }

    /// Parses the actions in a response body. Other members are ignored: a Wafer response has `code`, and more.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong; then none of the actions may run.
    pub fn parse_all(body: &[u8]) -> Result<Vec<Self>, String> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            actions: Vec<Action>,
        }
        let Object(answer): Object<Answer> = serde_json::from_slice(body).map_err(|error| defect(&error))?;
        match answer.actions.len() {
            0..=MAX_ACTIONS => Ok(answer.actions),
            count => Err(format!("{count} actions in one answer, the limit is {MAX_ACTIONS}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::native::Payload;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    #[test]
    fn all_actions_are_read_in_order() {
        let body = r#"{"code":0,"actions":[{"user":"u"},{"join":"g"},{"push":{"content":{"a" :1}}},
            {"push":{"to":{"group":"g"},"content":"x"}},{"leave":"g"},{"close":{"reason":"bye"}},{"close":{}},
            {"close":{"to":{"user":"u"},"except":["t-1"],"strict":true}}]}"#;
        let push = |to, text: &str| {
            Action::Push(PushRequest { to, except: vec![], payload: Payload::Text(text.into()), strict: false })
        };

        assert_eq!(
            Action::parse_all(body.as_bytes()).expect("valid"),
            [
                Action::User(name("u")),
                Action::Join(name("g")),
                push(None, "{\"a\" :1}"),
                push(Some(To::Group(name("g"))), "x"),
                Action::Leave(name("g")),
                Action::Close(Close { reason: Some(Reason("bye".into())), ..Close::default() }),
                Action::Close(Close::default()),
                Action::Close(Close {
                    to: Some(To::User(name("u"))),
                    except: vec![Target::new("t-1")],
                    strict: true,
                    ..Close::default()
                }),
            ]
        );
    }

    #[test]
    fn an_answer_without_actions_asks_for_nothing() {
        for body in ["{}", r#"{"ok":true}"#, r#"{"code":0,"message":"x"}"#, r#"{"actions":[]}"#] {
            assert_eq!(Action::parse_all(body.as_bytes()), Ok(vec![]), "{body}");
        }
    }

    #[test]
    fn one_wrong_action_spoils_all() {
        for (body, hint) in [
            ("[]", "expected an object"),
            (r#"{"actions":{}}"#, "expected a sequence"),
            (r#"{"actions":[{"join":"g"},{"shout":"x"}]}"#, "unknown variant `shout`"),
            (r#"{"actions":[{"join":""}]}"#, "a name has"),
            (r#"{"actions":[{"push":{}}]}"#, "content is missing"),
            (r#"{"actions":[{"close":{"code":1}}]}"#, "unknown field `code`"),
            (r#"{"actions":["close"]}"#, "invalid type"),
        ] {
            let defect = Action::parse_all(body.as_bytes()).expect_err(body);
            assert!(defect.contains(hint), "{body}: {defect}");
        }
        let many = serde_json::json!({"actions": vec![serde_json::json!({"join": "g"}); 101]}).to_string();
        assert!(Action::parse_all(many.as_bytes()).expect_err("many").contains("the limit is 100"));
    }
}
