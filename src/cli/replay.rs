//! `wafergate replay`: an event that came before, signed now, to a server on this machine.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::Request;
use serde_json::Value;
use serde_json::json;
use tokio::time::timeout;
use url::Url;

use super::EXIT_FAILURE;
use super::block_on;
use super::client::call::Call;
use super::client::connection;
use super::client::segment;
use super::failure;
use super::keys;
use super::local::Reach;
use super::local::line;
use super::print;
use super::private_file::private_file;
use super::usage;
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::inspector::Notice;
use crate::listen::Done;
use crate::listen::Entry;
use crate::listen::editable;
use crate::listen::edited;
use crate::listen::resign;
use crate::listener::verdict;
use crate::secret::Secret;

/// Largest response of an inspector, in bytes.
const MAX_ENTRY_BYTES: usize = 32 * 1024 * 1024;
/// Time limit for the response of an inspector.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// `wafergate replay`
#[derive(Args, Debug)]
pub(super) struct Replay {
    /// The webhook-id of an event that a running listener has, or a file of --record
    what: String,
    /// Only the event with this webhook-id in the file
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Edit the event in $EDITOR first
    #[arg(long)]
    edit: bool,
    /// URL of the server [default: where the event went]
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Carry out the actions in the answer, at the gateway
    #[arg(long)]
    apply: bool,
    /// URL of the gateway, for --apply
    #[arg(long, value_name = "URL", env = "WAFERGATE_GATEWAY", default_value = "http://127.0.0.1:8080")]
    gateway: String,
    /// Id of the tenant, for --apply
    #[arg(long, value_name = "ID", env = "WAFERGATE_TENANT")]
    tenant: Option<String>,
    /// File with the tenant's key in its first line; WAFERGATE_KEY in the environment holds the key itself
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    reach: Reach,
}

/// Runs the command. Ends with 0 if every event is accepted.
pub(super) fn run(replay: &Replay) -> ExitCode {
    let key = match keys::one(replay.key_file.as_deref()) {
        Ok(key) => key,
        Err(error) => return usage(&error),
    };
    let call = match (replay.apply, &replay.tenant) {
        (false, _) => None,
        (true, None) => return usage("--apply needs --tenant"),
        (true, Some(tenant)) => match Call::new(&replay.gateway, tenant, key.clone()) {
            Ok(call) => Some(call),
            Err(error) => return usage(&error),
        },
    };
    match block_on(replay.all(&key, call.as_ref())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FAILURE),
        Err(error) if error.is::<Refused>() => usage(&error.to_string()),
        Err(error) => failure(&error),
    }
}

/// Something that the caller can change.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

impl Replay {
    /// Replays everything that was asked for. Whether all of it was accepted.
    async fn all(&self, key: &Secret, call: Option<&Call>) -> anyhow::Result<bool> {
        let mut is_good = true;
        for entry in self.entries().await? {
            is_good &= self.one(&entry, key, call).await?;
        }
        Ok(is_good)
    }

    async fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        let file = Path::new(&self.what);
        if !file.exists() {
            return Ok(vec![from_listener(&self.what).await?]);
        }
        let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", self.what))?;
        let (mut entries, mut known): (Vec<Entry>, HashSet<String>) = Default::default();
        let lines: Vec<(usize, &str)> = text.lines().enumerate().collect();
        for (number, line) in lines.into_iter().rev().filter(|(_, line)| !line.trim().is_empty()) {
            let entry: Entry = serde_json::from_str(line)
                .map_err(|error| Refused(format!("{}, line {}: not a record: {error}", self.what, number + 1)))?;
            // Each attempt is a line, which has the earlier ones too: the last one counts.
            let is_wanted = self.id.as_ref().is_none_or(|id| *id == entry.event.id);
            if is_wanted && known.insert(entry.event.id.clone()) {
                entries.push(entry);
            }
        }
        entries.reverse();
        match entries.is_empty() {
            true => Err(Refused(format!("{} holds no such event", self.what)).into()),
            false => Ok(entries),
        }
    }

    async fn one(&self, entry: &Entry, key: &Secret, call: Option<&Call>) -> anyhow::Result<bool> {
        let event = &entry.event;
        let earlier = entry.attempts.iter().rev().map(|attempt| &attempt.target).find(|target| !target.is_empty());
        let url = self.to.as_ref().or(earlier).ok_or_else(|| Refused("it went nowhere yet: name --to".to_owned()))?;
        let (url, forwarder) = self.reach.prepare(url).map_err(Refused)?;
        let body = match self.edit {
            true => {
                let text = edit(&editable(event.is_native(), &entry.body.0).map_err(Refused)?)?;
                edited(event.is_native(), &text, key.expose()).map_err(Refused)?
            }
            false => entry.body.0.clone(),
        };
        let at = SystemClock.unix_time();
        let headers = resign(event, &body, key.expose(), at.as_secs(), true);
        let sent = forwarder.send(&url, event, &headers, body.clone()).await;
        let (attempt, words) = verdict(event, &sent.target, 0, sent.took, &sent.done);
        print(&line(at, event, &body, &attempt, &words));
        let is_accepted = attempt.is_accepted();
        if let (Some(call), Done::Answered(_, body), true) = (call, &sent.done, is_accepted) {
            apply(call, &event.tunnel, body).await?;
        } else if attempt.actions > 0 {
            print("its actions are not carried out: add --apply\n");
        }
        Ok(is_accepted)
    }
}

