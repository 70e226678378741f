//! The apps: those of the configuration and those in the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::options;
use crate::protocol::text::md5_hex;
use crate::secret::Secret;
use crate::wechat::Account;

/// One mini-program.
#[derive(Clone, Debug)]
pub struct App {
    /// Its id at WeChat.
    pub app_id: String,
    /// Its tenant, as configured: a `server_host` or an id; empty: none.
    pub tenant: String,
    /// Its secrets; more than one while it is rotated.
    pub secrets: Vec<Secret>,
    /// The key in the address of its Wafer SDKs; empty: none.
    pub wafer_key: Secret,
    /// Whether its tenant may read the access token.
    pub share_access_token: bool,
    /// Whether it was added on the command line.
    pub is_stored: bool,
}

impl App {
    /// How WeChat knows it.
    pub fn account(&self) -> Account<'_> {
        Account { app_id: &self.app_id, secrets: &self.secrets }
    }

    /// Whether it belongs to the tenant with this id.
    pub fn is_of(&self, tenant_id: &str) -> bool {
        !self.tenant.is_empty() && (self.tenant == tenant_id || md5_hex(&self.tenant) == tenant_id)
    }
}

impl From<&options::App> for App {
    fn from(app: &options::App) -> Self {
        Self {
            app_id: app.app_id.clone(),
            tenant: app.tenant.clone(),
            secrets: app.secrets(),
            wafer_key: app.wafer_key.clone(),
            share_access_token: app.share_access_token,
            is_stored: false,
        }
    }
}

/// All apps by id.
#[derive(Debug, Default)]
pub struct Apps {
    by_id: BTreeMap<String, Arc<App>>,
    /// The one without a key in its address.
    plain: Option<Arc<App>>,
}

impl Apps {
    /// The apps of the configuration, and the stored ones with other ids.
    pub fn new(configured: &[options::App], stored: Vec<App>) -> Self {
        let mut apps = Self::default();
        for app in configured.iter().map(App::from).chain(stored) {
            let app = Arc::new(app);
            if apps.by_id.contains_key(&app.app_id) {
                continue;
            }
            if app.wafer_key.is_empty() && apps.plain.is_none() {
                apps.plain = Some(Arc::clone(&app));
            }
            apps.by_id.insert(app.app_id.clone(), app);
        }
        apps
    }

    /// The app with this id.
    pub fn app(&self, app_id: &str) -> Option<&Arc<App>> {
        self.by_id.get(app_id)
    }

    /// The app with this id and this key in its address.
    pub fn with_key(&self, app_id: &str, key: &str) -> Option<&Arc<App>> {
        self.app(app_id).filter(|app| !app.wafer_key.is_empty() && app.wafer_key.matches(key))
    }

    /// The app that an address without a key means.
    pub fn plain(&self) -> Option<&Arc<App>> {
        self.plain.as_ref()
    }

    /// The apps of the tenant with this id.
    pub fn of_tenant(&self, tenant_id: &str) -> Vec<&Arc<App>> {
        self.by_id.values().filter(|app| app.is_of(tenant_id)).collect()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<App>> {
        self.by_id.values()
    }

    /// The number of apps.
    pub fn count(&self) -> usize {
        self.by_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(app_id: &str, tenant: &str, wafer_key: &str) -> options::App {
        let (secret, wafer_key) = (Secret::new("one\r\n\n two\n"), Secret::new(wafer_key));
        options::App { app_id: app_id.into(), tenant: tenant.into(), secret, wafer_key, ..options::App::default() }
    }

    #[test]
    fn an_address_means_one_app() {
        let stored = App::from(&app("c", "", ""));
        let apps = Apps::new(&[app("a", "api.example.com", "0123456789abcdef"), app("b", "t", "")], vec![stored]);

        assert_eq!(apps.plain().map(|app| app.app_id.as_str()), Some("b"));
        assert!(apps.with_key("a", "0123456789abcdef").is_some());
        for (id, key) in [("a", ""), ("a", "0123456789abcde"), ("b", ""), ("c", ""), ("x", "0123456789abcdef")] {
            assert!(apps.with_key(id, key).is_none(), "{id} {key}");
        }
        assert_eq!(apps.count(), 3);
    }

    #[test]
    fn a_tenant_has_its_apps_by_host_or_id() {
        let apps = Apps::new(&[app("a", "api.example.com", ""), app("b", "t", ""), app("c", "", "")], vec![]);

        let of = |tenant: &str| apps.of_tenant(tenant).into_iter().map(|app| app.app_id.as_str()).collect::<Vec<_>>();
        assert_eq!((of(&md5_hex("api.example.com")), of("t"), of("")), (vec!["a"], vec!["b"], vec![]));
        let secrets = &apps.app("a").expect("an app").secrets;
        assert_eq!(secrets.iter().map(Secret::expose).collect::<Vec<_>>(), ["one", "two"]);
    }
}
