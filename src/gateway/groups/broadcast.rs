//! Commands and lists for all tunnels of a group or user: every node that may hold some gets one request.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Groups;
use crate::gateway::cluster::Ids;
use crate::gateway::cluster::Members;
use crate::gateway::cluster::Names;
use crate::gateway::cluster::NodeRequest;
use crate::gateway::cluster::Reached;
use crate::gateway::cluster::read_answer;
use crate::gateway::error::NativeError;
use crate::gateway::push::Call;
use crate::gateway::push::Command;
use crate::gateway::push::EncodedCommand;
use crate::gateway::push::Recording;
use crate::gateway::push::Report;
use crate::gateway::push::execute;
use crate::gateway::tunnels::Sent;
use crate::gateway::turns::FEW;
use crate::gateway::turns::Turns;
use crate::id::NodeId;
use crate::id::TunnelId;
use crate::marks::Mark;
use crate::protocol::native::Audience;
use crate::protocol::native::Name;
use crate::protocol::wafer::Target;
use crate::reason::Reason;
use crate::tenant::NamePage;
use crate::tenant::Page;
use crate::tenant::Roster;
use crate::tenant::Tenant;
use crate::webhook::EventQueue;

/// Time limit for counting a user's tunnels: a `close` event waits for it.
const COUNTED_WITHIN: Duration = Duration::from_secs(1);

/// Tunnels excluded from a command, ascending; a list from another node is sorted already.
pub(in crate::gateway) struct Except(Vec<TunnelId>);

impl FromIterator<TunnelId> for Except {
    fn from_iter<I: IntoIterator<Item = TunnelId>>(tunnels: I) -> Self {
        let mut tunnels: Vec<_> = tunnels.into_iter().collect();
        tunnels.sort_unstable();
        tunnels.dedup();
        Self(tunnels)
    }
}

impl Except {
    fn contains(&self, tunnel: TunnelId) -> bool {
        self.0.binary_search(&tunnel).is_ok()
    }
}

impl Groups {
    /// Executes `command` on all tunnels of `audience`, except those in `except`; up to `free` of them need no turn. A
    /// repeated `call` executes it only where it has not been executed.
    pub(in crate::gateway) async fn command(
        &self,
        tenant: &Arc<Tenant>,
        audience: &Audience,
        except: &[Target],
        command: Command<'_>,
        free: usize,
        call: Call,
    ) -> Result<Report, NativeError> {
        let except: Except = except.iter().filter_map(Target::tunnel).collect();
        let nodes = self.nodes(tenant, audience).await?;
        let mut all = self.command_here(tenant, audience, command, &except, free, call).await;
        if !nodes.is_empty() {
            let request = NodeRequest::Audience {
                tenant: tenant.id.as_str(),
                audience: audience.clone(),
                command,
                except: except.0.into_iter().collect(),
            };
            for answer in self.router.ask_each(tenant, nodes, &request, call).await? {
                all.add(&read_answer(&answer).ok_or(NativeError::NodeAway)?);
            }
        }
        if all.members == 0 && command != Command::EndSession {
            let reason = if matches!(audience, Audience::User(_)) { Reason::UserUnknown } else { Reason::GroupUnknown };
            let recording = Recording::of(&self.tunnels, tenant, 0, call.trace);
            recording.into_iter().for_each(|recording| recording.to(audience).without_targets(reason));
        }
        Ok(all.report())
    }

    /// As [`command`](Self::command), for this node's tunnels only.
    pub(in crate::gateway) async fn command_here(
        &self,
        tenant: &Arc<Tenant>,
        audience: &Audience,
        command: Command<'_>,
        except: &Except,
        free: usize,
        call: Call,
    ) -> Reached {
        let mut work = self.parts.begin(&tenant.id, call.id).await;
        let part = &mut work.part;
        if part.is_done {
            return part.reached.clone();
        }
        let tunnels = tenant.groups.tunnels(audience);
        let mut turns = Turns::shared(&self.engine.lease_guard, &self.turns, tenant.flow(), tunnels.len(), free);
        let recording = Recording::of(&self.tunnels, tenant, tunnels.len(), call.trace);
        let recording = recording.map(|recording| recording.to(audience));
        let mut encoded = EncodedCommand::new(command, &self.metrics).recorded(recording);
        part.reached.members = tunnels.len() as u64;
        let served_to = part.served_to;
        let is_left = |tunnel: &TunnelId| served_to.is_none_or(|last| *tunnel > last) && !except.contains(*tunnel);
        for tunnel in tunnels.into_iter().filter(is_left) {
            let now = turns.next().await;
            let reached = &mut part.reached;
            match execute(&self.tunnels, tenant, tunnel, &mut encoded, now) {
                Sent::Accepted => reached.accepted += 1,
                Sent::Slow => reached.slow.push(tunnel),
                Sent::Closed => {
                    self.metrics.deliveries.invalid.inc();
                    reached.gone.push(tunnel);
                }
            }
            part.served_to = Some(tunnel);
        }
        encoded.finish();
        part.is_done = true;
        part.reached.clone()
    }

