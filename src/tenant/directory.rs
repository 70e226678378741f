//! All tenants of a node, and the only place where requests are authenticated.

use std::collections::HashMap;
use std::fmt::Display;
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
use crate::protocol::signature::WaferData;
use crate::protocol::text::md5_hex;
use crate::protocol::wafer::Envelope;
use crate::secret::Secret;

/// Limit of enrolled tenants.
const MAX_ENROLLED: usize = 10_000;
/// An enrolled tenant without tunnels and requests may be removed after this time if there are too many; longer than a
/// connect URL can wait.
const ENROLLED_IDLE: Duration = Duration::from_secs(2 * 3_600);
/// Interval of the search for idle enrolled tenants.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Limit in bytes of a tcKey to enrol, since anyone can send one. SDK keys have 32.
const MAX_ENROLLED_KEY_BYTES: usize = 256;

/// Why a request is denied.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Denied {
    /// Not authenticated; the reason is for the log, callers must not learn it.
    #[error("{0}")]
    Stranger(Stranger),
    /// Enrolment is open, but the limit is reached.
    #[error("{MAX_ENROLLED} tenants have enrolled themselves and no more can: configure this one, or try again later")]
    Full,
    /// Enrolment is open, but this sender has its share.
    #[error(
        "too many tenants have enrolled themselves from this address, others need the rest: configure this one, or try again later"
    )]
    Crowd,
}

/// Why a request is not authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Stranger {
    /// No tenant has the id.
    #[error("no tenant has this id")]
    UnknownTenant,
    /// The proof was not made with a key of the tenant.
    #[error("the tenant is known, but none of its keys is the caller's")]
    WrongKey,
    /// `tcKey` is missing, although the signature is right.
    #[error("the signature is right, but tcKey is missing")]
    MissingKey,
    /// `tcKey` is another key than the one that signed.
    #[error("the signature is right, but tcKey is another key")]
    OtherKey,
}

impl From<Stranger> for Denied {
    fn from(stranger: Stranger) -> Self {
        Self::Stranger(stranger)
    }
}

/// The tenants by id.
#[derive(Debug)]
pub struct Directory {
    state: ArcSwap<State>,
    /// Enrolled tenants, kept apart: there may be ten thousand, and more at any time.
    enrolled: RwLock<HashMap<TenantId, Arc<Tenant>>>,
    /// Held while the state is replaced.
    change: Mutex<Enrolments>,
    max_enrolled: usize,
    /// Verifies requests of unknown tenants, so that they take as long as others.
    decoy: Key,
}

/// What is known of the enrolled tenants.
#[derive(Debug, Default)]
struct Enrolments {
    /// The last search for idle ones.
    searched: Option<Instant>,
    /// Their number by sender.
    by_flow: HashMap<TenantId, usize>,
}

impl Enrolments {
    fn count(&mut self, enrolled: &HashMap<TenantId, Arc<Tenant>>) {
        self.by_flow.clear();
        for tenant in enrolled.values() {
            *self.by_flow.entry(tenant.flow().clone()).or_default() += 1;
        }
    }

    /// Why no further one may be enrolled by this sender, with so many in all.
    fn refusal(&self, flow: &TenantId, enrolled: usize, most: usize) -> Option<Denied> {
        let own = self.by_flow.get(flow).copied().unwrap_or_default();
        match () {
            () if enrolled >= most => Some(Denied::Full),
            // The rule of `share`: no more than what is left.
            () if own > 0 && own + 1 > most - (enrolled + 1) => Some(Denied::Crowd),
            () => None,
        }
    }
}

#[derive(Debug)]
struct State {
    /// Configured tenants.
    tenants: HashMap<TenantId, Arc<Tenant>>,
    /// Removed tenants that still have tunnels; a tenant that is configured again keeps them.
    retired: HashMap<TenantId, Weak<Tenant>>,
    is_open: bool,
    limits: Limits,
}

