//! What the pages of this program, the console and the inspector, share: elements and the base of their style, how files are served, and
//! the headers that keep other pages away.

use std::io::Write as _;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Response;
use hyper::StatusCode;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use sha2::Digest;
use sha2::Sha256;

/// What a page may load and do: files of its own only, no inline code, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'";
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The files that every page has.
const SHARED: [(&str, &str); 2] = [("base.css", include_str!("base.css")), ("dom.js", include_str!("dom.js"))];

/// One file of a page.
struct Asset {
    name: &'static str,
    plain: &'static str,
    gzipped: Bytes,
    tag: HeaderValue,
}

/// The files of a page, compressed and tagged once.
pub struct Files(Vec<Asset>);

impl Files {
    /// Name and content of each of a page's own files, and the shared ones; the page itself has no name.
    pub fn of(own: &[(&'static str, &'static str)]) -> Self {
        let asset = |(name, plain): &(&'static str, &'static str)| Asset {
            name,
            plain,
            gzipped: gzip(plain.as_bytes()),
            tag: tag(plain.as_bytes()),
        };
        Self(own.iter().chain(&SHARED).map(asset).collect())
    }

    /// Name and content of each.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.0.iter().map(|asset| (asset.name, asset.plain))
    }

    /// The file of this name, or that the browser has it already; `None` if there is none.
    pub fn serve(&self, name: &str, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        let asset = self.0.iter().find(|asset| asset.name == name)?;
        let lists = |name, wanted: &str| {
            let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
            values
                .flat_map(|value| value.split(','))
                .any(|item| item.split(';').next().is_some_and(|item| item.trim() == wanted))
        };
        let is_known = lists(header::IF_NONE_MATCH, asset.tag.to_str().unwrap_or_default());
        let is_gzipped = lists(header::ACCEPT_ENCODING, "gzip");
        let body = match (is_known, is_gzipped) {
            (true, _) => Bytes::new(),
            (false, true) => asset.gzipped.clone(),
            (false, false) => Bytes::from_static(asset.plain.as_bytes()),
        };
        let mut response = Response::new(Full::new(body));
        let fields = response.headers_mut();
        fields.insert(header::ETAG, asset.tag.clone());
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        fields.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(name)));
        match (is_known, is_gzipped) {
            (true, _) => *response.status_mut() = StatusCode::NOT_MODIFIED,
            (false, true) => drop(fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))),
            (false, false) => {}
        }
        Some(response)
    }
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        _ => "text/html; charset=utf-8",
    }
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory takes everything");
    encoder.finish().expect("memory takes everything").into()
}

/// Equal for equal content only; weak, since it stands for the compressed form too.
fn tag(bytes: &[u8]) -> HeaderValue {
    let digest = HEXLOWER.encode(&Sha256::digest(bytes)[..12]);
    HeaderValue::from_str(&format!("W/\"{digest}\"")).expect("hexadecimal digits are ASCII")
}

/// Adds what every response of a page's listener has. Responses that say nothing about caching are not kept.
pub fn protect(headers: &mut HeaderMap) {
    let fixed = |value| HeaderValue::from_static(value);
    headers.insert(header::CONTENT_SECURITY_POLICY, fixed(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.insert(header::REFERRER_POLICY, fixed("no-referrer"));
    headers.insert(OPENER_POLICY, fixed("same-origin"));
    headers.insert(RESOURCE_POLICY, fixed("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(fixed("no-store"));
}

/// What the tests of each page check.
#[cfg(test)]
pub(crate) mod check {
    use super::Files;

    /// Fails if text of clients could become markup, if something is inline, or if a file names another origin.
    pub(crate) fn is_safe(files: &Files) {
        for (name, text) in files.all() {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "setTimeout(\"",
                "https://",
                "//www.",
                "src=\"http",
                "href=\"http",
            ] {
                let text = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(word), "{name} contains {word}");
            }
        }
        let (_, page) = files.all().find(|(name, _)| name.is_empty()).expect("the page itself");
        for word in ["style=", "<style", " on"] {
            assert!(!page.contains(word), "{word}: nothing is inline");
        }
        assert_eq!(page.matches("<script").count(), 1);
    }

    /// Files with this ending, and their lines and bytes.
    pub(crate) fn size(files: &Files, ending: &str) -> (usize, usize, usize) {
        let files = files.all().filter(|(name, _)| name.ends_with(ending));
        files.fold((0, 0, 0), |(files, lines, bytes), (_, text)| {
            (files + 1, lines + text.lines().count(), bytes + text.len())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_sent_once() {
        let files = Files::of(&[("", "<!doctype html>"), ("app.js", "let a = 1;")]);
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("br, gzip;q=0.9"));
        let response = files.serve("app.js", &headers).expect("a file");
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
        headers.insert(header::IF_NONE_MATCH, response.headers()[header::ETAG].clone());

        assert_eq!(files.serve("app.js", &headers).expect("a file").status(), StatusCode::NOT_MODIFIED);
        assert!(files.serve("other.js", &headers).is_none());
        assert!(files.serve("dom.js", &headers).is_some(), "every page has the shared ones");
        let page = files.serve("", &HeaderMap::new()).expect("the page itself");
        assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    }
}
