//! A load tool for the whole process, compared with the floor. See `cargo bench --bench load -- --help`.
//!
//! Smoke test in seconds: `cargo bench --profile dev --bench load -- all --smoke`
//! All figures, with charts: `cargo bench --bench load -- all --json benches/results/load.json --svg benches/results`

mod arrivals;
mod calls;
mod clock;
mod connections;
mod cpu;
mod far;
mod figure;
#[path = "../shared/filled_store.rs"]
mod filled_store;
mod floor;
mod frame;
mod http;
mod latency;
mod machine;
mod modes;
mod options;
mod report;
mod segments;
mod sequence;
mod server;
mod setup;
mod socket_kind;
mod svg;
mod wechat;
mod wire;
mod world;

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use cpu::Cores;
use machine::Machine;
use options::Mode;
use options::Options;
use report::Report;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let Some(mode) = options.mode else {
        eprintln!("load: name what to measure, such as: cargo bench --bench load -- all (or -- --help)");
        return Ok(ExitCode::SUCCESS);
    };
    if mode == Mode::Floor {
        floor::serve(options.business.context("--business")?)?;
    }
    let files = cpu::raise_file_limit()?;
    let cores = Cores::find()?;
    let machine = Machine::new(cores);
    cores.use_loads()?;
    let cases = modes::cases(mode, options, files);
    let subjects = options.subjects();
    let mut report = Report::new(options.baseline());
    let far_cases = far::cases(mode, options, files);
    let fronts = if far_cases.is_empty() { vec![] } else { far::fronts(options) };
    let total = options.repeats() * (cases.len() * subjects.len() + far_cases.len());
    let mut done = 0;
    for case in &cases {
        for repeat in 1..=options.repeats() {
            for subject in &subjects {
                done += 1;
                let (name, case_name) = (subject.name(), case.name());
                progress(&format!("{done}/{total} {case_name}: {name}, {repeat} of {}", options.repeats()));
                let figures = case.run(options, cores, *subject).map(|figures| modes::aimed(mode, figures));
                report.add(*subject, figures.with_context(|| format!("{case_name}: {name}"))?);
            }
        }
    }
    for case in &far_cases {
        for repeat in 1..=options.repeats() {
            done += 1;
            progress(&format!("{done}/{total} {}: {repeat} of {}", case.name(), options.repeats()));
            case.run(options, cores, &fronts, &mut report.far).with_context(|| case.name())?;
        }
    }
    progress("");
    println!("{}\n\n{}", machine.line(), report.table());
    if let Some(path) = &options.json {
        report.write_json(&machine, path).context("cannot write the JSON file")?;
    }
    if let Some(folder) = &options.svg {
        report.write_pictures(folder).context("cannot write the pictures")?;
    }
    Ok(if report.faults() == 0 && report.far.turned_away() + report.far.mishandled() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Shows the progress, on one line if stderr is a terminal.
fn progress(line: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{line}");
    } else if !line.is_empty() {
        eprintln!("{line}");
    }
}