impl Directory {
    /// The tenants in `options`.
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
        // An empty directory has no tenant to remove.
        let _ = directory.reload(options);
        directory
    }

    /// Applies tenants, keys and limits; returns the changes. Removed tenants are denied from now on; their tunnels
    /// live on with the old keys. Enrolled tenants stay while enrolment is open.
    ///
    /// # Errors
    ///
    /// If it would remove tenants with tunnels, or all tenants, without `reload.allow_removal`; nothing changes then.
    pub fn reload(&self, options: &Options) -> Result<Changes, Removal> {
        // Built before the lock, since it is slow and would delay enrolment.
        let wanted: HashMap<TenantId, Settings> =
            options.tenants.iter().map(|entry| (tenant_id(entry), Settings::new(entry, options.limits))).collect();
        let mut change = self.change.lock();
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
        // A tenant may be in both maps for a moment, but never in none.
        self.enrolled.write().extend(staying.iter().map(|(id, tenant)| (id.clone(), Arc::clone(tenant))));
        self.state.store(Arc::new(State { tenants, retired, is_open, limits }));
        change.count(&staying);
        *self.enrolled.write() = staying;
        Ok(changes)
    }

    /// The tenant with this id.
    pub fn tenant(&self, id: &str) -> Option<Arc<Tenant>> {
        self.state.load().tenants.get(id).cloned().or_else(|| self.enrolled.read().get(id).cloned())
    }

    /// The ServerHost of the configured tenant with this id, if it is known. Takes no lock.
    pub fn server_host(&self, id: &str) -> Option<String> {
        let settings = self.state.load().tenants.get(id)?.settings();
        (!settings.server_host.is_empty()).then(|| settings.server_host.clone().into())
    }

    /// The tenant with this id, even if it is removed but has open tunnels.
    pub fn tenant_of_tunnels(&self, id: &str) -> Option<Arc<Tenant>> {
        self.tenant(id).or_else(|| self.state.load().retired.get(id)?.upgrade())
    }

    /// Calls `visit` for each tenant.
    pub fn each(&self, visit: impl FnMut(&Arc<Tenant>)) {
        self.state.load().tenants.values().chain(self.enrolled.read().values()).for_each(visit);
    }

    /// Authenticates `envelope`; returns its tenant and key. `data` is not parsed.
    ///
    /// `tcKey` is only compared, never stored, unless enrolment is open. It is required if `needs_key`, as every SDK
    /// sends it to `/get/wsurl`. `from` names the sender; all tenants that it enrols share what one tenant may take.
    ///
    /// # Errors
    ///
    /// [`Denied::Stranger`] whatever was wrong; [`Denied::Full`] for an enrolment without room.
    pub fn authenticate(
        &self,
        envelope: &Envelope,
        needs_key: bool,
        from: &dyn Display,
        now: Instant,
    ) -> Result<(Arc<Tenant>, Key), Denied> {
        let Some(tenant) = self.tenant(&envelope.tc_id.0) else {
            return self.enrol(envelope, from, now);
        };
        let settings = tenant.settings();
        // A tenant with many keys takes as long as an unknown one.
        let data = WaferData::new(&envelope.data.0);
        let key = settings.keys.iter().find(|key| data.is_signed(key.secret().expose(), &envelope.signature.0));
        let key = key.ok_or(Stranger::WrongKey)?.clone();
        match &envelope.tc_key {
            Some(claimed) if !key.secret().matches(&claimed.0) => return Err(Stranger::OtherKey.into()),
            None if needs_key => return Err(Stranger::MissingKey.into()),
            _ => {}
        }
        if settings.is_enrolled {
            tenant.usage.touch(now);
        }
        Ok((tenant, key))
    }

    /// Authenticates a native request: the tenant `id`, if `proves` accepts one of its keys.
    ///
    /// An unknown tenant takes as long as a wrong proof.
    ///
    /// # Errors
    ///
    /// [`Denied::Stranger`] whatever was wrong.
    pub fn authenticate_native(&self, id: &str, proves: impl Fn(&Key) -> bool) -> Result<(Arc<Tenant>, Key), Denied> {
        let Some(tenant) = self.tenant(id) else {
            let _ = std::hint::black_box(proves(&self.decoy));
            return Err(Stranger::UnknownTenant.into());
        };
        let settings = tenant.settings();
        let key = settings.keys.iter().find(|key| proves(key)).ok_or(Stranger::WrongKey)?;
        Ok((tenant, key.clone()))
    }

    /// Enrols an unknown tenant with the key in its request, if enrolment is open and that key signs the request.
    ///
    /// While enrolment is closed this takes as long as a wrong signature of a known tenant.
    fn enrol(&self, envelope: &Envelope, from: &dyn Display, now: Instant) -> Result<(Arc<Tenant>, Key), Denied> {
        let claimed = envelope.tc_key.as_ref().filter(|key| self.state.load().is_open && can_be_enrolled(&key.0));
        let key = claimed.map_or_else(|| self.decoy.clone(), |text| Key::new(Secret::new(text.0.clone())));
        let is_signed = signature::wafer_matches(&envelope.data.0, key.secret().expose(), &envelope.signature.0);
        let id = &envelope.tc_id.0;
        if claimed.is_none() || !is_signed || !TenantId::is_valid(id) {
            return Err(Stranger::UnknownTenant.into());
        }

        let mut change = self.change.lock();
        let state = self.state.load_full();
        if self.tenant(id).is_some() {
            drop(change);
            return self.authenticate(envelope, true, from, now);
        }
        let tenant = match state.retired.get(id.as_str()).and_then(Weak::upgrade) {
            Some(tenant) if tenant.settings().keys[0].secret().matches(key.secret().expose()) => {
                tenant.set(enrolled_settings(key.secret(), state.limits));
                tenant
            }
            Some(_) => return Err(Stranger::WrongKey.into()),
            None => {
                let tenant = Tenant::new(TenantId::new(id), enrolled_settings(key.secret(), state.limits));
                Arc::new(tenant.enrolled_by(TenantId::new(&format!("enrolled by {from}"))))
            }
        };
        let flow = tenant.flow().clone();
        let mut enrolled = self.enrolled.write();
        if let Some(refusal) = change.refusal(&flow, enrolled.len(), self.max_enrolled) {
            if change.searched.is_some_and(|last| now < last + LOOK_EVERY) {
                return Err(refusal);
            }
            change.searched = Some(now);
            // Removes idle enrolled tenants.
            enrolled.retain(|_, tenant| tenant.usage.unsettled() > 0 || !tenant.usage.is_idle(ENROLLED_IDLE, now));
            change.count(&enrolled);
            if let Some(refusal) = change.refusal(&flow, enrolled.len(), self.max_enrolled) {
                return Err(refusal);
            }
        }
        *change.by_flow.entry(flow).or_default() += 1;
        tenant.usage.touch(now);
        enrolled.insert(tenant.id.clone(), Arc::clone(&tenant));
        Ok((tenant, key))
    }
}

/// Whether a key can be enrolled; a configuration refuses an empty one too.
fn can_be_enrolled(key: &str) -> bool {
    key.len() <= MAX_ENROLLED_KEY_BYTES && !signature::hmac_key(key).is_empty()
}

/// The settings of an enrolled tenant.
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
