//! Command line parsing and exit codes.

mod app;
mod client;
mod demo;
mod duration;
mod event_line;
mod exit;
mod given;
mod init;
mod keys;
mod listen;
mod local;
mod local_time;
mod private_file;
mod reload;
mod replay;
mod serve;
#[cfg(feature = "mysql")]
mod session;
mod systemd;
mod trigger;
mod webhook;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use clap::CommandFactory;
use clap::Parser;
use clap::Subcommand;

use crate::app::Ended;
use crate::config;
use crate::protocol::signature::WEBHOOK_SECRET_PREFIX;
use crate::server::raise_limit;
use crate::shutdown;

/// Wrong usage or configuration (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;
/// A failure, or a drain ended by a second signal.
const EXIT_FAILURE: u8 = 1;

/// Time limit for dropping the last tasks.
const LAST_TASKS: Duration = Duration::from_millis(500);
/// Number of tasks between two looks at the sockets. With tokio's 61, one tenant whose tasks are always ready, each for a turn's time of
/// 250 us, keeps what comes for the others waiting for 15 ms at every step; with 5 each look serves so few tasks that events cost a fifth
/// more.
const EVENT_INTERVAL: u32 = 16;

/// A WebSocket tunnel gateway: it holds the connections of WeChat mini-programs for business servers that speak plain HTTP.
#[derive(Debug, Parser)]
#[command(name = "wafergate", version = env!("WAFERGATE_VERSION"), about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node; SIGTERM drains it, SIGHUP reloads tenants, keys, limits, certificates and the log level
    Serve {
        #[command(flatten)]
        config: ConfigFile,
        /// Address of the HTTP API and the WebSocket endpoint, instead of server.listen
        #[arg(long, value_name = "ADDR:PORT")]
        listen: Option<SocketAddr>,
        /// Address of health and metrics, instead of server.admin_listen
        #[arg(long, value_name = "ADDR:PORT")]
        admin_listen: Option<SocketAddr>,
    },
    /// Try it: a gateway with a small chat room on it, and its web page; needs nothing else
    Demo {
        /// Address of the page and the gateway; port 0 takes a free one
        #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
    },
    /// Write a first configuration with keys of its own; asks for what the options leave open
    Init(Box<init::Init>),
    /// Check a configuration and print what is in effect, with secrets masked
    CheckConfig {
        #[command(flatten)]
        config: ConfigFile,
        /// Warnings are errors
        #[arg(long)]
        strict: bool,
        /// Print problems and warnings only
        #[arg(long)]
        quiet: bool,
    },
    /// The mini-programs in the session store: add, list, remove, rotate-secret
    App {
        #[command(subcommand)]
        action: app::Action,
    },
    /// Take over the users of a former session server
    #[cfg(feature = "mysql")]
    Session {
        #[command(subcommand)]
        action: session::Action,
    },
    /// Print every setting with its default and its meaning: a configuration file to begin with
    DefaultConfig,
    /// Print a new tenant key
    Keygen,
    #[command(flatten)]
    Client(client::Command),
    /// Develop on this machine: the events of tunnels with your name come to a server here
    Listen(Box<listen::Listen>),
    /// Send a made-up event to a server on this machine, signed as a gateway signs; needs no gateway
    Trigger(Box<trigger::Trigger>),
    /// Send an event again that a listener has had
    Replay(Box<replay::Replay>),
    /// Check webhooks offline
    Webhook {
        #[command(subcommand)]
        command: webhook::Command,
    },
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write a man page for each command
    Man {
        /// Directory for the pages
        directory: PathBuf,
    },
}

