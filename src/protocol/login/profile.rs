//! What is known of a user: stored as a JSON object, shown to the SDKs as `user_info`.

use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeMap;
use serde_json::Map;
use serde_json::Value;

/// Largest profile, in bytes of JSON.
pub const MAX_PROFILE_BYTES: usize = 4 * 1024;

/// The nickname in the data that WeChat has given out for all users since 2021.
const ANONYMOUS: &str = "微信用户";

/// Fields of a person, which anonymous data does not overwrite.
const PERSONAL: [&str; 7] = ["nickName", "gender", "language", "city", "province", "country", "avatarUrl"];

/// Fields that are no part of a profile: they have a place of their own.
const IDENTITY: [&str; 2] = ["openId", "unionId"];

/// A user's profile: any JSON object.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Profile(Map<String, Value>);

impl Profile {
    /// A profile from an object; ids in it are left out.
    pub fn new(mut object: Map<String, Value>) -> Self {
        IDENTITY.iter().for_each(|id| drop(object.remove(*id)));
        Self(object)
    }

    /// Parses a JSON object.
    pub fn parse(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok().map(Self::new)
    }

    /// The profile as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).expect("maps of JSON values always serialise")
    }

    /// Its fields.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The profile after a login that brought `fresh` data: anonymous data replaces no real name.
    #[must_use]
    pub fn updated(mut self, fresh: Self) -> Self {
        let keeps_person = fresh.is_anonymous() && self.is_named();
        for (field, value) in fresh.0 {
            if !(keeps_person && PERSONAL.contains(&field.as_str())) {
                self.0.insert(field, value);
            }
        }
        self
    }

    fn is_anonymous(&self) -> bool {
        self.0.get("nickName").is_some_and(|name| name == ANONYMOUS)
    }

    fn is_named(&self) -> bool {
        self.0.get("nickName").and_then(Value::as_str).is_some_and(|name| !name.is_empty() && name != ANONYMOUS)
    }
}

/// A user as the SDKs read it. Fields that they need are always there and have the type that they need.
#[derive(Clone, Copy, Debug)]
pub struct UserInfo<'a> {
    /// The user's id in the app.
    pub open_id: &'a str,
    /// The user's id in all apps of one owner, if known.
    pub union_id: Option<&'a str>,
    /// Everything else.
    pub profile: &'a Profile,
}

impl UserInfo<'_> {
    fn text(&self, field: &str) -> &str {
        self.profile.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

impl Serialize for UserInfo<'_> {
    /// In the order of WeChat. `gender` is an integer: without it the C# SDK fails.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = &self.profile.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("openId", self.open_id)?;
        map.serialize_entry("nickName", self.text("nickName"))?;
        map.serialize_entry("gender", &fields.get("gender").and_then(Value::as_i64).unwrap_or(0))?;
        for field in &PERSONAL[2..] {
            map.serialize_entry(field, self.text(field))?;
        }
        if let Some(union_id) = self.union_id {
            map.serialize_entry("unionId", union_id)?;
        }
        let known = |field: &str| PERSONAL.contains(&field) || field == "watermark";
        for (field, value) in fields.iter().filter(|(field, _)| !known(field)) {
            map.serialize_entry(field, value)?;
        }
        if let Some(Value::Object(watermark)) = fields.get("watermark") {
            map.serialize_entry("watermark", &Watermark(watermark))?;
        }
        map.end()
    }
}

/// When and for which app the data was made, in the order of WeChat.
struct Watermark<'a>(&'a Map<String, Value>);

impl Serialize for Watermark<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let first = self.0.get_key_value("timestamp");
        for (field, value) in first.into_iter().chain(self.0.iter().filter(|(field, _)| *field != "timestamp")) {
            map.serialize_entry(field, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(json: &str) -> Profile {
        Profile::parse(json).expect("an object")
    }

    fn shown(profile: &Profile) -> Value {
        serde_json::to_value(UserInfo { open_id: "o", union_id: None, profile }).expect("JSON")
    }

    #[test]
    fn what_the_sdks_read_is_there_with_its_type() {
        let expected = r#"{"openId":"o","nickName":"","gender":0,"language":"","city":"","province":"","country":"","avatarUrl":""}"#;
        for json in
            ["{}", r#"{"nickName":null,"gender":null,"city":5,"openId":"other"}"#, r#"{"gender":"1","gender":1.5}"#]
        {
            let profile = profile(json);
            let info = UserInfo { open_id: "o", union_id: None, profile: &profile };
            assert_eq!(serde_json::to_string(&info).expect("JSON"), expected, "{json}");
        }
    }

    #[test]
    fn ids_of_a_profile_are_not_shown() {
        let shown = shown(&profile(r#"{"openId":"other","unionId":"other","level":7,"watermark":"odd"}"#));

        assert_eq!((&shown["openId"], shown.get("unionId"), shown.get("watermark")), (&Value::from("o"), None, None));
        assert_eq!(shown["level"], 7, "what the business keeps is shown");
    }

    #[test]
    fn anonymous_data_keeps_a_real_person() {
        let stored = profile(
            r#"{"nickName":"三木","gender":1,"city":"Shenzhen","avatarUrl":"http://a","watermark":{"timestamp":1}}"#,
        );
        let anonymous = profile(
            r#"{"nickName":"微信用户","gender":0,"city":"","avatarUrl":"http://grey","watermark":{"timestamp":2},"x":1}"#,
        );

        let kept = stored.clone().updated(anonymous.clone());

        assert_eq!(kept.fields()["nickName"], "三木");
        assert_eq!(
            (&kept.fields()["gender"], &kept.fields()["avatarUrl"]),
            (&Value::from(1), &Value::from("http://a"))
        );
        assert_eq!((&kept.fields()["watermark"]["timestamp"], &kept.fields()["x"]), (&Value::from(2), &Value::from(1)));
        assert_eq!(Profile::default().updated(anonymous.clone()), anonymous, "better than nothing");
        assert_eq!(anonymous.updated(stored.clone()).fields()["nickName"], "三木");
        let renamed = stored.updated(profile(r#"{"nickName":"木"}"#));
        assert_eq!(
            (&renamed.fields()["nickName"], &renamed.fields()["city"]),
            (&Value::from("木"), &Value::from("Shenzhen"))
        );
    }

    #[test]
    fn a_profile_is_an_object() {
        assert!(["[]", "1", "null", "", "{"].iter().all(|json| Profile::parse(json).is_none()));
        let json = r#"{"a":[1,{"b":"三"}]}"#;
        assert_eq!(profile(json).to_json(), json);
    }
}
