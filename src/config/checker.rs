//! Reports problems of settings with the place where each value was set.

use std::collections::HashSet;

use ipnet::IpNet;

use super::error::Block;
use super::error::List;
use super::error::Place;
use super::error::Report;
use super::keys;
use super::settings::Settings;

/// Fewest characters of a ticket key.
pub(super) const TICKET_KEY_CHARS: usize = 32;

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
        self.at(Some(Block { list: List::Tenants, number: tenant }), name, true, advice.into());
    }

    /// Reports a doubtful value of a key of this tenant.
    pub(super) fn tenant_warning(&mut self, tenant: usize, name: &str, advice: impl Into<String>) {
        self.at(Some(Block { list: List::Tenants, number: tenant }), name, false, advice.into());
    }

    /// Reports a problem with a key of this app.
    pub(super) fn app_problem(&mut self, app: usize, name: &str, advice: impl Into<String>) {
        self.at(Some(Block { list: List::Apps, number: app }), name, true, advice.into());
    }

    /// Reports a doubtful value of a key of this app.
    pub(super) fn app_warning(&mut self, app: usize, name: &str, advice: impl Into<String>) {
        self.at(Some(Block { list: List::Apps, number: app }), name, false, advice.into());
    }

    /// Warns of a list of networks that means every address.
    pub(super) fn networks(&mut self, name: &str, networks: &[IpNet]) {
        if let Some(network) = networks.iter().find(|network| network.prefix_len() == 0) {
            self.warning(name, format!("{network} means every address; name the networks that are meant"));
        }
    }

    /// Skips a key whose value was rejected before, because only its default is checked here.
    fn at(&mut self, block: Option<Block>, name: &str, is_problem: bool, advice: String) {
        let key = keys::find(block.map(|block| block.list), name).expect("checks name keys of the table");
        let place = Place { block, key };
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
