//! Reports problems of settings with the place where each value was set.

use std::collections::HashSet;

use super::error::Place;
use super::error::Report;
use super::keys;
use super::settings::Settings;

/// Reports problems together with the source of the value.
pub(super) struct Checker<'a> {
    settings: &'a Settings,
    report: &'a mut Report,
    refused: HashSet<String>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(settings: &'a Settings, report: &'a mut Report) -> Self {
        let refused = report.blamed();
        Self { settings, report, refused }
    }

    /// Reports a problem with a key of the node.
    pub(super) fn problem(&mut self, name: &str, advice: impl Into<String>) {
        self.at(None, name, true, advice.into());
    }

    /// Reports a doubtful value of a key of the node.
    pub(super) fn warning(&mut self, name: &str, advice: impl Into<String>) {
        self.at(None, name, false, advice.into());
    }

    /// Reports a problem with a key of this tenant.
    pub(super) fn tenant_problem(&mut self, tenant: usize, name: &str, advice: impl Into<String>) {
        self.at(Some(tenant), name, true, advice.into());
    }

    /// Reports a doubtful value of a key of this tenant.
    pub(super) fn tenant_warning(&mut self, tenant: usize, name: &str, advice: impl Into<String>) {
        self.at(Some(tenant), name, false, advice.into());
    }

    /// Skips a key whose value was rejected before, because only its default is checked here.
    fn at(&mut self, tenant: Option<usize>, name: &str, is_problem: bool, advice: String) {
        let key = keys::find(tenant.is_some(), name).expect("checks name keys of the table");
        let place = Place { tenant, key };
        if self.refused.contains(&place.to_string()) {
            return;
        }
        let value = self.settings.entry(place).map(|entry| &entry.value);
        let source = self.settings.source(place);
        if is_problem {
            self.report.problem(place, value, source, advice);
        } else {
            self.report.warning(place, value, source, advice);
        }
    }
}
