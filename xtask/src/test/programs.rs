//! Runs several test programs at a time. Cargo runs one after another, and many have one long test.

use super::tally::Tally;
use anyhow::{Context, Result};
use serde_json::Value;
use std::io::{PipeReader, Read, Write, pipe};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;

/// A program that Cargo built from the tests of one target.
#[derive(Debug, PartialEq, Eq)]
pub struct TestProgram {
    package: String,
    /// The folder of the package, in which its tests run.
    folder: PathBuf,
    /// The source file, relative to the folder.
    source: PathBuf,
    executable: PathBuf,
}

/// Returns the programs that `cargo`, a `cargo test --no-run` with messages in JSON, builds, or nothing if they do not
/// compile.
pub fn build(cargo: &mut Command) -> Result<Option<Vec<TestProgram>>> {
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot start `cargo`")?;
    let messages = String::from_utf8(output.stdout).context("`cargo test` did not answer in UTF-8")?;
    let programs: Vec<_> = messages.lines().filter_map(TestProgram::from_message).collect();
    Ok(output.status.success().then_some(programs))
}

/// Runs the programs, with the settings that `prepare` gives to each, and writes to `out` what each says when it has ended.
/// Adds up their results, and returns whether all passed.
pub fn run(
    programs: &[TestProgram],
    prepare: impl Fn(&mut Command) + Sync,
    out: &mut (impl Write + Send),
    tally: &mut Tally,
) -> Result<bool> {
    // A program runs as many tests at a time as there are cores. At least two programs run at a time, because many have
    // a single test.
    let at_a_time = thread::available_parallelism().map_or(2, |cores| (cores.get() / 2).max(2));
    let waiting = Mutex::new(programs.iter());
    let results = Mutex::new((Vec::new(), out, tally));
    thread::scope(|scope| {
        let worker = || -> Result<()> {
            loop {
                let Some(program) = waiting.lock().expect("no worker panics").next() else { return Ok(()) };
                let (passed, said) = program.run(&prepare)?;
                let mut results = results.lock().expect("no worker panics");
                let (failed, out, tally) = &mut *results;
                write!(out, "\n     Running {program}\n")?;
                out.write_all(&said)?;
                String::from_utf8_lossy(&said).lines().for_each(|line| tally.add_line(line));
                if !passed {
                    failed.push(program);
                }
            }
        };
        let workers: Vec<_> = (0..at_a_time).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })?;
    let (failed, ..) = results.into_inner().expect("no worker panics");
    for program in &failed {
        eprintln!("error: tests failed in {program}");
    }
    Ok(failed.is_empty())
}

impl TestProgram {
    /// Reads one message of Cargo's, if it is about a test program.
    fn from_message(line: &str) -> Option<Self> {
        let message: Value = serde_json::from_str(line).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
            return None;
        }
        let folder = PathBuf::from(message["manifest_path"].as_str()?).parent()?.to_owned();
        let source = PathBuf::from(message["target"]["src_path"].as_str()?);
        let source = source.strip_prefix(&folder).map(Path::to_owned).unwrap_or(source);
        let package = folder.file_name()?.to_string_lossy().into_owned();
        Some(Self { package, source, executable: PathBuf::from(text(&message["executable"])?), folder })
    }

    /// Runs the program. Returns whether its tests passed, and what it printed.
    fn run(&self, prepare: impl Fn(&mut Command)) -> Result<(bool, Vec<u8>)> {
        let (mut child, mut output) = self.start(prepare).with_context(|| format!("cannot start {self}"))?;
        let mut said = Vec::new();
        output.read_to_end(&mut said).with_context(|| format!("cannot read what {self} says"))?;
        Ok((child.wait()?.success(), said))
    }

    fn start(&self, prepare: impl Fn(&mut Command)) -> std::io::Result<(Child, PipeReader)> {
        let (output, input) = pipe()?;
        let mut command = Command::new(&self.executable);
        prepare(&mut command);
        // Cargo sets this variable, and tests read it.
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
        Ok((command.spawn()?, output))
    }
}

impl std::fmt::Display for TestProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` of `{}`", self.source.display(), self.package)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::io::sink;
    use std::os::unix::fs::PermissionsExt;

    /// A program that is the shell script `lines`.
    fn script(folder: &Path, name: &str, lines: &str) -> TestProgram {
        let executable = folder.join(name);
        fs::write(&executable, format!("#!/bin/sh\n{lines}\n")).unwrap();
        fs::set_permissions(&executable, fs::Permissions::from_mode(0o755)).unwrap();
        TestProgram { package: "package".to_owned(), folder: folder.to_owned(), source: name.into(), executable }
    }

    fn closing_line(passed: u64, failed: u64) -> String {
        format!("echo 'test result: ok. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out'")
    }

    #[test]
    fn results_of_all_programs_are_added_up() {
        let folder = tempfile::tempdir().unwrap();
        let programs: Vec<_> =
            (1..=5).map(|n| script(folder.path(), &format!("program{n}"), &closing_line(n, 0))).collect();
        let mut tally = Tally::default();
        assert!(run(&programs, |_| (), &mut sink(), &mut tally).unwrap());
        assert_eq!(tally, Tally { passed: 15, failed: 0, skipped: 0 });
    }

    #[test]
    fn one_program_that_fails_fails_the_run_and_all_others_still_run() {
        for failing in [format!("{}\nexit 101", closing_line(2, 1)), "kill -SEGV $$".to_owned()] {
            let folder = tempfile::tempdir().unwrap();
            let programs = [
                script(folder.path(), "fails", &failing),
                script(folder.path(), "passes", &closing_line(3, 0)),
                script(folder.path(), "passes_too", &closing_line(4, 0)),
            ];
            let mut tally = Tally::default();
            assert!(!run(&programs, |_| (), &mut sink(), &mut tally).unwrap());
            assert!(tally.passed >= 7, "{tally}");
        }
    }

    #[test]
    fn a_program_runs_in_the_folder_of_its_package_with_the_settings_given() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().canonicalize().unwrap();
        let lines =
            format!("[ \"$PWD\" = \"{0}\" ] && [ \"$CARGO_MANIFEST_DIR\" = \"{0}\" ] && [ $SET = 1 ]", here.display());
        let program = script(&here, "program", &lines);
        let set = |command: &mut Command| _ = command.env("SET", "1");
        assert!(run(&[program], set, &mut sink(), &mut Tally::default()).unwrap());
    }

    #[test]
    fn only_messages_about_test_programs_name_one() {
        let message = |reason: &str, test: bool| {
            serde_json::json!({
                "reason": reason,
                "manifest_path": "/w/kernels/Cargo.toml",
                "target": { "src_path": "/w/kernels/tests/memory.rs" },
                "profile": { "test": test },
                "executable": "/w/target/memory-1",
            })
            .to_string()
        };
        let program = TestProgram::from_message(&message("compiler-artifact", true)).unwrap();
        assert_eq!(program.to_string(), "`tests/memory.rs` of `kernels`");
        assert_eq!(program.executable, Path::new("/w/target/memory-1"));
        assert_eq!(TestProgram::from_message(&message("compiler-artifact", false)), None);
        assert_eq!(TestProgram::from_message(&message("build-script-executed", true)), None);
        assert_eq!(TestProgram::from_message("no JSON"), None);
    }
}
