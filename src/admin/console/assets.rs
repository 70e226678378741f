//! The files of the page: compiled in, compressed and tagged once at the first request.

use std::io::Write as _;
use std::sync::LazyLock;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::HeaderMap;
use hyper::Response;
use hyper::StatusCode;
use hyper::header;
use hyper::header::HeaderValue;
use sha2::Digest;
use sha2::Sha256;

/// One file of the page.
struct Asset {
    name: &'static str,
    kind: &'static str,
    plain: &'static str,
    gzipped: Bytes,
    tag: HeaderValue,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, media type and content of every file; the page itself has no name.
const FILES: [(&str, &str, &str); 12] = [
    ("", HTML, include_str!("page/index.html")),
    ("style.css", CSS, include_str!("page/style.css")),
    ("app.js", SCRIPT, include_str!("page/app.js")),
    ("dom.js", SCRIPT, include_str!("page/dom.js")),
    ("net.js", SCRIPT, include_str!("page/net.js")),
    ("words.js", SCRIPT, include_str!("page/words.js")),
    ("parts.js", SCRIPT, include_str!("page/parts.js")),
    ("now.js", SCRIPT, include_str!("page/now.js")),
    ("endpoints.js", SCRIPT, include_str!("page/endpoints.js")),
    ("tunnel.js", SCRIPT, include_str!("page/tunnel.js")),
    ("tenants.js", SCRIPT, include_str!("page/tenants.js")),
    ("live.js", SCRIPT, include_str!("page/live.js")),
];

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let asset = |(name, kind, plain): (&'static str, &'static str, &'static str)| Asset {
        name,
        kind,
        plain,
        gzipped: gzip(plain.as_bytes()),
        tag: tag(plain.as_bytes()),
    };
    FILES.into_iter().map(asset).collect()
});

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

/// The file of this name below `/console/`.
pub(super) fn serve(name: &str, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
    let asset = ASSETS.iter().find(|asset| asset.name == name)?;
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
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    match (is_known, is_gzipped) {
        (true, _) => *response.status_mut() = StatusCode::NOT_MODIFIED,
        (false, true) => drop(fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))),
        (false, false) => {}
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines and bytes of the files with this ending.
    fn size(ending: &str) -> (usize, usize, usize) {
        let files = FILES.iter().filter(|(name, ..)| name.ends_with(ending));
        files.fold((0, 0, 0), |(files, lines, bytes), (_, _, text)| {
            (files + 1, lines + text.lines().count(), bytes + text.len())
        })
    }

    #[test]
    fn the_page_stays_within_its_budget() {
        let (modules, lines, _) = size(".js");
        assert!(modules <= 10 && lines <= 1_500, "{modules} modules, {lines} lines");
        let (_, lines, _) = size(".css");
        assert!(lines <= 300, "{lines} lines of CSS");
        let bytes: usize = FILES.iter().map(|(_, _, text)| text.len()).sum();
        assert!(bytes <= 60 * 1_024, "{bytes} bytes");
    }

    #[test]
    fn text_of_clients_cannot_become_markup() {
        for (name, _, text) in FILES {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "setTimeout(\"",
            ] {
                assert!(!text.contains(word), "{name} contains {word}");
            }
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(
                !text.contains("//www.") && !text.contains("src=\"http") && !text.contains("href=\"http"),
                "{name}: another origin"
            );
        }
        let page = FILES[0].2;
        assert!(!page.contains("style=") && !page.contains("<style") && !page.contains("onload"), "nothing is inline");
        assert_eq!(page.matches("<script").count(), 1);
    }

    #[test]
    fn a_file_is_sent_once() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("br, gzip;q=0.9"));
        let response = serve("app.js", &headers).expect("a file");
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        headers.insert(header::IF_NONE_MATCH, response.headers()[header::ETAG].clone());

        assert_eq!(serve("app.js", &headers).expect("a file").status(), StatusCode::NOT_MODIFIED);
        assert!(serve("other.js", &headers).is_none());
    }
}
