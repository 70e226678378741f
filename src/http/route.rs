//! Routes public requests.

use hyper::Method;

use crate::protocol::connector::PATH as CONNECTOR;

/// The handler of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Route {
    /// A Wafer business server asks for a tunnel.
    Wsurl,
    /// A Wafer business server pushes.
    Push,
    /// A Wafer business server logs users in and checks sessions: see `login`.
    Login,
    /// A client comes with its connect URL.
    Connect,
    /// A native call: see `native::route`.
    Native,
    /// A connector dials in: see `connector`.
    Connector,
    /// The path is known, the method is not.
    WrongMethod {
        /// The allowed methods.
        allow: &'static str,
    },
    /// Unknown path.
    Unknown,
}

impl Route {
    /// The route of a request. Doubled slashes are accepted: a trailing slash in the SDK's TunnelServerUrl causes them.
    pub(super) fn of(method: &Method, path: &str) -> Self {
        if path == CONNECTOR && *method == Method::GET {
            return Self::Connector;
        }
        if path == "/v1" || path.starts_with("/v1/") {
            return Self::Native;
        }
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        match (segments.next(), segments.next(), segments.next(), method) {
            (Some("get"), Some("wsurl"), None, &Method::POST) => Self::Wsurl,
            (Some("ws"), Some("push"), None, &Method::POST) => Self::Push,
            (Some("get"), Some("wsurl"), None, _) | (Some("ws"), Some("push"), None, _) => {
                Self::WrongMethod { allow: "POST" }
            }
            // With any method: the SDKs need an answer of the protocol.
            (Some("mina_auth"), ..) => Self::Login,
            // HEAD is handled like a GET without an upgrade.
            (Some("ws"), Some(_), None, &Method::GET | &Method::HEAD) => Self::Connect,
            (Some("ws"), Some(_), None, _) => Self::WrongMethod { allow: "GET, HEAD" },
            _ => Self::Unknown,
        }
    }
}

/// The ticket in the path of a connect URL.
pub(super) fn ticket(path: &str) -> &str {
    path.rsplit('/').find(|segment| !segment.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubled_and_trailing_slashes_do_not_matter() {
        for path in ["/get/wsurl", "//get/wsurl", "/get/wsurl/"] {
            assert_eq!(Route::of(&Method::POST, path), Route::Wsurl, "{path}");
        }
        assert_eq!(Route::of(&Method::POST, "//ws/push"), Route::Push);
    }

    #[test]
    fn a_connect_url_has_one_segment_behind_ws() {
        assert_eq!(Route::of(&Method::GET, "/ws/abc"), Route::Connect);
        assert_eq!(ticket("/ws/abc"), "abc");
        assert_eq!(ticket("//ws//abc/"), "abc");
        for path in ["/ws", "/ws/", "/ws/a/b", "/", "", "/wss/x"] {
            assert_eq!(Route::of(&Method::GET, path), Route::Unknown, "{path}");
        }
    }

    #[test]
    fn a_login_address_may_name_an_app_and_its_key() {
        for path in [
            "/mina_auth",
            "/mina_auth/",
            "//mina_auth//",
            "/mina_auth/index.php",
            "/mina_auth/wx1/key/",
            "/mina_auth/wx1",
        ] {
            for method in [Method::POST, Method::GET] {
                assert_eq!(Route::of(&method, path), Route::Login, "{path}");
            }
        }
        for path in ["/mina", "/x/mina_auth"] {
            assert_eq!(Route::of(&Method::POST, path), Route::Unknown, "{path}");
        }
    }

    #[test]
    fn native_paths_are_taken_as_they_are() {
        for path in ["/v1", "/v1/push", "/v1//push"] {
            assert_eq!(Route::of(&Method::GET, path), Route::Native, "{path}");
        }
        assert_eq!(Route::of(&Method::GET, "/v10"), Route::Unknown);
        assert_eq!(Route::of(&Method::GET, "/v1/connector"), Route::Connector);
        assert_eq!(Route::of(&Method::POST, "/v1/connector"), Route::Native, "which names the method");
    }

    #[test]
    fn a_wrong_method_is_told_the_right_one() {
        assert_eq!(Route::of(&Method::GET, "/get/wsurl"), Route::WrongMethod { allow: "POST" });
        assert_eq!(Route::of(&Method::GET, "/ws/push"), Route::WrongMethod { allow: "POST" });
        assert_eq!(Route::of(&Method::HEAD, "/ws/push"), Route::WrongMethod { allow: "POST" });
        assert_eq!(Route::of(&Method::POST, "/ws/abc"), Route::WrongMethod { allow: "GET, HEAD" });
        assert_eq!(Route::of(&Method::HEAD, "/ws/abc"), Route::Connect);
    }
}
