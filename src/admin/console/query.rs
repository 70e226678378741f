//! The query of a request.

use super::reply::Refused;

/// Parameters by name.
pub(super) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(super) fn new(query: Option<&'a str>) -> Self {
        Self(query.unwrap_or_default())
    }

    /// The value of a parameter, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let mut parameters = url::form_urlencoded::parse(self.0.as_bytes());
        parameters.find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
    }

    /// A number from 1 to `max`.
    pub(super) fn number(&self, name: &str, default: usize, max: usize) -> Result<usize, Refused> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let number = value.parse().ok().filter(|number| (1..=max).contains(number));
        number.ok_or_else(|| Refused::parameter(format!("{name} must be from 1 to {max}")))
    }

    /// Refuses other parameters than these.
    pub(super) fn only(&self, names: &[&str]) -> Result<(), Refused> {
        let mut parameters = url::form_urlencoded::parse(self.0.as_bytes());
        match parameters.find(|(name, _)| !names.contains(&name.as_ref())) {
            Some(_) if names.is_empty() => Err(Refused::parameter("there are no parameters here")),
            Some(_) => Err(Refused::parameter(format!("the parameters are {}", names.join(", ")))),
            None => Ok(()),
        }
    }
}