/// Asks each running listener of this user for an event.
async fn from_listener(id: &str) -> anyhow::Result<Entry> {
    let listeners = Notice::all();
    for (origin, token) in &listeners {
        // A listener that was killed leaves its file behind, and any program may have its port.
        if let Ok(Ok(Some(entry))) = timeout(ASK_TIMEOUT, ask(origin, token, id)).await {
            return Ok(entry);
        }
    }
    let words = match listeners.is_empty() {
        true => format!("{id} is no file, and no listener of yours is running on this machine"),
        false => format!("{id} is no file, and no listener of yours has this event: each keeps the last 1,000"),
    };
    Err(Refused(words).into())
}

/// The event with this id of the listener with this inspector, if it has it.
async fn ask(origin: &str, token: &str, id: &str) -> anyhow::Result<Option<Entry>> {
    let url = Url::parse(origin)?;
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let request = Request::get(format!("/api/events/{}", segment(id)))
        .header("host", host)
        .header("authorization", format!("Bearer {token}"))
        .body(Full::new(Bytes::new()))?;
    let response = connection::exchange(&url, request).await?;
    if !response.status().is_success() {
        return Ok(None);
    }
    let body = Limited::new(response.into_body(), MAX_ENTRY_BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
    let mut found: Value = serde_json::from_slice(&body)?;
    Ok(Some(serde_json::from_value(found["entry"].take())?))
}

/// Lets a person edit a text.
fn edit(text: &str) -> anyhow::Result<String> {
    let name = format!("wafergate-replay-{:016x}.json", rand::random::<u64>());
    let path = std::env::temp_dir().join(name);
    private_file().create_new(true).write(true).open(&path)?.write_all(text.as_bytes())?;
    let edited = run_editor(&path).and_then(|()| Ok(std::fs::read_to_string(&path)?));
    std::fs::remove_file(&path)?;
    edited
}

fn run_editor(path: &Path) -> anyhow::Result<()> {
    let variable = |name: &str| std::env::var(name).ok().filter(|editor| !editor.is_empty());
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| variable(name));
    let editor = editor.ok_or_else(|| Refused("--edit needs an editor: set EDITOR".to_owned()))?;
    // It may have arguments of its own, as in `code --wait`.
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or_default();
    let status = Command::new(program).args(words).arg(path).status();
    let status = status.with_context(|| format!("the editor {program} cannot be started"))?;
    anyhow::ensure!(status.success(), "the editor {program} failed: nothing was sent");
    Ok(())
}

/// Carries out the actions in an answer, by calls to the gateway.
async fn apply(call: &Call, tunnel: &str, body: &[u8]) -> anyhow::Result<()> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    for action in answer["actions"].as_array().into_iter().flatten() {
        let Some((method, path, body)) = call_for(action, tunnel) else {
            print(&format!("not carried out, there is no call for it: {action}\n"));
            continue;
        };
        call.send(method, &path, body.as_ref()).await.map_err(|failure| anyhow::anyhow!("{action}: {failure}"))?;
        print(&format!("carried out: {method} {path}\n"));
    }
    Ok(())
}

/// The call that does what an action asks for.
fn call_for(action: &Value, tunnel: &str) -> Option<(&'static str, String, Option<Value>)> {
    let (name, value) = action.as_object()?.iter().next()?;
    let group = || value.as_str().map(segment);
    let of_targets = || {
        let mut value = value.clone();
        let fields = value.as_object_mut()?;
        fields.entry("to").or_insert_with(|| json!({ "tunnels": [tunnel] }));
        Some(value)
    };
    match name.as_str() {
        "push" => Some(("POST", "/v1/push".to_owned(), Some(of_targets()?))),
        "close" => Some(("POST", "/v1/close".to_owned(), Some(of_targets()?))),
        "join" => Some(("PUT", format!("/v1/groups/{}/tunnels/{tunnel}", group()?), None)),
        "leave" => Some(("DELETE", format!("/v1/groups/{}/tunnels/{tunnel}", group()?), None)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_has_its_call() {
        let call = |action: Value| {
            call_for(&action, "t1").map(|(method, path, body)| (method, path, body.unwrap_or_default()))
        };

        let own = json!({"content": "x", "to": {"tunnels": ["t1"]}});
        assert_eq!(call(json!({"push": {"content": "x"}})), Some(("POST", "/v1/push".into(), own)));
        let group = json!({"content": "x", "to": {"group": "g"}});
        assert_eq!(call(json!({"push": group})), Some(("POST", "/v1/push".into(), group)));
        assert_eq!(call(json!({"join": "a/b"})), Some(("PUT", "/v1/groups/a%2Fb/tunnels/t1".into(), Value::Null)));
        assert_eq!(call(json!({"leave": "g"})), Some(("DELETE", "/v1/groups/g/tunnels/t1".into(), Value::Null)));
        assert_eq!(call(json!({"close": {}})), Some(("POST", "/v1/close".into(), json!({"to": {"tunnels": ["t1"]}}))));
        assert_eq!(call(json!({"user": "u"})), None);
    }
}
