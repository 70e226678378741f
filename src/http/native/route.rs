//! Routes native requests.

use hyper::Method;
use percent_encoding::percent_decode_str;

use super::query::History;
use super::query::Paging;
use super::query::SessionPaging;
use super::query::View;
use super::query::invalid;
use super::query::only_app;
use crate::id::TunnelId;
use crate::protocol::native::Code;
use crate::protocol::native::Name;
use crate::protocol::native::Problem;
use crate::protocol::text::printable;
use crate::tenant::Roster;

/// The methods of read-only calls.
///
/// OPTIONS is not among them: browser pages must not hold keys, so no preflight succeeds.
const LOOK: &str = "GET, HEAD";
/// The methods of a collection that can be listed and added to.
const LOOK_OR_POST: &str = "GET, HEAD, POST";

/// The methods of one tunnel.
const LOOK_OR_DELETE: &str = "GET, HEAD, DELETE";

/// One call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Call {
    /// `GET /v1/openapi.json`
    Description,
    /// `POST /v1/tunnels`
    Open,
    /// `GET /v1/tunnels/{id}`
    Tunnel(Id),
    /// `DELETE /v1/tunnels/{id}`
    Withdraw(Id),
    /// `POST /v1/push`
    Push,
    /// `POST /v1/close`
    Close,
    /// `PUT /v1/groups/{group}/tunnels/{id}`
    Join(Name, Id),
    /// `DELETE /v1/groups/{group}/tunnels/{id}`
    Leave(Name, Id),
    /// `GET /v1/groups/{group}`
    Group(Name, Paging),
    /// `GET /v1/users/{user}`
    User(Name, Paging),
    /// `GET /v1/tunnels`
    Tunnels(Paging),
    /// `GET /v1/groups` and `GET /v1/users`
    Names(Roster, Paging<Name>),
    /// `GET /v1/docs`
    Docs,
    /// `GET /v1/connector`: see `http::connector`
    Connector,
    /// `GET /v1/tunnels/{id}/timeline`
    History(Id, History),
    /// `GET /v1/tail`
    Tail(View),
    /// `POST /v1/capture`
    Capture,
    /// About sessions.
    Session(SessionCall),
}

/// A call about sessions and users of mini-programs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum SessionCall {
    /// `POST /v1/sessions`
    Enter,
    /// `GET /v1/sessions?user=`
    List(SessionPaging),
    /// `POST /v1/sessions/verify`
    Verify,
    /// `POST /v1/sessions/refresh`
    Refresh,
    /// `POST /v1/sessions/revoke`
    Revoke,
    /// `POST /v1/sessions/decrypt`
    Decrypt,
    /// `POST /v1/sessions/sign`
    Sign,
    /// `POST /v1/sessions/check`
    CheckKey,
    /// `POST /v1/sessions/rotate-key`
    RotateKey,
    /// `POST /v1/phone-numbers`
    Phone,
    /// `GET /v1/users/{openId}/profile`
    Profile { open_id: String, app_id: Option<String> },
    /// `PUT /v1/users/{openId}/profile`
    SetProfile { open_id: String, app_id: Option<String> },
    /// `GET /v1/apps/{appId}/access-token`
    AccessToken(String),
}

/// A tunnel id in a path; one with an invalid form is kept for the error message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Id {
    pub(super) tunnel: Option<TunnelId>,
    pub(super) text: String,
}

