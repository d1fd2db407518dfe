//! `cargo xtask test`: every check that a change must pass.

mod programs;
mod snapshots;
mod tally;

use anyhow::{Context, Result};
use cargo_cotangent::cargo::with_one_blas_thread;
use cargo_cotangent::setup;
use snapshots::References;
use std::io::{BufRead, BufReader, IsTerminal, Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use tally::Tally;

/// A stage that ran.
struct Outcome {
    stage: &'static str,
    passed: bool,
    time: Duration,
}

/// Runs all stages, each even if an earlier one fails, and reports on all of them.
pub fn run(root: &Path) -> Result<ExitCode> {
    setup::ensure(root)?;
    let nvrtc = nvrtc(root);
    let references = References::new(root)?;
    let mut tests = Tally::default();
    let mut outcomes = Vec::new();
    let mut stage = |stage: &'static str, check: &mut dyn FnMut() -> Result<bool>| -> Result<bool> {
        eprintln!("\n=== {stage}");
        let start = Instant::now();
        let passed = check()?;
        outcomes.push(Outcome { stage, passed, time: start.elapsed() });
        Ok(passed)
    };

    let arguments = ["fmt", "--all", "--check"];
    stage("formatting", &mut || succeeds(cargo(root).args(arguments)))?;
    let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    stage("clippy", &mut || succeeds(cargo(root).args(arguments)))?;
    let arguments = ["clippy", "--package", "cotangent", "--no-default-features", "--", "-D", "warnings"];
    stage("without the emulator", &mut || succeeds(cargo(root).args(arguments)))?;
    // Clippy has compiled the rest, so only targets with tests are built.
    let arguments = ["test", "--workspace", "--tests", "--no-run", "--message-format", "json-render-diagnostics"];
    let mut programs = None;
    stage("building tests", &mut || {
        programs = programs::build(cargo(root).args(arguments))?;
        Ok(programs.is_some())
    })?;
    let prepare = |program: &mut Command| {
        references.note_in(as_committed(program, root)).envs(nvrtc.clone());
    };
    let all_ran = match &programs {
        Some(programs) => stage("tests", &mut || programs::run(programs, prepare, &mut stdout(), &mut tests))?,
        None => false,
    };
    let arguments = ["test", "--workspace", "--no-fail-fast", "--doc"];
    stage("documentation tests", &mut || count(cargo(root).args(arguments), &mut tests))?;
    let arguments = ["doc", "--workspace", "--no-deps"];
    stage("documentation", &mut || succeeds(cargo(root).args(arguments).env("RUSTDOCFLAGS", "-D warnings")))?;
    if all_ran {
        // After a failed test some snapshots were never compared.
        stage("snapshots", &mut || references.check(root))?;
    }

    let mut report = String::from("\n");
    for Outcome { stage, passed, time } in &outcomes {
        let result = if *passed { "ok" } else { "FAILED" };
        report += &format!("{stage:<20} {result:<6} {:>7.1} s\n", time.as_secs_f64());
    }
    println!("{report}\n{tests}");
    let passed = outcomes.iter().all(|outcome| outcome.passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The variable that tells tests where NVIDIA's compiler is, unless it is set or there is none.
fn nvrtc(root: &Path) -> Option<(&'static str, PathBuf)> {
    const VARIABLE: &str = "COTANGENT_NVRTC";
    if std::env::var_os(VARIABLE).is_some() {
        return None;
    }
    match setup::nvrtc::library(root) {
        Ok(library) => Some((VARIABLE, library)),
        Err(error) => {
            eprintln!(
                "SKIPPED: kernels are not compiled for NVIDIA GPUs, as their compiler is not to be had: {error:#}"
            );
            None
        }
    }
}

/// Cargo at the root of the checkout.
fn cargo(root: &Path) -> Command {
    let mut command = cargo_cotangent::cargo::cargo();
    as_committed(command.current_dir(root), root);
    if stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command
}

/// Sets `command` so that tests compare with what is committed and never rewrite it.
fn as_committed<'c>(command: &'c mut Command, root: &Path) -> &'c mut Command {
    command.env("INSTA_UPDATE", "no").env_remove("INSTA_FORCE_PASS").env_remove("TRYBUILD");
    if std::env::var_os("CARGO_TARGET_DIR").is_some_and(|folder| !Path::new(&folder).starts_with(root)) {
        // The compile-fail tests build a project in the target directory, which sees this checkout's configuration of
        // MLX only from below it.
        command.env_remove("CARGO_TARGET_DIR");
    }
    with_one_blas_thread(command)
}

fn succeeds(command: &mut Command) -> Result<bool> {
    Ok(command.stdin(Stdio::null()).status().context("cannot start `cargo`")?.success())
}

/// Runs tests, passing on what they say as they say it, and adds up their results.
fn count(command: &mut Command, tests: &mut Tally) -> Result<bool> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start `cargo`")?;
    let mut lines = BufReader::new(child.stdout.take().context("the tests' output was asked for")?);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).context("cannot read what the tests say")? > 0 {
        stdout().write_all(&line)?;
        tests.add_line(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(child.wait()?.success())
}
