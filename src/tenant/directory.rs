//! All tenants of a node. Requests are authenticated here and nowhere else.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use parking_lot::RwLock;

use super::Changes;
use super::Key;
use super::Removal;
use super::Settings;
use super::Tenant;
use crate::id::TenantId;
use crate::options;
use crate::options::Limits;
use crate::options::Options;
use crate::protocol::signature;
use crate::protocol::text::md5_hex;
use crate::protocol::wafer::Envelope;
use crate::secret::Secret;

/// Most tenants that may enrol themselves.
const MAX_ENROLLED: usize = 10_000;
/// How long a tenant that enrolled itself keeps its place without tunnels and requests when others want it: longer than a
/// connect URL can wait for its client.
const ENROLLED_IDLE: Duration = Duration::from_secs(2 * 3_600);
/// How often such places are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Longest tcKey that may be enrolled, in bytes: it is kept, and comes from anybody. The SDKs' keys have 32.
const MAX_ENROLLED_KEY_BYTES: usize = 256;

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Denied {
    /// It does not prove to come from a tenant: unknown, wrong signature or wrong key.
    #[error("not authenticated")]
    Stranger,
    /// Enrolment is open, but there is no place left.
    #[error("{MAX_ENROLLED} tenants have enrolled themselves and no more can: configure this one, or try again later")]
    Full,
}

/// The tenants by their id.
#[derive(Debug)]
pub struct Directory {
    state: ArcSwap<State>,
    /// Those that enrolled themselves, apart from the others: there may be ten thousand, and one more comes at any time.
    enrolled: RwLock<HashMap<TenantId, Arc<Tenant>>>,
    /// Held while the state is replaced; when places of idle tenants were looked for.
    change: Mutex<Option<Instant>>,
    max_enrolled: usize,
    /// Verifies requests of unknown tenants, so that they take as long as others.
    decoy: Key,
}

#[derive(Debug)]
struct State {
    /// Those that are configured.
    tenants: HashMap<TenantId, Arc<Tenant>>,
    /// Tenants that are no longer configured, as long as they have tunnels: one that comes back finds them.
    retired: HashMap<TenantId, Weak<Tenant>>,
    is_open: bool,
    limits: Limits,
}

impl Directory {
    /// The tenants that `options` names.
    pub fn new(options: &Options) -> Self {
        let state = State {
            tenants: HashMap::new(),
            retired: HashMap::new(),
            is_open: options.enrolment.open,
            limits: options.limits,
        };
        let directory = Self {
            state: ArcSwap::from_pointee(state),
            enrolled: RwLock::default(),
            change: Mutex::default(),
            max_enrolled: MAX_ENROLLED,
            decoy: Key::new(Secret::new("no tenant has this key")),
        };
        // Nobody is there who could be taken out.
        let _ = directory.reload(options);
        directory
    }

    /// Takes over tenants, keys and limits, and says what that has changed. Tenants that are gone are refused from now on; their open
    /// tunnels live on with the keys they had. Tenants that enrolled themselves stay while enrolment is open.
    ///
    /// # Errors
    ///
    /// If tenants would go that have tunnels, or all of them, and `reload.allow_removal` does not say that this is meant: nothing is
    /// changed then.
    pub fn reload(&self, options: &Options) -> Result<Changes, Removal> {
        // It takes its time, and those who want to enrol are not to wait for it.
        let wanted: HashMap<TenantId, Settings> =
            options.tenants.iter().map(|entry| (tenant_id(entry), Settings::new(entry, options.limits))).collect();
        let _change = self.change.lock();
        let old = self.state.load();
        let enrolled = self.enrolled.read().clone();
        let unnamed =
            || old.tenants.values().chain(enrolled.values()).filter(|tenant| !wanted.contains_key(&tenant.id));
        let enrolled_stay = options.enrolment.open && old.is_open;
        if !options.reload.allow_removal && !enrolled_stay {
            let is_none_left = wanted.is_empty() && !options.enrolment.open;
            Removal::check(unnamed().map(Arc::as_ref), is_none_left)?;
        }

        let mut changes = Changes::default();
        let mut staying = HashMap::new();
        for tenant in unnamed() {
            if enrolled_stay {
                tenant.set(enrolled_settings(tenant.settings().keys[0].secret(), options.limits));
                staying.insert(tenant.id.clone(), Arc::clone(tenant));
            } else {
                tenant.take_out();
                changes.taken_out.push((tenant.id.clone(), tenant.usage.unsettled()));
            }
        }
        let left = unnamed().map(|tenant| (tenant.id.clone(), Arc::downgrade(tenant)));
        let mut retired: HashMap<_, _> = old.retired.clone().into_iter().chain(left).collect();
        let mut tenants = HashMap::with_capacity(wanted.len());
        for (id, settings) in wanted {
            let known = old.tenants.get(&id).or(enrolled.get(&id)).cloned();
            if known.is_none() {
                changes.taken_in.push(id.clone());
            }
            let tenant = match known.or_else(|| old.retired.get(&id)?.upgrade()) {
                Some(tenant) => {
                    changes.compare(&tenant, &settings);
                    tenant.set(settings);
                    tenant
                }
                None => Arc::new(Tenant::new(id.clone(), settings)),
            };
            tenants.insert(id, tenant);
        }
        drop((old, enrolled));
        retired
            .retain(|id, tenant| !tenants.contains_key(id) && !staying.contains_key(id) && tenant.strong_count() > 0);
        let (is_open, limits) = (options.enrolment.open, options.limits);
        // Whoever is in both maps for a moment is found; whoever is in none would be refused.
        self.enrolled.write().extend(staying.iter().map(|(id, tenant)| (id.clone(), Arc::clone(tenant))));
        self.state.store(Arc::new(State { tenants, retired, is_open, limits }));
        *self.enrolled.write() = staying;
        Ok(changes)
    }