impl Call {
    /// Its name in the log.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Description => "description",
            Self::Open => "open",
            Self::Tunnel(_) => "tunnel",
            Self::Withdraw(_) => "withdraw",
            Self::Push => "push",
            Self::Close => "close",
            Self::Join(..) => "join",
            Self::Leave(..) => "leave",
            Self::Group(..) => "group",
            Self::User(..) => "user",
            Self::Tunnels(_) => "tunnels",
            Self::Names(Roster::Groups, _) => "groups",
            Self::Names(Roster::Users, _) => "users",
            Self::Docs => "docs",
            Self::Connector => "connector",
            Self::History(..) => "timeline",
            Self::Tail(_) => "tail",
            Self::Capture => "capture",
            Self::Session(call) => call.as_str(),
        }
    }

    /// The call of a request to this path, without the name of a connector, and query.
    pub(super) fn at(method: &Method, path: &str, query: &str) -> Result<Self, Problem> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let (call, allowed) = match segments[..] {
            ["v1", "openapi.json"] => (Ok(Self::Description), LOOK),
            ["v1", "docs"] => (Ok(Self::Docs), LOOK),
            ["v1", "tunnels"] if *method == Method::POST => (Ok(Self::Open), LOOK_OR_POST),
            ["v1", "tunnels"] => (Paging::parse(query).map(Self::Tunnels), LOOK_OR_POST),
            ["v1", "groups"] => (Paging::parse(query).map(|paging| Self::Names(Roster::Groups, paging)), LOOK),
            ["v1", "users"] => (Paging::parse(query).map(|paging| Self::Names(Roster::Users, paging)), LOOK),
            ["v1", "tunnels", id] if *method == Method::DELETE => {
                (text(id).map(|id| Self::Withdraw(Id::new(id))), LOOK_OR_DELETE)
            }
            ["v1", "tunnels", id] => (text(id).map(|id| Self::Tunnel(Id::new(id))), LOOK_OR_DELETE),
            ["v1", "sessions"] if LOOK.split(", ").any(|look| look == method.as_str()) => {
                (SessionPaging::parse(query).map(|paging| Self::Session(SessionCall::List(paging))), LOOK)
            }
            ["v1", "sessions"] => (Ok(Self::Session(SessionCall::Enter)), "POST, GET, HEAD"),
            ["v1", "sessions", call] if SessionCall::named(call).is_some() => {
                (SessionCall::named(call).map(Self::Session).ok_or_else(|| invalid(String::new())), "POST")
            }
            ["v1", "phone-numbers"] => (Ok(Self::Session(SessionCall::Phone)), "POST"),
            ["v1", "apps", app_id, "access-token"] => {
                (text(app_id).map(|app_id| Self::Session(SessionCall::AccessToken(app_id))), LOOK)
            }
            ["v1", "users", open_id, "profile"] => {
                let call = text(open_id).and_then(|open_id| {
                    let app_id = only_app(query)?;
                    Ok(if *method == Method::PUT {
                        SessionCall::SetProfile { open_id, app_id }
                    } else {
                        SessionCall::Profile { open_id, app_id }
                    })
                });
                (call.map(Self::Session), "GET, HEAD, PUT")
            }
            ["v1", "tunnels", id, "timeline"] => {
                (text(id).and_then(|id| Ok(Self::History(Id::new(id), History::parse(query)?))), LOOK)
            }
            ["v1", "tail"] => (View::parse(query).map(Self::Tail), "GET"),
            ["v1", "capture"] => (Ok(Self::Capture), "POST"),
            ["v1", "push"] => (Ok(Self::Push), "POST"),
            ["v1", "connector"] => (Ok(Self::Connector), "GET"),
            ["v1", "close"] => (Ok(Self::Close), "POST"),
            ["v1", "groups", group] => {
                (name(group).and_then(|group| Ok(Self::Group(group, Paging::parse(query)?))), LOOK)
            }
            ["v1", "users", user] => (name(user).and_then(|user| Ok(Self::User(user, Paging::parse(query)?))), LOOK),
            ["v1", "groups", group, "tunnels", id] => {
                let call = name(group).and_then(|group| {
                    let id = Id::new(text(id)?);
                    Ok(if *method == Method::DELETE { Self::Leave(group, id) } else { Self::Join(group, id) })
                });
                (call, "PUT, DELETE")
            }
            _ => {
                let path = printable(path, 100);
                let detail = format!("there is nothing at {path}: GET /v1/openapi.json describes all calls");
                return Err(Problem::new(Code::NotFound, detail));
            }
        };
        if !allowed.split(", ").any(|allowed| allowed == method.as_str()) {
            let method = printable(method.as_str(), 20);
            return Err(Problem::new(Code::MethodNotAllowed, format!("{method} is not possible here, use {allowed}")));
        }
        let call = call?;
        if !query.is_empty() && !call.takes_query() {
            return Err(invalid(format!("this call takes no query, ?{} came", printable(query, 100))));
        }
        Ok(call)
    }

    fn takes_query(&self) -> bool {
        match self {
            Self::Group(..) | Self::User(..) | Self::Tunnels(_) | Self::Names(..) => true,
            Self::History(..) | Self::Tail(_) => true,
            Self::Session(call) => {
                use SessionCall::{List, Profile, SetProfile};
                matches!(call, List(_) | Profile { .. } | SetProfile { .. })
            }
            _ => false,
        }
    }

    /// Whether its answer may hold a token or what is known of a user.
    pub(super) fn is_confidential(&self) -> bool {
        matches!(self, Self::Session(_) | Self::History(..) | Self::Tail(_))
    }

    /// Whether it can be made over the connection of a connector.
    pub(super) fn is_for_connectors(&self) -> bool {
        matches!(self, Self::Push | Self::Close | Self::Join(..) | Self::Leave(..) | Self::Tunnel(_))
    }

    /// Whether it changes state.
    pub(super) fn changes_something(&self) -> bool {
        match self {
            Self::Session(call) => call.changes_something(),
            Self::Open | Self::Withdraw(_) | Self::Push | Self::Close | Self::Join(..) | Self::Leave(..) => true,
            Self::Description
            | Self::Docs
            | Self::Connector
            // A repeated one only goes on.
            | Self::Capture
            | Self::History(..)
            | Self::Tail(_)
            | Self::Tunnel(_)
            | Self::Group(..)
            | Self::User(..)
            | Self::Tunnels(_)
            | Self::Names(..) => false,
        }
    }
}

