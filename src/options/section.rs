//! The macro that declares a section, with everything about a setting in one place.

/// Defines the struct of a section and describes its keys in a `SECTION` constant.
///
/// Each key is `name: type = default, kind;` with the default as TOML; an optional third part is the value shown in the
/// documentation instead. Its doc comment is the text of `config/default.toml` and `docs/configuration.md`. Behind the struct there may
/// be a list of blocks in it, which has a section of its own.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        [$section:ident]
        $(#[$attribute:meta])*
        pub struct $name:ident {
            $($(#[doc = $doc:literal])* $field:ident: $type:ty = $default:tt, $kind:expr $(, $example:tt)?;)*
        }
        $($(#[doc = $list_doc:literal])* $list:ident: $list_type:ty)?
    ) => {
        $(#[doc = $about])*
        $(#[$attribute])*
        pub struct $name {
            $($(#[doc = $doc])* pub $field: $type,)*
            $($(#[doc = $list_doc])* #[serde(default)] pub $list: $list_type,)?
        }

        impl $name {
            /// Keys and documentation of this section.
            pub(crate) const SECTION: super::key::Section = super::key::Section {
                name: stringify!($section),
                about: concat!($($about, "\n"),*),
                keys: &[$(super::key::Key {
                    name: concat!(stringify!($section), ".", stringify!($field)),
                    file: concat!(stringify!($section), ".", stringify!($field), "_file"),
                    kind: $kind,
                    about: concat!($($doc, "\n"),*),
                    default: stringify!($default),
                    example: section!(@first $(stringify!($example),)? stringify!($default)),
                }),*],
            };
        }
    };
    (@first $first:expr $(, $other:expr)*) => { $first };
}

pub(super) use section;