#[derive(Args, Debug)]
struct ConfigFile {
    /// TOML file; `wafergate default-config` explains every key. WAFERGATE__SECTION__KEY in the environment overrides it
    #[arg(long = "config", value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Runs the program.
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|command| command == "serve") {
        // Before anything else. If it fails, `serve` reports that it cannot handle signals.
        let _ = shutdown::survive_hangups();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            // If even this cannot be printed, only the exit code is left.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match cli.command {
        Command::Serve { config, listen, admin_listen } => serve::run(config, listen, admin_listen),
        Command::Demo { listen } => demo::run(listen),
        Command::Init(init) => init::run(*init),
        Command::App { action } => app::run(action),
        #[cfg(feature = "mysql")]
        Command::Session { action } => session::run(action),
        Command::CheckConfig { config, strict, quiet } => check_config(&config, strict, quiet),
        Command::DefaultConfig => print(config::defaults()),
        Command::Keygen => print(&format!("{}\n", new_key())),
        Command::Client(command) => client::run(command),
        Command::Listen(listen) => listen::run(&listen),
        Command::Trigger(trigger) => trigger::run(&trigger),
        Command::Replay(replay) => replay::run(&replay),
        Command::Webhook { command } => webhook::run(&command),
        Command::Completions { shell } => completions(shell),
        Command::Man { directory } => man(&directory),
    }
}

fn check_config(file: &ConfigFile, is_strict: bool, is_quiet: bool) -> ExitCode {
    let loaded = match config::load(file.file.as_deref(), config::variables()) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let notes = loaded.notes.iter().filter(|_| !is_quiet);
    notes.for_each(|note| eprintln!("note: {note}"));
    match (is_strict && !loaded.warnings.is_empty(), is_quiet) {
        (true, _) => {
            eprintln!("with --strict these warnings are errors");
            ExitCode::from(EXIT_USAGE)
        }
        (false, true) => ExitCode::SUCCESS,
        (false, false) => print(&config::render(&loaded.options)),
    }
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = vec![];
    clap_complete::generate(shell, &mut Cli::command(), "wafergate", &mut script);
    print(&String::from_utf8_lossy(&script))
}

fn man(directory: &Path) -> ExitCode {
    match std::fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(Cli::command(), directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wafergate: cannot write into {}: {error}", directory.display());
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Prints a command's output. A closed stdout is a failure, not a panic.
fn print(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_FAILURE),
    }
}

/// Prints what is wrong with the command line or the configuration.
fn usage(error: &str) -> ExitCode {
    eprintln!("wafergate: {error}");
    ExitCode::from(EXIT_USAGE)
}

/// Prints why a command failed.
fn failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("wafergate: {error:#}");
    ExitCode::from(EXIT_FAILURE)
}

/// Prints the addresses of a node. A closed stdout does not stop it from serving.
fn announce(lines: &[String]) {
    if print(&(lines.join("\n") + "\n")) != ExitCode::SUCCESS {
        tracing::warn!("the addresses could not be printed: stdout is closed");
    }
}

/// A secret as Standard Webhooks writes it: 32 random bytes.
fn new_key() -> String {
    format!("{WEBHOOK_SECRET_PREFIX}{}", STANDARD.encode(rand::random::<[u8; 32]>()))
}

fn exit_code(ended: anyhow::Result<Ended>) -> ExitCode {
    match ended {
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Ok(Ended::Stopped | Ended::Failed) => ExitCode::from(EXIT_FAILURE),
        Err(error) => failure(&error),
    }
}

/// Runs `future` on one thread per processor, with the highest open-file limit allowed.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    raise_limit();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = match processors {
        1 => tokio::runtime::Builder::new_current_thread().event_interval(EVENT_INTERVAL).enable_all().build()?,
        _ => tokio::runtime::Builder::new_multi_thread().event_interval(EVENT_INTERVAL).enable_all().build()?,
    };
    let result = runtime.block_on(future);
    // Drops the tasks, including the one that flushes the log; pending name look-ups are not waited for.
    runtime.shutdown_timeout(LAST_TASKS);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_key_is_a_standard_webhooks_secret_and_never_the_same() {
        let key = new_key();
        let encoded = key.strip_prefix("whsec_").expect("the prefix");

        assert_eq!(STANDARD.decode(encoded).expect("Base64").len(), 32);
        assert_ne!(key, new_key());
    }
}