impl SessionCall {
    /// The call behind `/v1/sessions/`.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "verify" => Self::Verify,
            "refresh" => Self::Refresh,
            "revoke" => Self::Revoke,
            "decrypt" => Self::Decrypt,
            "sign" => Self::Sign,
            "check" => Self::CheckKey,
            "rotate-key" => Self::RotateKey,
            _ => return None,
        })
    }

    fn as_str(&self) -> &'static str {
        match self {
            Self::Enter => "session_open",
            Self::List(_) => "session_list",
            Self::Verify => "session_verify",
            Self::Refresh => "session_refresh",
            Self::Revoke => "session_revoke",
            Self::Decrypt => "session_decrypt",
            Self::Sign => "session_sign",
            Self::CheckKey => "session_check_key",
            Self::RotateKey => "session_rotate_key",
            Self::Phone => "phone_number",
            Self::Profile { .. } => "profile",
            Self::SetProfile { .. } => "profile_set",
            Self::AccessToken(_) => "access_token",
        }
    }

    /// Whether it changes more than the time of the last visit.
    fn changes_something(&self) -> bool {
        match self {
            Self::Enter | Self::Refresh | Self::Revoke | Self::RotateKey | Self::Phone | Self::SetProfile { .. } => {
                true
            }
            Self::List(_) | Self::Verify | Self::Decrypt | Self::Sign | Self::CheckKey => false,
            Self::Profile { .. } | Self::AccessToken(_) => false,
        }
    }
}

impl Id {
    fn new(text: String) -> Self {
        Self { tunnel: text.parse().ok(), text }
    }
}

fn text(segment: &str) -> Result<String, Problem> {
    let text = percent_decode_str(segment).decode_utf8();
    text.map(Into::into)
        .map_err(|_| invalid(format!("{} is not UTF-8 behind its percent signs", printable(segment, 100))))
}

