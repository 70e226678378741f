//! The files of the page.

use std::sync::LazyLock;

use crate::page::Files;

/// All of them; the page itself has no name.
pub(super) static FILES: LazyLock<Files> = LazyLock::new(|| {
    Files::of(&[
        ("", include_str!("page/index.html")),
        ("style.css", include_str!("page/style.css")),
        ("app.js", include_str!("page/app.js")),
    ])
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::check;

    #[test]
    fn the_page_is_small_and_knows_no_markup_of_others() {
        let (_, _, bytes) = check::size(&FILES, "");
        assert!(bytes <= 30 * 1_024, "{bytes} bytes");
        check::is_safe(&FILES);
    }
}
