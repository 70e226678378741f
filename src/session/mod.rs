//! Rules of users' sessions: tokens, how long they live, and how secrets are sealed. The store and the calls are above.

mod import;
mod life;
mod seal;
mod token;

pub use import::Import;
pub use import::Imported;
pub use import::Judged;
pub use import::Merged;
pub use import::OldRow;
pub use import::ProfileFate;
pub use import::SessionFate;
pub use life::Limits;
pub use life::Previous;
pub use life::Session;
pub use life::TOKEN_GRACE;
pub use seal::Vault;
pub use token::Credentials;
pub use token::InvalidSessionId;
pub use token::SessionId;
pub use token::SkeyHash;
pub use token::hash_skey;

use crate::protocol::login::Profile;

/// A user of an app, as stored.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct User {
    /// The app.
    pub app_id: String,
    /// The user's id in it.
    pub open_id: String,
    /// The user's id in all apps of one owner, if known.
    pub union_id: Option<String>,
    /// The profile.
    pub profile: Profile,
    /// The sealed `session_key`.
    pub sealed_key: Vec<u8>,
    /// The sealed key before it: `wx.login` may replace the key between the two calls of a client.
    pub previous_sealed_key: Option<Vec<u8>>,
}