fn name(segment: &str) -> Result<Name, Problem> {
    let text = text(segment)?;
    Name::new(&text).map_err(|error| invalid(format!("{error}: {} came", printable(segment, 100))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Wanted;
    use crate::reason::Language;

    fn call(method: Method, uri: &str) -> Result<Call, Code> {
        let uri: hyper::Uri = uri.parse().expect("a URI");
        Call::at(&method, uri.path(), uri.query().unwrap_or_default()).map_err(|problem| problem.code)
    }

    #[test]
    fn names_in_paths_are_decoded_once() {
        let name = |text| Name::new(text).expect("a name");
        let first = Paging { after: None, limit: 100 };

        assert_eq!(call(Method::GET, "/v1/groups/a%2Fb%2525"), Ok(Call::Group(name("a/b%25"), first)));
        assert_eq!(call(Method::GET, "/v1/users/%E6%88%BF"), Ok(Call::User(name("房"), first)));
        assert_eq!(call(Method::GET, "/v1/users/%FF"), Err(Code::ParameterInvalid));
        assert_eq!(call(Method::GET, "/v1/users/%00"), Err(Code::ParameterInvalid));
        assert_eq!(call(Method::GET, "/v1/users/"), Err(Code::ParameterInvalid));
    }

    #[test]
    fn pages_are_asked_for_within_bounds() {
        let id = TunnelId::from_bytes([1; 16]);
        let paging = |query: &str| match call(Method::GET, &format!("/v1/groups/g?{query}")) {
            Ok(Call::Group(_, paging)) => Some(paging),
            _ => None,
        };

        assert_eq!(paging(&format!("limit=7&cursor={id}")), Some(Paging { after: Some(id), limit: 7 }));
        for query in ["limit=0", "limit=1001", "limit=x", "cursor=", "cursor=t1", "offset=1"] {
            assert_eq!(paging(query), None, "{query}");
        }
    }

    #[test]
    fn sessions_have_calls_of_their_own() {
        let session = |call| Ok(Call::Session(call));
        let list = SessionPaging { user: "o".into(), app_id: Some("wx".into()), after: None, limit: 7 };
        assert_eq!(call(Method::GET, "/v1/sessions?user=o&appId=wx&limit=7"), session(SessionCall::List(list)));
        assert_eq!(call(Method::POST, "/v1/sessions"), session(SessionCall::Enter));
        assert_eq!(call(Method::POST, "/v1/sessions/rotate-key"), session(SessionCall::RotateKey));
        let profile = SessionCall::SetProfile { open_id: "o/1".into(), app_id: None };
        assert_eq!(call(Method::PUT, "/v1/users/o%2F1/profile"), session(profile));
        for (method, path, code) in [
            (Method::GET, "/v1/sessions", Code::ParameterInvalid),
            (Method::GET, "/v1/sessions?user=o&x=1", Code::ParameterInvalid),
            (Method::PUT, "/v1/sessions", Code::MethodNotAllowed),
            (Method::GET, "/v1/sessions/verify", Code::MethodNotAllowed),
            (Method::POST, "/v1/sessions/verify?x=1", Code::ParameterInvalid),
            (Method::POST, "/v1/sessions/other", Code::NotFound),
            (Method::POST, "/v1/apps/wx/access-token", Code::MethodNotAllowed),
        ] {
            assert_eq!(call(method, path), Err(code), "{path}");
        }
    }

    #[test]
    fn a_live_view_has_filters() {
        let id = TunnelId::from_bytes([1; 16]);
        let view = |query: &str| call(Method::GET, &format!("/v1/tail{query}"));
        let wanted = Wanted {
            tunnel: Some([1; 16]),
            user: Name::new("ann").ok(),
            url: Some("http://h/".into()),
            only_failed: true,
            connector: Some("ann".into()),
        };
        let query = format!("?tunnel={id}&user=ann&connector=ann&url=http%3A%2F%2Fh%2F&failed&language=zh-CN");
        assert_eq!(view(&query), Ok(Call::Tail(View { wanted, language: Language::Chinese })));
        assert_eq!(view(""), Ok(Call::Tail(View::default())));
        for query in ["?tunnel=t1", "?user=", "?connector=Ann", "?failed=x", "?limit=1"] {
            assert_eq!(view(query), Err(Code::ParameterInvalid), "{query}");
        }
        assert_eq!(call(Method::HEAD, "/v1/tail"), Err(Code::MethodNotAllowed));
    }

    #[test]
    fn head_is_what_get_is() {
        for path in [
            "/v1/openapi.json",
            "/v1/docs",
            "/v1/tunnels?limit=7",
            "/v1/users",
            "/v1/groups?cursor=g",
            "/v1/tunnels/t",
            "/v1/groups/g?limit=7",
            "/v1/users/u",
            "/v1/tunnels/t/timeline?limit=7&before=1",
        ] {
            assert_eq!(call(Method::HEAD, path), call(Method::GET, path), "{path}");
            assert!(call(Method::HEAD, path).is_ok(), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_apart_from_a_wrong_method() {
        for (method, path) in
            [(Method::GET, "/v1/push"), (Method::HEAD, "/v1/push"), (Method::OPTIONS, "/v1/openapi.json")]
        {
            assert_eq!(call(method, path), Err(Code::MethodNotAllowed), "{path}");
        }
        assert_eq!(call(Method::POST, "/v1/groups/g/tunnels/t"), Err(Code::MethodNotAllowed));
        for path in ["/v1", "/v1/", "/v1/rooms", "/v1/push/", "/v1/groups/g/tunnels", "/v1/tunnels/a/b"] {
            assert_eq!(call(Method::POST, path), Err(Code::NotFound), "{path}");
        }
        assert_eq!(call(Method::POST, "/v1/push?x=1"), Err(Code::ParameterInvalid));
    }
}