    /// At most `limit` tunnels of `audience`, or of the whole tenant, after `after`, and the total on all nodes.
    ///
    /// # Errors
    ///
    /// If the answer may be incomplete.
    pub async fn list(
        &self,
        tenant: &Arc<Tenant>,
        audience: Option<&Audience>,
        after: Option<TunnelId>,
        limit: usize,
    ) -> Result<Page, NativeError> {
        self.engine.lease_guard.while_valid(|| self.list_once(tenant, audience, after, limit)).await
    }

    /// Counts the other open tunnels of the user of a closed one, for its `close` event; gives up if the other nodes do not answer soon.
    pub async fn count_user_tunnels_left(&self, event_queue: &EventQueue) {
        let Some(user) = event_queue.user() else { return };
        let audience = Audience::User(user);
        let listed = self.list(&event_queue.tenant, Some(&audience), None, 0);
        if let Ok(Ok(page)) = timeout(COUNTED_WITHIN, listed).await {
            event_queue.set_user_tunnels_left(page.count);
        }
    }

    /// At most `limit` groups or users of a tenant after `after`.
    ///
    /// # Errors
    ///
    /// If the answer may be incomplete.
    pub async fn list_names(
        &self,
        tenant: &Arc<Tenant>,
        roster: Roster,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<NamePage, NativeError> {
        self.engine.lease_guard.while_valid(|| self.list_names_once(tenant, roster, after, limit)).await
    }

    async fn list_names_once(
        &self,
        tenant: &Arc<Tenant>,
        roster: Roster,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<NamePage, NativeError> {
        let nodes = self.engine.cluster.all_others().await.map_err(|_| NativeError::EngineAway)?;
        let mut pages = vec![tenant.groups.names(roster, after, limit)];
        if !nodes.is_empty() {
            let limit = u32::try_from(limit).unwrap_or(u32::MAX);
            let request = NodeRequest::Names { tenant: tenant.id.as_str(), roster, after: after.cloned(), limit };
            for answer in self.router.ask_each(tenant, nodes, &request, Call::default()).await? {
                pages.push(read_answer::<Names>(&answer).ok_or(NativeError::NodeAway)?.into());
            }
        }
        let page = NamePage::merge(pages, limit);
        Mark::Told.pass();
        Ok(page)
    }

    /// This node's part of a list of tunnels.
    pub(in crate::gateway) async fn page_here(
        &self,
        tenant: &Arc<Tenant>,
        audience: Option<&Audience>,
        after: Option<TunnelId>,
        limit: usize,
    ) -> Page {
        if let Some(audience) = audience {
            return tenant.groups.page(audience, after, limit);
        }
        // All tunnels of the node are looked at, those of other tenants too.
        let mut turns = Turns::shared(&self.engine.lease_guard, &self.turns, tenant.flow(), self.tunnels.count(), FEW);
        turns.next().await;
        tenant.groups.page_of(self.tunnels.of(tenant), after, limit)
    }

    async fn list_once(
        &self,
        tenant: &Arc<Tenant>,
        audience: Option<&Audience>,
        after: Option<TunnelId>,
        limit: usize,
    ) -> Result<Page, NativeError> {
        let nodes = match audience {
            Some(audience) => self.nodes(tenant, audience).await?,
            None => self.engine.cluster.all_others().await.map_err(|_| NativeError::EngineAway)?,
        };
        let mut pages = vec![self.page_here(tenant, audience, after, limit).await];
        if !nodes.is_empty() {
            let request = NodeRequest::Members {
                tenant: tenant.id.as_str(),
                audience: audience.cloned(),
                after: after.map(TunnelId::to_bytes),
                limit: u32::try_from(limit).unwrap_or(u32::MAX),
            };
            for answer in self.router.ask_each(tenant, nodes, &request, Call::default()).await? {
                pages.push(read_answer::<Members>(&answer).ok_or(NativeError::NodeAway)?.into());
            }
        }
        let page = Page::merge(pages, limit);
        Mark::Told.pass();
        Ok(page)
    }

    async fn nodes(&self, tenant: &Tenant, audience: &Audience) -> Result<Vec<NodeId>, NativeError> {
        self.engine.group_index.nodes_with(tenant.id.as_str(), audience).await.map_err(|_| NativeError::EngineAway)
    }
}

impl Reached {
    fn add(&mut self, other: &Self) {
        self.members += other.members;
        self.accepted += other.accepted;
        self.slow.extend(&other.slow);
        self.gone.extend(&other.gone);
    }

    fn report(&self) -> Report {
        let targets = |ids: &Ids| ids.iter().map(Target::Tunnel).collect::<Vec<_>>();
        let (slow, gone) = (targets(&self.slow), targets(&self.gone));
        let accepted = usize::try_from(self.accepted).unwrap_or(usize::MAX);
        let (targets, is_nobody) = (accepted + slow.len() + gone.len(), self.members == 0);
        Report { targets, accepted, gone, slow, unreachable: vec![], is_nobody }
    }
}
