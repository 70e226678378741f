//! The files of the page.

use std::sync::LazyLock;

use crate::page::Files;

/// All of them; the page itself has no name.
pub(super) static FILES: LazyLock<Files> = LazyLock::new(|| {
    Files::of(&[
        ("", include_str!("page/index.html")),
        ("style.css", include_str!("page/style.css")),
        ("app.js", include_str!("page/app.js")),
        ("net.js", include_str!("page/net.js")),
        ("words.js", include_str!("page/words.js")),
        ("parts.js", include_str!("page/parts.js")),
        ("now.js", include_str!("page/now.js")),
        ("endpoints.js", include_str!("page/endpoints.js")),
        ("tunnel.js", include_str!("page/tunnel.js")),
        ("tenants.js", include_str!("page/tenants.js")),
        ("live.js", include_str!("page/live.js")),
    ])
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::check;

    #[test]
    fn the_page_stays_within_its_budget() {
        let (modules, lines, _) = check::size(&FILES, ".js");
        assert!(modules <= 10 && lines <= 1_500, "{modules} modules, {lines} lines");
        let (_, lines, _) = check::size(&FILES, ".css");
        assert!(lines <= 300, "{lines} lines of CSS");
        let (_, _, bytes) = check::size(&FILES, "");
        assert!(bytes <= 60 * 1_024, "{bytes} bytes");
    }

    #[test]
    fn text_of_clients_cannot_become_markup() {
        check::is_safe(&FILES);
    }
}