    /// The tenant called `id`.
    pub fn tenant(&self, id: &str) -> Option<Arc<Tenant>> {
        self.state.load().tenants.get(id).cloned().or_else(|| self.enrolled.read().get(id).cloned())
    }

    /// The tenant called `id`, also if it is no longer configured but has open tunnels.
    pub fn tenant_of_tunnels(&self, id: &str) -> Option<Arc<Tenant>> {
        self.tenant(id).or_else(|| self.state.load().retired.get(id)?.upgrade())
    }

    /// Calls `visit` for every tenant.
    pub fn each(&self, visit: impl FnMut(&Arc<Tenant>)) {
        self.state.load().tenants.values().chain(self.enrolled.read().values()).for_each(visit);
    }

    /// Finds out who sent `envelope`, and with which key it is signed. Nothing in `data` is looked at.
    ///
    /// `tcKey` is only compared, never learned, unless enrolment is open. It must be there if `needs_key` says so, as it is in
    /// every SDK's `/get/wsurl`.
    ///
    /// # Errors
    ///
    /// One answer for every way to be wrong.
    pub fn authenticate(
        &self,
        envelope: &Envelope,
        needs_key: bool,
        now: Instant,
    ) -> Result<(Arc<Tenant>, Key), Denied> {
        let Some(tenant) = self.tenant(&envelope.tc_id.0) else {
            return self.enrol(envelope, now);
        };
        let settings = tenant.settings();
        let key = settings
            .keys
            .iter()
            .find(|key| signature::wafer_matches(&envelope.data.0, key.secret().expose(), &envelope.signature.0));
        let key = key.ok_or(Denied::Stranger)?.clone();
        match &envelope.tc_key {
            Some(claimed) if !key.secret().matches(&claimed.0) => return Err(Denied::Stranger),
            None if needs_key => return Err(Denied::Stranger),
            _ => {}
        }
        if settings.is_enrolled {
            tenant.usage.touch(now);
        }
        Ok((tenant, key))
    }

    /// Finds out who sent a native request: the tenant called `id`, if `proves` says of one of its keys that the request proves it.
    ///
    /// An unknown tenant takes as long as a wrong proof.
    ///
    /// # Errors
    ///
    /// One answer for every way to be wrong.
    pub fn authenticate_native(&self, id: &str, proves: impl Fn(&Key) -> bool) -> Result<(Arc<Tenant>, Key), Denied> {
        let Some(tenant) = self.tenant(id) else {
            let _ = std::hint::black_box(proves(&self.decoy));
            return Err(Denied::Stranger);
        };
        let settings = tenant.settings();
        let key = settings.keys.iter().find(|key| proves(key)).ok_or(Denied::Stranger)?;
        Ok((tenant, key.clone()))
    }

    /// Accepts an unknown tenant with the key that it brings, if enrolment is open and its request is signed with that key.
    ///
    /// While enrolment is closed this takes as long as a wrong signature of a known tenant does.
    fn enrol(&self, envelope: &Envelope, now: Instant) -> Result<(Arc<Tenant>, Key), Denied> {
        let claimed = envelope.tc_key.as_ref().filter(|key| self.state.load().is_open && can_be_enrolled(&key.0));
        let key = claimed.map_or_else(|| self.decoy.clone(), |text| Key::new(Secret::new(text.0.clone())));
        let is_signed = signature::wafer_matches(&envelope.data.0, key.secret().expose(), &envelope.signature.0);
        let id = &envelope.tc_id.0;
        if claimed.is_none() || !is_signed || !TenantId::is_valid(id) {
            return Err(Denied::Stranger);
        }

        let mut change = self.change.lock();
        let state = self.state.load_full();
        if self.tenant(id).is_some() {
            drop(change);
            return self.authenticate(envelope, true, now);
        }
        let tenant = match state.retired.get(id.as_str()).and_then(Weak::upgrade) {
            Some(tenant) if tenant.settings().keys[0].secret().matches(key.secret().expose()) => {
                tenant.set(enrolled_settings(key.secret(), state.limits));
                tenant
            }
            Some(_) => return Err(Denied::Stranger),
            None => Arc::new(Tenant::new(TenantId::new(id), enrolled_settings(key.secret(), state.limits))),
        };
        let mut enrolled = self.enrolled.write();
        if enrolled.len() >= self.max_enrolled {
            if change.is_some_and(|last| now < last + LOOK_EVERY) {
                return Err(Denied::Full);
            }
            *change = Some(now);
            // Those that have not been heard of for long leave their places to others.
            enrolled.retain(|_, tenant| tenant.usage.unsettled() > 0 || !tenant.usage.is_idle(ENROLLED_IDLE, now));
        }
        if enrolled.len() >= self.max_enrolled {
            return Err(Denied::Full);
        }
        tenant.usage.touch(now);
        enrolled.insert(tenant.id.clone(), Arc::clone(&tenant));
        Ok((tenant, key))
    }
}

/// Whether a key that comes with a request can be one: a configuration with an empty one is refused too.
fn can_be_enrolled(key: &str) -> bool {
    key.len() <= MAX_ENROLLED_KEY_BYTES && !signature::hmac_key(key).is_empty()
}

/// What a tenant may do that has enrolled itself.
fn enrolled_settings(secret: &Secret, limits: Limits) -> Settings {
    let entry = options::Tenant { keys: vec![secret.clone()], ..Default::default() };
    Settings { is_enrolled: true, ..Settings::new(&entry, limits) }
}

fn tenant_id(entry: &options::Tenant) -> TenantId {
    if entry.id.is_empty() { TenantId::new(&md5_hex(&entry.server_host)) } else { TenantId::new(&entry.id) }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
