//! What becomes of a row of an old session table: of Wafer's session server, of its successors, and of Wafer 2.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;
use serde_json::Map;
use serde_json::Value;

use super::Limits;
use super::Session;
use super::SessionId;
use super::User;
use super::hash_skey;
use crate::clock::millis;
use crate::protocol::login::MAX_PROFILE_BYTES;
use crate::protocol::login::Profile;

/// PHP writes padding, other programs may not.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Longest id of a user or an app, in bytes; those of WeChat have 28 and 18.
const MAX_ID_BYTES: usize = 64;
/// Longest `session_key`, in bytes; those of WeChat have 24.
const MAX_KEY_BYTES: usize = 256;

/// A row of `cSessionInfo`, as read. Any column may be rubbish.
#[derive(Clone, Debug, Default)]
pub struct OldRow {
    /// `uuid`, which the SDKs call id.
    pub id: Option<String>,
    /// `skey`
    pub skey: Option<String>,
    /// `open_id`
    pub open_id: Option<String>,
    /// `session_key`
    pub session_key: Option<String>,
    /// `user_info`: base64 of JSON, or JSON.
    pub user_info: Option<Vec<u8>>,
    /// `create_time`, in seconds of the local time since 1970.
    pub created_secs: Option<i64>,
    /// `last_visit_time`, likewise.
    pub seen_secs: Option<i64>,
    /// `appid`, which one of the successors has.
    pub app_id: Option<String>,
}

/// What holds for all rows.
#[derive(Clone, Debug)]
pub struct Import {
    /// The app of rows that do not name theirs.
    pub app_id: String,
    /// How far the local time of the table is ahead of UTC, in seconds.
    pub utc_offset_secs: i64,
    /// The limits of sessions.
    pub limits: Limits,
    /// Now, in milliseconds since 1970.
    pub now_ms: u64,
}

/// A user, and the session that goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Imported {
    /// The user.
    pub user: User,
    /// The session.
    pub session: Option<Session>,
    /// The last visit, in milliseconds since 1970: the newest row of a user counts.
    pub seen_ms: u64,
}

/// What became of the session in a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionFate {
    /// It goes on.
    GoesOn,
    /// Its login is too long ago.
    LoginTooOld,
    /// It was not used for too long.
    Idle,
    /// Its id or skey is none.
    Unusable,
}

/// What became of the profile in a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProfileFate {
    /// It is taken over.
    Taken,
    /// There is none.
    Absent,
    /// It cannot be read, or it is too large.
    Unreadable,
    /// It names another user than its row: its sender has changed it.
    OfAnother,
}

/// A row that was read.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What is taken over.
    pub imported: Imported,
    /// What became of its session.
    pub session: SessionFate,
    /// What became of its profile.
    pub profile: ProfileFate,
    /// Whether its times lie in the future: the offset from UTC is wrong.
    pub is_in_future: bool,
}

impl Import {
    /// Judges a row; `seal` seals a `session_key` of an app and a user. None: it has no user.
    pub fn judge(&self, row: &OldRow, seal: impl FnOnce(&str, &str, &str) -> Vec<u8>) -> Option<Judged> {
        let is_id = |id: &String| (1..=MAX_ID_BYTES).contains(&id.len());
        let open_id = row.open_id.clone().filter(is_id)?;
        let app_id = row.app_id.clone().filter(is_id).unwrap_or_else(|| self.app_id.clone());
        let [created_ms, seen_ms] = [row.created_secs, row.seen_secs].map(|secs| self.utc_ms(secs));
        let is_in_future = created_ms.max(seen_ms) > self.now_ms;
        let (created_ms, seen_ms) = (created_ms.min(self.now_ms), seen_ms.max(created_ms).min(self.now_ms));
        let (profile, union_id, profile_fate) = profile(row.user_info.as_deref(), &open_id);
        let (session, fate) = self.session(row, &app_id, &open_id, created_ms, seen_ms);
        let session_key = row.session_key.as_deref().filter(|key| (1..=MAX_KEY_BYTES).contains(&key.len()));
        let sealed_key = session_key.map(|key| seal(&app_id, &open_id, key)).unwrap_or_default();
        let user = User { app_id, open_id, union_id, profile, sealed_key, previous_sealed_key: None };
        let imported = Imported { user, session, seen_ms };
        Some(Judged { imported, session: fate, profile: profile_fate, is_in_future })
    }

