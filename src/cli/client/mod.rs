//! `wafergate tunnel`, `push`, `close`, `who` and `tail`: small clients of the native API.

pub(super) mod call;
pub(super) mod connection;
mod tail;
mod tail_line;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::Subcommand;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::EXIT_FAILURE;
use super::EXIT_USAGE;
use super::exit;
use super::failure as failed;
use super::keys;
use super::print;
use super::usage;
use call::Call;
use call::Failure;

/// Ids on each page of a list.
const PAGE: usize = 1_000;

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Request a tunnel and print its connect URL
    Tunnel(Tunnel),
    /// Push to tunnels, a group or a user
    Push(Push),
    /// Close tunnels, or those of a group or a user
    Close(Close),
    /// List open tunnels with their users, groups, or one tunnel in detail
    Who(Who),
    /// Show what happens to tunnels, live, with reasons and fixes
    Tail(tail::Tail),
}

/// How to reach the gateway, as one of its tenants.
#[derive(Args, Debug)]
pub(super) struct Access {
    /// URL of the gateway
    #[arg(long, value_name = "URL", env = "WAFERGATE_GATEWAY", default_value = "http://127.0.0.1:8080")]
    gateway: String,
    /// Id of the tenant; for a Wafer tenant the MD5 of its server_host, as check-config prints it
    #[arg(long, value_name = "ID", env = "WAFERGATE_TENANT")]
    tenant: String,
    /// File with the tenant's key in its first line; WAFERGATE_KEY in the environment holds the key itself
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// The tunnels that are meant.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct To {
    /// A tunnel id; may be given several times
    #[arg(long = "tunnel", value_name = "ID")]
    tunnels: Vec<String>,
    /// All tunnels in this group
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// All tunnels of this user
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

/// `wafergate tunnel`
#[derive(Args, Debug)]
pub(super) struct Tunnel {
    #[command(flatten)]
    access: Access,
    /// User of the tunnel
    #[arg(long)]
    user: Option<String>,
    /// Group that it joins when it opens; may be given several times
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// URL for its events, instead of the tenant's webhook_url
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
    /// JSON object that its events return
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    metadata: Option<Value>,
}

/// `wafergate push`
#[derive(Args, Debug)]
pub(super) struct Push {
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    to: To,
    /// Tunnel that is left out; may be given several times
    #[arg(long, value_name = "ID")]
    except: Vec<String>,
    /// Wraps the content as {"type", "content"}
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// The content is JSON, not text
    #[arg(long)]
    json_content: bool,
    /// A group or user without an open tunnel is an error
    #[arg(long)]
    strict: bool,
    /// The content; `-` reads it from stdin
    content: String,
}

/// `wafergate close`
#[derive(Args, Debug)]
pub(super) struct Close {
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    to: To,
    /// Tunnel that is left out; may be given several times
    #[arg(long, value_name = "ID")]
    except: Vec<String>,
    /// Text of the close frame
    #[arg(long)]
    reason: Option<String>,
    /// A group or user without an open tunnel is an error
    #[arg(long)]
    strict: bool,
    /// With --tunnel: also make the connect URLs useless, so that a tunnel that no client has used yet never opens
    #[arg(long, conflicts_with_all = ["group", "user", "except", "reason", "strict"])]
    withdraw: bool,
}

/// `wafergate who`
#[derive(Args, Debug)]
pub(super) struct Who {
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    what: What,
}

/// What is listed; all open tunnels of the tenant if nothing is named.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(super) struct What {
    /// One tunnel in detail
    #[arg(long, value_name = "ID")]
    tunnel: Option<String>,
    /// The tunnels in this group
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// The tunnels of this user
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// The groups with open tunnels
    #[arg(long)]
    groups: bool,
    /// The users with open tunnels
    #[arg(long)]
    users: bool,
}

