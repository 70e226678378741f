//! Encoding of requests and answers between nodes.

use bytes::Bytes;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::connector::Report;
use crate::delivery::Instance;
use crate::delivery::Session;
use crate::gateway::push::Call;
use crate::gateway::push::CallId;
use crate::gateway::push::Command;
use crate::gateway::timelines::Wanted;
use crate::id::TunnelId;
use crate::protocol::native::Audience;
use crate::protocol::native::Name;
use crate::tenant;
use crate::tenant::NamePage;
use crate::tenant::Page;
use crate::tenant::Roster;
use crate::timeline::Of;

/// A request about a tenant's tunnels. The order of variants is part of the wire format between versions.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(in crate::gateway) enum NodeRequest<'a> {
    /// Execute these commands, each on its tunnels. Answer: an [`OwnerReply`] for each tunnel, in order.
    Tunnels {
        tenant: &'a str,
        #[serde(borrow)]
        commands: Vec<(Command<'a>, Ids)>,
    },
    /// Execute a command on your tunnels of a group or user. Answer: [`Reached`].
    Audience {
        tenant: &'a str,
        audience: Audience,
        #[serde(borrow)]
        command: Command<'a>,
        except: Ids,
    },
    /// Add your tunnel to a group. Answer: [`Joined`].
    Join { tenant: &'a str, tunnel: [u8; 16], group: Name },
    /// Remove your tunnel from a group. Answer: [`Joined`].
    Leave { tenant: &'a str, tunnel: [u8; 16], group: Name },
    /// Describe your tunnel. Answer: a `Description` as JSON; empty if it is not open.
    Describe { tenant: &'a str, tunnel: [u8; 16] },
    /// List your tunnels of a group or user. Answer: [`Listed`]. Nodes of the last release ask so.
    List { tenant: &'a str, audience: Audience, after: Option<[u8; 16]>, limit: u32 },
    /// List your tunnels, of a group or user or all, with their users. Answer: [`Members`].
    Members { tenant: &'a str, audience: Option<Audience>, after: Option<[u8; 16]>, limit: u32 },
    /// List your groups or users. Answer: [`Names`].
    Names { tenant: &'a str, roster: Roster, after: Option<Name>, limit: u32 },
    /// As `Audience`, in this trace, and unless that has been executed for this call with an `Idempotency-Key`. Nodes of the last
    /// release understand neither this nor what follows.
    CalledAudience {
        tenant: &'a str,
        call: Option<CallId>,
        trace: u64,
        audience: Audience,
        #[serde(borrow)]
        command: Command<'a>,
        except: Ids,
    },
    /// Say what you have recorded of a tunnel. Answer: a `Story`.
    Timeline { tenant: &'a str, tunnel: [u8; 16], before_us: Option<u64>, limit: u32 },
    /// Watch for me, and say what has happened since I asked before. Answer: `Watched`.
    Watch { tenant: &'a str, watch: [u8; 16], wanted: Wanted },
    /// Copy payloads until then. Answer: whether you do.
    Capture { tenant: &'a str, of: Of, until_ms: u64, max_bytes: u32, by: &'a str },
    /// As `Tunnels`, in this trace.
    TracedTunnels {
        tenant: &'a str,
        trace: u64,
        #[serde(borrow)]
        commands: Vec<(Command<'a>, Ids)>,
    },
    /// Say which of your connectors take such events. Answer: a list of `Described`.
    Connectors { tenant: &'a str, sought: Audience },
    /// Make an attempt at your connector, and report to me. Answer: `Taken`.
    Attempt { tenant: &'a str, asker: [u8; 16], session: Session, tunnel: [u8; 16], limit_ms: u64, message: &'a [u8] },
    /// Hear what has come of the attempt that you have asked for. Answer: whether you wait for it.
    Attempted { tenant: &'a str, instance: Instance, id: &'a str, attempt: u32, report: Report },
    /// Give up the attempt that I have asked for. Answer: true.
    Cancel { tenant: &'a str, id: &'a str, attempt: u32 },
    /// Close this connection of a connector: its process has replaced it by one at me. Answer: true.
    Replaced { tenant: &'a str, session: Session },
}

/// Tunnel ids, 16 bytes each.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(in crate::gateway) struct Ids(#[serde(with = "serde_bytes")] Vec<u8>);

/// Reply of a node for one target.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(in crate::gateway) enum OwnerReply {
    /// Not open on this node.
    NotMine,
    /// Open, and the command is done.
    Accepted,
    /// Closed because the client does not read.
    Slow,
}

/// Result of a command for the tunnels of a group or user on one node.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(in crate::gateway) struct Reached {
    /// All tunnels, excluded ones included.
    pub(in crate::gateway) members: u64,
    /// Tunnels that executed the command.
    pub(in crate::gateway) accepted: u64,
    /// Tunnels closed because their clients do not read.
    pub(in crate::gateway) slow: Ids,
    /// Tunnels that ended meanwhile.
    pub(in crate::gateway) gone: Ids,
}

/// Result of a change of a tunnel's groups.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(in crate::gateway) enum Joined {
    Done,
    NotMine,
    TooManyGroups,
    /// The index of the other nodes cannot be updated.
    EngineAway,
    NoRoomForNames,
}

/// A page of one node's list.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::gateway) struct Listed {
    count: u64,
    tunnels: Ids,
    has_more: bool,
}

/// A page of one node's tunnels with their users.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(in crate::gateway) struct Members {
    count: u64,
    tunnels: Vec<([u8; 16], Option<Name>)>,
    has_more: bool,
}

/// A page of one node's groups or users, with the numbers of their tunnels.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(in crate::gateway) struct Names {
    names: Vec<(Name, u64)>,
    has_more: bool,
}

impl<'a> NodeRequest<'a> {
    pub(in crate::gateway) fn write(&self) -> Bytes {
        write_answer(self).into()
    }

    /// Parses a request; `None` if it is invalid or of a newer version.
    pub(in crate::gateway) fn read(bytes: &'a [u8]) -> Option<Self> {
        read_all(bytes)
    }

    /// The tenant of an encoded request, without parsing the rest: it is the first field of each variant.
    pub(in crate::gateway) fn tenant_in(bytes: &'a [u8]) -> Option<&'a str> {
        postcard::take_from_bytes::<(u32, &str)>(bytes).ok().map(|((_, tenant), _)| tenant)
    }

    /// The same with what is known of its call, for nodes of this release.
    pub(in crate::gateway) fn of_call(self, Call { id, trace }: Call) -> Self {
        match self {
            Self::Audience { tenant, audience, command, except } => {
                Self::CalledAudience { tenant, call: id, trace, audience, command, except }
            }
            Self::Tunnels { tenant, commands } => Self::TracedTunnels { tenant, trace, commands },
            other => other,
        }
    }

    /// The tenant of the request.
    pub(in crate::gateway) fn tenant(&self) -> &'a str {
        match self {
            Self::Tunnels { tenant, .. }
            | Self::Audience { tenant, .. }
            | Self::Join { tenant, .. }
            | Self::Leave { tenant, .. }
            | Self::Describe { tenant, .. }
            | Self::List { tenant, .. }
            | Self::Members { tenant, .. }
            | Self::Names { tenant, .. }
            | Self::CalledAudience { tenant, .. }
            | Self::TracedTunnels { tenant, .. }
            | Self::Timeline { tenant, .. }
            | Self::Watch { tenant, .. }
            | Self::Capture { tenant, .. }
            | Self::Connectors { tenant, .. }
            | Self::Attempt { tenant, .. }
            | Self::Attempted { tenant, .. }
            | Self::Cancel { tenant, .. }
            | Self::Replaced { tenant, .. } => tenant,
        }
    }
}

/// Encodes an answer.
pub(in crate::gateway) fn write_answer<T: Serialize>(answer: &T) -> Vec<u8> {
    postcard::to_stdvec(answer).expect("memory has room, and all lengths are known")
}

/// Decodes an answer; `None` if it is invalid.
pub(in crate::gateway) fn read_answer<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    read_all(bytes)
}

/// Decodes all of `bytes`. Extra bytes are an error: they may change the meaning.
fn read_all<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    postcard::take_from_bytes(bytes).ok().filter(|(_, rest)| rest.is_empty()).map(|(value, _)| value)
}

impl Ids {
    pub(in crate::gateway) fn push(&mut self, id: TunnelId) {
        self.0.extend(id.to_bytes());
    }

    pub(in crate::gateway) fn extend(&mut self, ids: &Self) {
        self.0.extend(&ids.0);
    }

    pub(in crate::gateway) fn len(&self) -> usize {
        self.0.len() / 16
    }

    pub(in crate::gateway) fn iter(&self) -> impl Iterator<Item = TunnelId> + '_ {
        self.0.chunks_exact(16).map(|id| TunnelId::from_bytes(id.try_into().expect("16 bytes")))
    }
}

impl FromIterator<TunnelId> for Ids {
    fn from_iter<I: IntoIterator<Item = TunnelId>>(ids: I) -> Self {
        Self(ids.into_iter().flat_map(TunnelId::to_bytes).collect())
    }
}

impl From<Page> for Listed {
    fn from(page: Page) -> Self {
        let tunnels = page.tunnels.into_iter().map(|listed| listed.tunnel).collect();
        Self { count: page.count as u64, tunnels, has_more: page.has_more }
    }
}

impl From<Page> for Members {
    fn from(page: Page) -> Self {
        let tunnels = page.tunnels.into_iter().map(|listed| (listed.tunnel.to_bytes(), listed.user)).collect();
        Self { count: page.count as u64, tunnels, has_more: page.has_more }
    }
}

impl From<Members> for Page {
    fn from(members: Members) -> Self {
        let count = usize::try_from(members.count).unwrap_or(usize::MAX);
        let listed = |(id, user)| tenant::Listed { tunnel: TunnelId::from_bytes(id), user };
        Self { count, tunnels: members.tunnels.into_iter().map(listed).collect(), has_more: members.has_more }
    }
}

impl From<NamePage> for Names {
    fn from(page: NamePage) -> Self {
        let names = page.names.into_iter().map(|(name, tunnels)| (name, tunnels as u64)).collect();
        Self { names, has_more: page.has_more }
    }
}

impl From<Names> for NamePage {
    fn from(Names { names, has_more }: Names) -> Self {
        let count = |tunnels| usize::try_from(tunnels).unwrap_or(usize::MAX);
        Self { names: names.into_iter().map(|(name, tunnels)| (name, count(tunnels))).collect(), has_more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: u8) -> Ids {
        (0..count).map(|number| TunnelId::from_bytes([number; 16])).collect()
    }

    #[test]
    fn a_question_is_read_back_as_it_was_written() {
        let tenant = "972536d1f67ab5d13fde0b9390e3cd5c";
        let audience = Audience::Group(Name::new("房间").expect("a name"));
        let requests = [
            NodeRequest::Tunnels {
                tenant,
                commands: vec![
                    (Command::Text("三木"), ids(3)),
                    (Command::Binary(&[0, 255]), ids(1)),
                    (Command::Close(Some("enough")), ids(0)),
                    (Command::Close(None), ids(2)),
                    (Command::Nothing, ids(1)),
                ],
            },
            NodeRequest::Audience { tenant, audience: audience.clone(), command: Command::Text(""), except: ids(2) },
            NodeRequest::Join { tenant, tunnel: [7; 16], group: Name::new("g").expect("a name") },
            NodeRequest::List { tenant, audience: audience.clone(), after: Some([7; 16]), limit: 100 },
            NodeRequest::Members { tenant, audience: Some(audience), after: None, limit: 100 },
            NodeRequest::Names { tenant, roster: Roster::Users, after: Name::new("u").ok(), limit: 100 },
            NodeRequest::Timeline { tenant, tunnel: [7; 16], before_us: Some(1), limit: 100 },
            NodeRequest::Watch {
                tenant,
                watch: [7; 16],
                wanted: Wanted { user: Name::new("u").ok(), ..Wanted::default() },
            },
            NodeRequest::Capture { tenant, of: Of::User("u".into()), until_ms: 1, max_bytes: 2, by: "a key" },
            NodeRequest::Connectors { tenant, sought: Audience::Connector(Name::new("ann").expect("a name")) },
            NodeRequest::Attempt {
                tenant,
                asker: [7; 16],
                session: Session(7),
                tunnel: [7; 16],
                limit_ms: 5_000,
                message: b"{}\n{}",
            },
            NodeRequest::Attempted {
                tenant,
                instance: Instance::parse(&"7".repeat(32)).expect("128 bits"),
                id: "msg_t_1",
                attempt: 1,
                report: Report::Message(b"{}\n".to_vec()),
            },
            NodeRequest::Cancel { tenant, id: "msg_t_1", attempt: 1 },
            NodeRequest::Replaced { tenant, session: Session(7) },
        ];

        let call = Call { id: Some([8; 16]), trace: u64::MAX };
        let called = requests.clone().map(|request| request.of_call(call));
        for request in requests.into_iter().chain(called) {
            let bytes = request.write();
            assert_eq!(NodeRequest::read(&bytes), Some(request.clone()));
            assert_eq!(request.tenant(), tenant);
            assert_eq!(NodeRequest::tenant_in(&bytes), Some(tenant));
            assert!((0..bytes.len()).all(|cut| NodeRequest::read(&bytes[..cut]).is_none()));
            assert_eq!(NodeRequest::read(&[&bytes[..], &[0]].concat()), None, "more than is known");
        }
        assert_eq!(NodeRequest::read(&[99]), None, "what a newer version asks");
    }

    #[test]
    fn a_target_costs_sixteen_bytes_and_its_answer_one() {
        let targets: Ids = (0..10_000_u128).map(|id| TunnelId::from_bytes(id.to_be_bytes())).collect();
        let request = NodeRequest::Tunnels { tenant: "t", commands: vec![(Command::Text("x"), targets)] };
        assert!(request.write().len() < 160_020);

        let said = vec![OwnerReply::NotMine; 10_000];
        assert!(write_answer(&said).len() <= 10_002);
        assert_eq!(read_answer(&write_answer(&said)), Some(said));
    }
}
