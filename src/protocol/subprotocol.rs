//! WebSocket subprotocols (RFC 6455, sections 1.9 and 4): parsing a client's offer and choosing from it.

use std::sync::Arc;

/// Prefix of names reserved for the gateway, never available to applications.
pub const OWN_PREFIX: &str = "wafergate.";

/// Whether this is a valid subprotocol name: a token (RFC 9110, section 5.6.2).
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// A client's offer, in its order. It must not be logged, because some clients put tokens into it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Offer(Vec<Arc<str>>);

/// An offered element is not a valid subprotocol name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoName;

/// Why no subprotocol can be chosen.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unacceptable {
    /// Only reserved names were offered, none of which is enabled.
    #[error(
        "subprotocols that begin with {OWN_PREFIX} belong to the gateway, and none that is offered is on: offer another, or none"
    )]
    OwnOnly,
    /// The tenant supports others.
    #[error("no subprotocol that is offered is spoken here: offer {0}, or none")]
    Unspoken(String),
}

impl Offer {
    /// Parses the lines of `Sec-WebSocket-Protocol`: a comma-separated list, possibly over several lines; empty elements are
    /// ignored.
    ///
    /// # Errors
    ///
    /// If an element is not a valid name.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, NoName> {
        let elements = lines.into_iter().flat_map(|line| line.split(|byte| *byte == b','));
        let trimmed = elements.map(|element| element.trim_ascii()).filter(|element| !element.is_empty());
        let name = |element| str::from_utf8(element).ok().filter(|_| is_name(element)).map(Arc::from);
        trimmed.map(|element| name(element).ok_or(NoName)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a name is offered.
    pub fn includes(&self, name: &str) -> bool {
        self.0.iter().any(|offered| **offered == *name)
    }

    /// Chooses the first name in `spoken` that the client offers; if `spoken` is empty, the first one of the client.
    ///
    /// An empty offer gives `None`.
    ///
    /// # Errors
    ///
    /// If something is offered and none of it can be chosen.
    pub fn choose(&self, spoken: &[String]) -> Result<Option<Arc<str>>, Unacceptable> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut foreign = self.0.iter().filter(|name| !name.starts_with(OWN_PREFIX));
        let chosen = match spoken {
            [] => foreign.next().ok_or(Unacceptable::OwnOnly)?,
            names => {
                let of_client = |name: &String| self.0.iter().find(|offered| ***offered == **name);
                names.iter().find_map(of_client).ok_or_else(|| Unacceptable::Unspoken(names.join(" or ")))?
            }
        };
        Ok(Some(Arc::clone(chosen)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(lines: &[&str]) -> Offer {
        Offer::parse(lines.iter().map(|line| line.as_bytes())).expect("names")
    }

    fn chosen(lines: &[&str], spoken: &[&str]) -> Result<Option<String>, Unacceptable> {
        let spoken: Vec<String> = spoken.iter().map(|name| (*name).to_owned()).collect();
        offer(lines).choose(&spoken).map(|name| name.map(|name| name.to_string()))
    }

    fn some(name: &str) -> Result<Option<String>, Unacceptable> {
        Ok(Some(name.to_owned()))
    }

    #[test]
    fn a_list_may_have_spaces_gaps_and_several_lines() {
        let names = Offer(["a", "b", "c", "a"].map(Arc::from).into());

        assert_eq!(offer(&["a,b,c,a"]), names);
        assert_eq!(offer(&[" a ,\tb\t, c", "a "]), names);
        assert_eq!(offer(&["a", "b", "c", "a"]), names);
        assert_eq!(offer(&[",a,, b ,", "", " , ", "c,,a,"]), names);
        for nothing in [&[][..], &[""], &[" "], &[","], &["\t,,", ""]] {
            assert_eq!(offer(nothing), Offer::default(), "{nothing:?}");
        }
    }

    #[test]
    fn what_is_no_token_is_no_name() {
        for token in ["a", "chat.v2", "!#$%&'*+-.^_`|~09AZaz", "base64url.bearer.x_y-z"] {
            assert!(is_name(token.as_bytes()), "{token}");
        }
        for other in
            ["a b", "a/b", "a@b", "a;b=1", "\"a\"", "a=", "(a)", "a:b", "[a]", "{a}", "a?", "é", "\u{7f}", "a\0"]
        {
            assert!(!is_name(other.as_bytes()), "{other}");
            assert_eq!(Offer::parse([b"good, ".as_slice(), other.as_bytes()]), Err(NoName), "{other}");
        }
        assert_eq!(Offer::parse([b"\xff".as_slice()]), Err(NoName));
        assert!(!is_name(b""));
    }

    #[test]
    fn nothing_offered_is_nothing_chosen() {
        assert_eq!(chosen(&[], &[]), Ok(None));
        assert_eq!(chosen(&[" ,"], &["chat"]), Ok(None));
    }

    #[test]
    fn without_a_list_the_first_that_is_offered_is_chosen() {
        assert_eq!(chosen(&["b, a"], &[]), some("b"));
        assert_eq!(chosen(&["", "b", "a"], &[]), some("b"));
    }

    #[test]
    fn the_first_of_the_tenants_list_that_is_offered_is_chosen() {
        let spoken = ["chat.v2", "chat"];

        assert_eq!(chosen(&["chat, other, chat.v2"], &spoken), some("chat.v2"));
        assert_eq!(chosen(&["other", "chat"], &spoken), some("chat"));
        for unspoken in ["other", "Chat", "chat.v", "chat.v22"] {
            assert_eq!(
                chosen(&[unspoken], &spoken),
                Err(Unacceptable::Unspoken("chat.v2 or chat".into())),
                "{unspoken}"
            );
        }
    }

    #[test]
    fn a_name_of_the_gateways_own_that_is_not_on_is_never_chosen() {
        assert_eq!(chosen(&["wafergate.resume.v1, wafergate.plain.v1"], &[]), Err(Unacceptable::OwnOnly));
        assert_eq!(chosen(&["wafergate.resume.v1, chat"], &[]), some("chat"));
        assert_eq!(chosen(&["wafergate.", "wafergate.x"], &["chat"]), Err(Unacceptable::Unspoken("chat".into())));
        assert_eq!(chosen(&["wafergate"], &[]), some("wafergate"));
        assert_eq!(chosen(&["xwafergate.y"], &[]), some("xwafergate.y"));
    }
}