/// Runs a command.
pub(super) fn run(command: Command) -> ExitCode {
    match command {
        Command::Tunnel(tunnel) => with(&tunnel.access, async |call| {
            let opened = call.send("POST", "/v1/tunnels", Some(&tunnel.body())).await?;
            Ok((opened.clone(), format!("{}\n", text(&opened["connectUrl"]))))
        }),
        Command::Push(push) => {
            let content = match push.content() {
                Ok(content) => content,
                Err(error) => return usage(&error),
            };
            with(&push.access, async |call| {
                let pushed = call.send("POST", "/v1/push", Some(&push.body(&content))).await?;
                Ok((pushed.clone(), counts(&pushed, "accepted")))
            })
        }
        Command::Close(close) if close.withdraw => with(&close.access, async |call| {
            let mut withdrawn = vec![];
            for tunnel in &close.to.tunnels {
                let outcome = call.send("DELETE", &format!("/v1/tunnels/{}", segment(tunnel)), None).await?;
                withdrawn.push(json!({ "tunnelId": tunnel, "outcome": outcome }));
            }
            let line = |entry: &Value| format!("{}  {}\n", text(&entry["tunnelId"]), text(&entry["outcome"]));
            let lines = withdrawn.iter().map(line).collect();
            Ok((Value::Array(withdrawn), lines))
        }),
        Command::Close(close) => with(&close.access, async |call| {
            let closed = call.send("POST", "/v1/close", Some(&close.body())).await?;
            Ok((closed.clone(), counts(&closed, "closed")))
        }),
        Command::Who(who) => with(&who.access, async |call| who.what.list(&call).await),
        Command::Tail(tail) => tail::run(&tail),
    }
}

/// Makes calls and prints the answer, as JSON or as lines.
fn with(access: &Access, run: impl AsyncFn(Call) -> Result<(Value, String), Failure>) -> ExitCode {
    let key = match keys::one(access.key_file.as_deref()) {
        Ok(key) => key,
        Err(error) => return usage(&error),
    };
    let call = match Call::new(&access.gateway, &access.tenant, key) {
        Ok(call) => call,
        Err(error) => return usage(&error),
    };
    let done = super::block_on(async { Ok(run(call).await) });
    match done {
        Ok(Ok((answer, _))) if access.json => print(&format!("{answer}\n")),
        Ok(Ok((_, lines))) => print(&lines),
        Ok(Err(failure)) => {
            eprintln!("wafergate: {failure}");
            ExitCode::from(exit_code(&failure))
        }
        Err(error) => failed(&error),
    }
}

fn exit_code(failure: &Failure) -> u8 {
    match failure {
        Failure::Unreachable { .. } => exit::UNREACHABLE,
        Failure::Refused { status: 401 | 403, .. } => exit::DENIED,
        Failure::Refused { status: 429 | 503, .. } => exit::LATER,
        Failure::Refused { status: 400 | 413 | 415 | 422, .. } => EXIT_USAGE,
        Failure::Refused { .. } | Failure::NotJson { .. } => EXIT_FAILURE,
    }
}

fn parse_json(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text)
}

impl To {
    fn json(&self) -> Value {
        match (&self.group, &self.user) {
            (Some(group), _) => json!({ "group": group }),
            (None, Some(user)) => json!({ "user": user }),
            (None, None) => json!({ "tunnels": self.tunnels }),
        }
    }
}

impl Tunnel {
    fn body(&self) -> Value {
        let fields = [
            ("user", self.user.as_ref().map(|user| json!(user))),
            ("groups", (!self.groups.is_empty()).then(|| json!(self.groups))),
            ("webhookUrl", self.webhook_url.as_ref().map(|url| json!(url))),
            ("metadata", self.metadata.clone()),
        ];
        Value::Object(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }
}

impl Push {
    fn content(&self) -> Result<Value, String> {
        let text = match self.content.as_str() {
            "-" => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).map_err(|error| format!("stdin cannot be read: {error}"))?;
                text
            }
            text => text.to_owned(),
        };
        match self.json_content {
            true => serde_json::from_str(&text).map_err(|error| format!("the content is not JSON: {error}")),
            false => Ok(Value::String(text)),
        }
    }

    fn body(&self, content: &Value) -> Value {
        let mut body = targeted(&self.to, &self.except, self.strict);
        body.insert("content".to_owned(), content.clone());
        if let Some(kind) = &self.kind {
            body.insert("type".to_owned(), json!(kind));
        }
        Value::Object(body)
    }
}

