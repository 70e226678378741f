//! TLS sessions with business servers, so that they can be resumed. When there are too many, the tenant with the most
//! servers loses the one that it has not used for longest.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::NamedGroup;
use rustls::client::ClientSessionStore;
use rustls::client::Tls12ClientSessionValue;
use rustls::client::Tls13ClientSessionValue;
use rustls_pki_types::ServerName;

use crate::id::TenantId;

/// Most servers of all tenants. A hostile one may take some hundred KiB: its tickets and certificates are its own choice.
const SERVERS: usize = 256;

/// Most tickets of a server; each is used once.
const TICKETS: usize = 4;

/// The sessions of all tenants.
#[derive(Default)]
pub(super) struct Sessions(Mutex<State>);

#[derive(Default)]
struct State {
    tenants: HashMap<TenantId, HashMap<ServerName<'static>, Server>>,
    /// The number of servers.
    count: usize,
    /// The number of changes so far.
    changes: u64,
}

/// What is remembered of one server.
#[derive(Default)]
struct Server {
    /// The change that was its last one.
    changed: u64,
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tickets: VecDeque<Tls13ClientSessionValue>,
}

/// The sessions of one tenant.
#[derive(Debug)]
pub(super) struct OfTenant {
    all: Arc<Sessions>,
    tenant: TenantId,
}

impl Sessions {
    /// The sessions of `tenant`.
    pub(super) fn of(self: &Arc<Self>, tenant: &TenantId) -> OfTenant {
        OfTenant { all: Arc::clone(self), tenant: tenant.clone() }
    }
}

impl State {
    /// The entry of a server, made if there is none.
    fn server(&mut self, tenant: &TenantId, name: ServerName<'static>) -> &mut Server {
        self.changes += 1;
        let is_new = self.tenants.get(tenant).is_none_or(|servers| !servers.contains_key(&name));
        if is_new {
            self.count += 1;
        }
        if self.count > SERVERS {
            self.forget_one();
        }
        let server = self.tenants.entry(tenant.clone()).or_default().entry(name).or_default();
        server.changed = self.changes;
        server
    }

    fn forget_one(&mut self) {
        let largest = self.tenants.iter().max_by_key(|(_, servers)| servers.len()).map(|(tenant, _)| tenant.clone());
        let Some((tenant, servers)) = largest.and_then(|tenant| self.tenants.get_key_value(&tenant)) else { return };
        let oldest = servers.iter().min_by_key(|(_, server)| server.changed).map(|(name, _)| name.clone());
        let tenant = tenant.clone();
        if let (Some(servers), Some(oldest)) = (self.tenants.get_mut(&tenant), oldest) {
            servers.remove(&oldest);
            self.count -= 1;
            if servers.is_empty() {
                self.tenants.remove(&tenant);
            }
        }
    }
}

impl OfTenant {
    fn change<T>(&self, name: &ServerName<'_>, change: impl FnOnce(&mut Server) -> Option<T>) -> Option<T> {
        let mut state = self.all.0.lock();
        change(state.tenants.get_mut(&self.tenant)?.get_mut(&name.to_owned())?)
    }

    fn remember(&self, name: ServerName<'static>, remember: impl FnOnce(&mut Server)) {
        remember(self.all.0.lock().server(&self.tenant, name));
    }
}

impl ClientSessionStore for OfTenant {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.remember(name, |server| server.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.change(name, |server| server.group)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.remember(name, |server| server.tls12 = Some(session));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.change(name, |server| server.tls12.clone())
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.change(name, |server| server.tls12.take());
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.remember(name, |server| {
            if server.tickets.len() >= TICKETS {
                server.tickets.pop_front();
            }
            server.tickets.push_back(ticket);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.change(name, |server| server.tickets.pop_back())
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("servers", &self.0.lock().count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> ServerName<'static> {
        ServerName::try_from(format!("server{number}.test")).expect("a name")
    }

    #[test]
    fn a_tenant_with_many_servers_loses_its_own() {
        let all = Arc::new(Sessions::default());
        let [loud, quiet] = ["loud", "quiet"].map(|tenant| all.of(&TenantId::new(tenant)));
        (0..3).for_each(|number| quiet.set_kx_hint(name(number), NamedGroup::X25519));

        (0..10 * SERVERS).for_each(|number| loud.set_kx_hint(name(number), NamedGroup::secp256r1));

        assert_eq!(all.0.lock().count, SERVERS);
        assert_eq!((0..3).filter_map(|number| quiet.kx_hint(&name(number))).count(), 3);
        let kept = (0..10 * SERVERS).filter(|number| loud.kx_hint(&name(*number)).is_some());
        assert!(kept.eq(9 * SERVERS + 3..10 * SERVERS), "its newest");
        let state = all.0.lock();
        assert_eq!(state.tenants.values().map(HashMap::len).sum::<usize>(), state.count);
    }
}
