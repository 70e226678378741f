use std::time::Duration;

use super::*;

const DAY_SECS: i64 = 86_400;
/// 2026-11-28 06:00:00 in UTC, in seconds.
const NOW_SECS: i64 = 1_795_845_600;

fn import() -> Import {
    Import {
        app_id: "wx".into(),
        utc_offset_secs: 8 * 3_600,
        limits: Limits { login: Duration::from_secs(30 * 86_400), idle: Duration::from_secs(10 * 86_400), per_user: 8 },
        now_ms: u64::try_from(NOW_SECS * 1_000).expect("small"),
    }
}

/// A row of a user who logged in so many days ago and was last seen so many days ago.
fn row(created_days: i64, seen_days: i64) -> OldRow {
    let local = |days: i64| Some(NOW_SECS + 8 * 3_600 - days * DAY_SECS);
    OldRow {
        id: Some("id1".into()),
        skey: Some("skey1".into()),
        open_id: Some("o1".into()),
        session_key: Some("key1".into()),
        user_info: Some(br#"{"openId":"o1","nickName":"Ann","unionId":"u1"}"#.to_vec()),
        created_secs: local(created_days),
        seen_secs: local(seen_days),
        app_id: None,
    }
}

fn judge(row: &OldRow) -> Judged {
    import().judge(row, |app, user, key| format!("{app} {user} {key}").into_bytes()).expect("a user")
}

fn named(name: &str) -> OldRow {
    OldRow { user_info: Some(format!(r#"{{"nickName":"{name}"}}"#).into_bytes()), ..row(1, 1) }
}

#[test]
fn a_row_is_a_user_with_a_session_in_utc() {
    let judged = judge(&row(3, 1));

    let now_ms = import().now_ms;
    let session = judged.imported.session.expect("goes on");
    assert_eq!((session.id.as_str(), session.skey_hash), ("id1", hash_skey("skey1")));
    assert_eq!((session.created_ms, session.seen_ms), (now_ms - 3 * 86_400_000, now_ms - 86_400_000));
    assert_eq!(session.expires_ms, now_ms + 27 * 86_400_000);
    let user = judged.imported.user;
    assert_eq!((&*user.app_id, &*user.open_id, user.union_id.as_deref()), ("wx", "o1", Some("u1")));
    assert_eq!((user.profile.to_json(), &*user.sealed_key), (r#"{"nickName":"Ann"}"#.into(), &b"wx o1 key1"[..]));
    assert!(!judged.is_in_future);
}

#[test]
fn a_session_that_has_ended_is_left_and_its_user_taken() {
    for (days, fate) in [
        ((30, 1), SessionFate::GoesOn),
        ((31, 1), SessionFate::LoginTooOld),
        ((11, 11), SessionFate::Idle),
        ((9, 9), SessionFate::GoesOn),
    ] {
        let judged = judge(&row(days.0, days.1));
        assert_eq!(judged.session, fate, "{days:?}");
        assert_eq!(judged.imported.session.is_some(), fate == SessionFate::GoesOn);
        assert_eq!(judged.imported.user.profile.to_json(), r#"{"nickName":"Ann"}"#);
    }
    for unusable in [
        OldRow { id: None, ..row(1, 1) },
        OldRow { id: Some("with space".into()), ..row(1, 1) },
        OldRow { skey: Some(String::new()), ..row(1, 1) },
        OldRow { skey: None, ..row(1, 1) },
    ] {
        assert_eq!(judge(&unusable).session, SessionFate::Unusable, "{unusable:?}");
    }
    let timeless = OldRow { created_secs: None, seen_secs: None, ..row(1, 1) };
    assert_eq!(judge(&timeless).session, SessionFate::LoginTooOld);
}

#[test]
fn a_row_without_a_user_is_none() {
    for open_id in [None, Some(String::new()), Some("三".repeat(22))] {
        assert!(import().judge(&OldRow { open_id, ..row(1, 1) }, |_, _, _| vec![]).is_none());
    }
}

#[test]
fn a_profile_is_json_or_base64_of_it_and_rubbish_is_none() {
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text).into_bytes();
    for (written, fate, name) in [
        (Some(base64(r#"{"openId":"o1","nickName":"三木/😀"}"#)), ProfileFate::Taken, Some("三木/😀")),
        (Some(b"eyJuaWNrTmFtZSI6\nImEifQ".to_vec()), ProfileFate::Taken, Some("a")),
        (Some(br#"{"nickName":"plain"}"#.to_vec()), ProfileFate::Taken, Some("plain")),
        (None, ProfileFate::Absent, None),
        (Some(vec![]), ProfileFate::Absent, None),
        (Some(b"DwUJ+gotGUP6RWWtRRMfpw==".to_vec()), ProfileFate::Unreadable, None),
        (Some(base64("[1]")), ProfileFate::Unreadable, None),
        (Some(base64("null")), ProfileFate::Unreadable, None),
        (Some(format!(r#"{{"x":"{}"}}"#, "y".repeat(5_000)).into_bytes()), ProfileFate::Unreadable, None),
        (Some(base64(r#"{"openId":"other","nickName":"a"}"#)), ProfileFate::OfAnother, None),
    ] {
        let judged = judge(&OldRow { user_info: written.clone(), ..row(1, 1) });
        assert_eq!(judged.profile, fate, "{written:?}");
        let profile = judged.imported.user.profile;
        assert_eq!(profile.fields().get("nickName").and_then(Value::as_str), name);
        assert_eq!(judged.session, SessionFate::GoesOn, "whatever the profile");
    }
}

#[test]
fn a_wrong_offset_is_noticed() {
    let judged = Import { utc_offset_secs: 0, ..import() }.judge(&row(0, 0), |_, _, _| vec![]).expect("a user");

    assert!(judged.is_in_future);
    assert_eq!(judged.imported.seen_ms, import().now_ms, "and no session lives longer for it");
    let session = judged.imported.session.expect("goes on");
    assert_eq!(session.created_ms, import().now_ms);
}

#[test]
fn the_same_row_again_changes_nothing() {
    let imported = judge(&row(3, 1)).imported;
    let first = imported.merged(None);
    assert!(first.is_newer);

    let again = imported.merged(Some((first.user.clone(), first.updated_ms)));

    assert_eq!(again, Merged { is_newer: false, ..first });
}

#[test]
fn the_newest_counts_and_a_real_name_is_kept() {
    let stored = |row: &OldRow, updated_ms| Some((judge(row).imported.user, updated_ms));
    let name = |merged: Merged| merged.user.profile.fields()["nickName"].as_str().expect("a name").to_owned();
    let row_ms = judge(&row(1, 1)).imported.seen_ms;
    for (old, here, updated_ms, expected, is_newer) in [
        ("new", "old", row_ms - 1, "new", true),
        ("old", "new", row_ms + 1, "new", false),
        ("real", "微信用户", row_ms + 1, "real", false),
        ("微信用户", "real", row_ms - 1, "real", true),
    ] {
        let merged = judge(&named(old)).imported.merged(stored(&named(here), updated_ms));
        assert_eq!(merged.is_newer, is_newer, "{old} {here}");
        assert_eq!(merged.updated_ms, updated_ms.max(row_ms));
        assert_eq!(name(merged), expected);
    }
}

#[test]
fn a_newer_key_makes_that_so_far_the_previous_one_and_none_replaces_none() {
    let with_key = |key: &str| OldRow { session_key: Some(key.into()), ..row(1, 1) };
    let user = |row: &OldRow| judge(row).imported.user;
    let merged = |key: &str, updated_ms: u64| {
        let merged = judge(&with_key(key)).imported.merged(Some((user(&with_key("here")), updated_ms))).user;
        let text = |key: Vec<u8>| String::from_utf8(key).expect("text");
        (text(merged.sealed_key), merged.previous_sealed_key.map(text))
    };

    assert_eq!(merged("new", 0), ("wx o1 new".into(), Some("wx o1 here".into())));
    assert_eq!(merged("here", 0), ("wx o1 here".into(), None));
    assert_eq!(merged("", 0), ("wx o1 here".into(), None));
    assert_eq!(merged("old", u64::MAX), ("wx o1 here".into(), None));
}