    fn session(
        &self,
        row: &OldRow,
        app_id: &str,
        open_id: &str,
        created_ms: u64,
        seen_ms: u64,
    ) -> (Option<Session>, SessionFate) {
        let id = row.id.as_deref().and_then(|id| SessionId::new(id).ok());
        let skey = row.skey.as_deref().filter(|skey| (1..=SessionId::MAX_BYTES).contains(&skey.len()));
        let Some((id, skey)) = id.zip(skey) else { return (None, SessionFate::Unusable) };
        let session = Session {
            id,
            app_id: app_id.to_owned(),
            open_id: open_id.to_owned(),
            skey_hash: hash_skey(skey),
            previous: None,
            created_ms,
            seen_ms,
            expires_ms: created_ms.saturating_add(millis(self.limits.login)),
            metadata: None,
        };
        match session.is_alive(&self.limits, self.now_ms) {
            true => (Some(session), SessionFate::GoesOn),
            false if self.now_ms > session.expires_ms => (None, SessionFate::LoginTooOld),
            false => (None, SessionFate::Idle),
        }
    }

    fn utc_ms(&self, local_secs: Option<i64>) -> u64 {
        let secs = local_secs.unwrap_or(0).saturating_sub(self.utc_offset_secs);
        u64::try_from(secs).unwrap_or(0).saturating_mul(1_000)
    }
}

/// The user's profile and id in all apps.
fn profile(written: Option<&[u8]>, open_id: &str) -> (Profile, Option<String>, ProfileFate) {
    let none = |fate| (Profile::default(), None, fate);
    let Some(written) = written.filter(|written| !written.is_empty()) else { return none(ProfileFate::Absent) };
    let Some(mut fields) = object(written) else { return none(ProfileFate::Unreadable) };
    if fields.get("openId").is_some_and(|own| own != open_id) {
        return none(ProfileFate::OfAnother);
    }
    let union_id = fields
        .remove("unionId")
        .and_then(|id| id.as_str().map(str::to_owned))
        .filter(|id| (1..=MAX_ID_BYTES).contains(&id.len()));
    let profile = Profile::new(fields);
    match profile.to_json().len() <= MAX_PROFILE_BYTES {
        true => (profile, union_id, ProfileFate::Taken),
        false => (Profile::default(), union_id, ProfileFate::Unreadable),
    }
}

/// A JSON object, or base64 of one. Its numbers and strings are kept as they are.
fn object(written: &[u8]) -> Option<Map<String, Value>> {
    if let Ok(fields) = serde_json::from_slice(written) {
        return Some(fields);
    }
    let written: Vec<u8> = written.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    serde_json::from_slice(&LENIENT.decode(written).ok()?).ok()
}

/// A user as it is stored once a row is taken over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Merged {
    /// The user.
    pub user: User,
    /// When the user's data was last changed, in milliseconds since 1970.
    pub updated_ms: u64,
    /// Whether the row is newer than what is stored, so that its session counts.
    pub is_newer: bool,
}

impl Imported {
    /// Takes the row over into the user who is stored with the time of the last change. What is newer counts, a real name is kept
    /// in any case, and the same row again changes nothing: a session that has ended here meanwhile does not come back.
    pub fn merged(&self, stored: Option<(User, u64)>) -> Merged {
        let own = self.user.clone();
        let Some((stored, updated_ms)) = stored else {
            return Merged { user: own, updated_ms: self.seen_ms, is_newer: true };
        };
        let is_newer = self.seen_ms > updated_ms;
        let (older, newer) = if is_newer { (stored, own) } else { (own, stored) };
        let previous = newer.previous_sealed_key.or(older.previous_sealed_key);
        let (sealed_key, previous_sealed_key) = match (newer.sealed_key, older.sealed_key) {
            (new, old) if new.is_empty() => (old, previous),
            (new, old) if is_newer && new != old => (new, Some(old)),
            (new, _) => (new, previous),
        };
        let user = User {
            union_id: newer.union_id.or(older.union_id),
            profile: older.profile.updated(newer.profile),
            sealed_key,
            previous_sealed_key,
            app_id: newer.app_id,
            open_id: newer.open_id,
        };
        Merged { user, updated_ms: updated_ms.max(self.seen_ms), is_newer }
    }
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
