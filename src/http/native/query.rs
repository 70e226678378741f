//! The query strings of native requests.

use crate::gateway::Wanted;
use crate::id::TunnelId;
use crate::protocol::connector::ConnectorName;
use crate::protocol::native::Code;
use crate::protocol::native::Name;
use crate::protocol::native::Problem;
use crate::protocol::text::printable;
use crate::reason::Language;
use crate::session::SessionId;

/// Default page size, in ids.
const DEFAULT_LIMIT: usize = 100;
/// Largest page size, in ids.
const MAX_LIMIT: usize = 1_000;
/// A part of the sessions of a user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SessionPaging {
    pub(super) user: String,
    pub(super) app_id: Option<String>,
    pub(super) after: Option<SessionId>,
    pub(super) limit: usize,
}

/// A part of a timeline.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct History {
    /// Only what happened before, in microseconds since 1970.
    pub(super) before_us: Option<u64>,
    pub(super) limit: usize,
    pub(super) language: Language,
}

/// A live view.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct View {
    pub(super) wanted: Wanted,
    pub(super) language: Language,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Paging<T = TunnelId> {
    pub(super) after: Option<T>,
    pub(super) limit: usize,
}

impl History {
    pub(super) fn parse(query: &str) -> Result<Self, Problem> {
        let mut history = Self { before_us: None, limit: DEFAULT_LIMIT, language: Language::English };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "limit" => history.limit = limit(&value)?,
                "before" => {
                    let number = value.parse().map_err(|_| {
                        invalid(format!("before is {}: take nextBefore of the page before", printable(&value, 40)))
                    });
                    history.before_us = Some(number?);
                }
                "language" => history.language = language(&value)?,
                other => return Err(unknown_parameter(other, "limit, before, language")),
            }
        }
        Ok(history)
    }
}

impl View {
    pub(super) fn parse(query: &str) -> Result<Self, Problem> {
        let mut view = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "tunnel" => {
                    let tunnel = value.parse::<TunnelId>();
                    let tunnel =
                        tunnel.map_err(|error| invalid(format!("tunnel is {}: {error}", printable(&value, 40))))?;
                    view.wanted.tunnel = Some(tunnel.to_bytes());
                }
                "user" => {
                    let user = Name::new(&value);
                    view.wanted.user = Some(user.map_err(|error| invalid(format!("user: {error}")))?);
                }
                "connector" => {
                    let name = value.parse::<ConnectorName>();
                    let name = name.map_err(|error| invalid(format!("connector: {error}")))?;
                    view.wanted.connector = Some(name.as_str().to_owned());
                }
                "url" => view.wanted.url = Some(value.into_owned()),
                "failed" => {
                    view.wanted.only_failed = match &*value {
                        "" | "true" | "1" => true,
                        "false" | "0" => false,
                        other => {
                            return Err(invalid(format!(
                                "failed is {}: it must be true or false",
                                printable(other, 20)
                            )));
                        }
                    };
                }
                "language" => view.language = language(&value)?,
                other => return Err(unknown_parameter(other, "tunnel, user, connector, url, failed, language")),
            }
        }
        Ok(view)
    }
}

fn language(value: &str) -> Result<Language, Problem> {
    let known = Language::ALL.into_iter().find(|language| language.as_str() == value);
    known.ok_or_else(|| invalid(format!("language is {}: it must be en or zh-CN", printable(value, 20))))
}

impl SessionPaging {
    pub(super) fn parse(query: &str) -> Result<Self, Problem> {
        let mut paging = Self { user: String::new(), app_id: None, after: None, limit: DEFAULT_LIMIT };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "user" => paging.user = value.into_owned(),
                "appId" => paging.app_id = Some(value.into_owned()),
                "limit" => paging.limit = limit(&value)?,
                "cursor" => {
                    let cursor = SessionId::new(&value).map_err(|_| wrong_cursor(&value))?;
                    paging.after = Some(cursor);
                }
                other => return Err(unknown_parameter(other, "user, appId, limit, cursor")),
            }
        }
        if paging.user.is_empty() {
            return Err(invalid("say whose sessions in the query: ?user=OPENID".into()));
        }
        Ok(paging)
    }
}

/// The only parameter of calls about a profile.
pub(super) fn only_app(query: &str) -> Result<Option<String>, Problem> {
    let mut app_id = None;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "appId" => app_id = Some(value.into_owned()),
            other => return Err(unknown_parameter(other, "appId")),
        }
    }
    Ok(app_id)
}

fn limit(value: &str) -> Result<usize, Problem> {
    value
        .parse()
        .ok()
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| invalid(format!("limit must be from 1 to {MAX_LIMIT}, {} came", printable(value, 40))))
}

fn wrong_cursor(value: &str) -> Problem {
    invalid(format!("cursor must be the nextCursor of the page before, {} came", printable(value, 40)))
}

fn unknown_parameter(name: &str, known: &str) -> Problem {
    invalid(format!("there is no parameter {}: {known}", printable(name, 40)))
}

/// The start of a page, as written by the page before.
pub(super) trait Cursor: Sized {
    fn of(text: &str) -> Option<Self>;
}

impl Cursor for TunnelId {
    fn of(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Cursor for Name {
    fn of(text: &str) -> Option<Self> {
        Self::new(text).ok()
    }
}

impl<T: Cursor> Paging<T> {
    pub(super) fn parse(query: &str) -> Result<Self, Problem> {
        let mut paging = Self { after: None, limit: DEFAULT_LIMIT };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "limit" => paging.limit = limit(&value)?,
                "cursor" => paging.after = Some(T::of(&value).ok_or_else(|| wrong_cursor(&value))?),
                other => return Err(unknown_parameter(other, "limit, cursor")),
            }
        }
        Ok(paging)
    }
}

/// The error of a part of a URL.
pub(super) fn invalid(detail: String) -> Problem {
    Problem::new(Code::ParameterInvalid, detail)
}