impl Close {
    fn body(&self) -> Value {
        let mut body = targeted(&self.to, &self.except, self.strict);
        if let Some(reason) = &self.reason {
            body.insert("reason".to_owned(), json!(reason));
        }
        Value::Object(body)
    }
}

fn targeted(to: &To, except: &[String], is_strict: bool) -> Map<String, Value> {
    let fields = [("to", to.json()), ("except", json!(except)), ("strict", json!(is_strict))];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl What {
    /// All pages, and their lines.
    async fn list(&self, call: &Call) -> Result<(Value, String), Failure> {
        if let Some(id) = &self.tunnel {
            let tunnel = call.send("GET", &format!("/v1/tunnels/{}", segment(id)), None).await?;
            let fields = tunnel.as_object().into_iter().flatten();
            let lines = fields.map(|(name, value)| format!("{name}: {}\n", text(value))).collect();
            return Ok((tunnel, lines));
        }
        let (path, field) = match self {
            Self { group: Some(group), .. } => (format!("/v1/groups/{}", segment(group)), "members"),
            Self { user: Some(user), .. } => (format!("/v1/users/{}", segment(user)), "members"),
            Self { groups: true, .. } => ("/v1/groups".to_owned(), "groups"),
            Self { users: true, .. } => ("/v1/users".to_owned(), "users"),
            _ => ("/v1/tunnels".to_owned(), "members"),
        };
        let (mut found, mut query) = (vec![], format!("?limit={PAGE}"));
        loop {
            let mut page = call.send("GET", &format!("{path}{query}"), None).await?;
            if let Value::Array(entries) = page[field].take() {
                found.extend(entries);
            }
            match page["nextCursor"].as_str() {
                Some(cursor) => query = format!("?limit={PAGE}&cursor={}", segment(cursor)),
                None => break,
            }
        }
        let lines = found.iter().map(line).collect();
        Ok((Value::Array(found), lines))
    }
}

/// A list's entry: a tunnel and its user, or a name and the number of its tunnels.
fn line(entry: &Value) -> String {
    match entry["tunnelId"].as_str() {
        Some(tunnel) => format!("{tunnel}  {}\n", text(&entry["user"])),
        None => format!("{}  {}\n", entry["tunnels"], text(&entry["name"])),
    }
}

/// The counts of a push or close, and the targets that were not reached.
fn counts(answer: &Value, done: &str) -> String {
    let mut lines = format!("{} of {} {done}\n", answer[done], answer["targets"]);
    let missed: BTreeMap<&str, &Vec<Value>> =
        ["gone", "slow", "unreachable"].into_iter().filter_map(|name| Some((name, answer[name].as_array()?))).collect();
    for (name, targets) in missed {
        targets.iter().for_each(|target| lines += &format!("{name}: {}\n", text(target)));
    }
    lines
}

/// A value as text: a string without quotes, nothing for null.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.escape_debug().to_string(),
        other => other.to_string(),
    }
}

/// A name as a path segment or query value.
pub(super) fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_name_what_was_not_reached() {
        let answer = json!({"targets": 3, "accepted": 1, "gone": ["t1"], "slow": [], "unreachable": ["t2"]});

        assert_eq!(counts(&answer, "accepted"), "1 of 3 accepted\ngone: t1\nunreachable: t2\n");
    }

    #[test]
    fn a_name_cannot_leave_its_segment_or_its_line() {
        assert_eq!(segment("a/b?房"), "a%2Fb%3F%E6%88%BF");
        assert_eq!(line(&json!({"tunnelId": "t1", "user": "a\nb"})), "t1  a\\nb\n");
        assert_eq!(line(&json!({"name": "room", "tunnels": 2})), "2  room\n");
    }
}
