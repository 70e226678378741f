//! The files of the page, compiled in.

/// Path, media type and content of each.
const FILES: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("page/app.js")),
    ("/dom.js", "text/javascript; charset=utf-8", include_str!("page/dom.js")),
];

/// Nothing from elsewhere, nothing inline, no frame around it.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// Media type and content of the file at this path.
pub(super) fn file(path: &str) -> Option<(&'static str, &'static str)> {
    FILES.iter().find(|(own, ..)| *own == path).map(|(_, kind, content)| (*kind, *content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_knows_no_markup_of_others() {
        let bytes: usize = FILES.iter().map(|(.., content)| content.len()).sum();
        assert!(bytes <= 30 * 1_024, "{bytes} bytes");
        for (path, _, content) in FILES {
            for word in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "https://"]
            {
                assert!(!content.contains(word), "{path} contains {word}");
            }
        }
        assert!(!FILES[0].2.contains("style=") && !FILES[0].2.contains("<style") && !FILES[0].2.contains(" on"));
    }
}
