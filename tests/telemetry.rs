//! The log of a real process: this test program starts itself as the process that logs.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use wafergate::options::Log;
use wafergate::options::LogFormat;
use wafergate::telemetry;

/// Tells the child process which role it has.
const PART: &str = "TELEMETRY_TEST_PART";

/// More than a pipe and the log's own queue can hold.
const FLOOD_LINES: usize = 100_000;

/// A child that is silent for this long is blocked.
const DEADLINE: Duration = Duration::from_secs(20);

/// A child process that ends with its test.
struct Running(Child);

impl Running {
    fn new(part: &str) -> Self {
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "the_child", "--nocapture"])
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self(child.expect("a child"))
    }

    /// The line with the child's result, once it is written.
    fn last_words(&mut self) -> Receiver<String> {
        let stdout = BufReader::new(self.0.stdout.take().expect("a pipe"));
        let (sender, receiver) = mpsc::sync_channel(1);
        // Reads to the end, since the test harness of the child writes there too.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some(at) = line.find("dropped=") {
                    let _ = sender.try_send(line[at..].to_owned());
                }
            }
        });
        receiver
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The code of the child; returns at once when the test program runs all tests.
#[test]
fn the_child() {
    let Ok(part) = std::env::var(PART) else { return };
    // At debug level every line is written, repeated ones too.
    let level = if part == "flood" { "debug" } else { "info" };
    let log = Log { level: level.to_owned(), format: LogFormat::Text };
    let telemetry = telemetry::init(&log).expect("a log");
    assert!(telemetry::init(&log).is_err(), "a process has one log");
    match part.as_str() {
        "flood" => {
            (0..FLOOD_LINES).for_each(|n| tracing::warn!(n, "one of many lines"));
            let panicked = std::thread::spawn(|| panic!("while stderr is blocked")).join().is_err();
            println!("dropped={} panicked={panicked}", telemetry.dropped_lines());
        }
        "lines" => {
            tracing::warn!(host = %"a\r\n\u{1b}[31mb", "a line");
            let panicked = std::thread::spawn(|| panic!("on\npurpose")).join().is_err();
            println!("dropped={} panicked={panicked}", telemetry.dropped_lines());
        }
        "repeated" => {
            (0..20).for_each(|n| tracing::warn!(n, "one of many lines"));
            // Continues until the test has seen enough, without further output.
            let _ = std::io::stdin().read(&mut [0]);
        }
        "ended" => (0..20).for_each(|n| tracing::warn!(n, "one of many lines")),
        other => panic!("no part {other}"),
    }
}

#[test]
fn a_stderr_that_nobody_reads_blocks_nobody() {
    let mut child = Running::new("flood");

    let words = child.last_words().recv_timeout(DEADLINE).expect("the child goes on");

    let (dropped, panicked) = words.trim_start_matches("dropped=").split_once(' ').expect("two words");
    assert!(dropped.parse::<usize>().expect("a number") > FLOOD_LINES / 2, "{words}");
    assert_eq!(panicked, "panicked=true");
}

#[test]
fn lines_in_a_pipe_have_no_colours_and_panics_are_lines() {
    let mut child = Running::new("lines");
    let mut stderr = child.0.stderr.take().expect("a pipe");

    let words = child.last_words().recv_timeout(DEADLINE).expect("the child comes to its end");
    assert_eq!(words, "dropped=0 panicked=true");

    let mut text = String::new();
    stderr.read_to_string(&mut text).expect("text");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(!text.contains(['\u{1b}', '\r']), "{text:?}");
    assert!(lines[0].contains(r#"WARN telemetry: a line host="a\r\n\u{1b}[31mb""#), "{text}");
    assert!(lines[1].contains(r#"panic.message="on\npurpose""#), "{text}");
}

#[test]
fn what_was_left_out_is_told_although_nothing_follows() {
    for part in ["repeated", "ended"] {
        let mut child = Running::new(part);
        let stderr = BufReader::new(child.0.stderr.take().expect("a pipe"));

        let lines: Vec<_> = stderr.lines().map(|line| line.expect("text")).take(6).collect();

        assert_eq!(lines.len(), 6, "{part}: {lines:#?}");
        assert!(lines[..5].iter().all(|line| line.contains("WARN telemetry: one of many lines n=")), "{lines:#?}");
        assert!(lines[5].contains("WARN telemetry: and 15 more in "), "{lines:#?}");
        assert!(lines[5].ends_with(" s: one of many lines"), "{lines:#?}");
    }
}
