//! `cargo cotangent check`: what machinery checks of every kernel; and, on a GPU, its results against the emulator's.

mod file;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use anyhow::{Context, Result, bail};
use cotangent::kernel::Declaration;
use cotangent::kernel::check::{Record, check_on, compare, record};
use cotangent::{Backend, Session};

/// The arguments of the command.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// The name of the one kernel to check; without it all are checked.
    pub kernel: Option<String>,
    /// The task beside the check itself.
    pub task: Task,
}

/// The task beside the check itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Task {
    /// The check alone.
    #[default]
    Check,
    /// Compare with the emulator's results as well, which a second run of this program makes.
    Device,
    /// Compare with the results in this file as well.
    Against(PathBuf),
    /// Write results into this file, and do not check.
    Record(PathBuf),
}

/// The usage of the program.
pub const USAGE: &str = "usage: check [KERNEL] [--device | --against FILE | --record FILE]";

impl Arguments {
    /// # Errors
    /// What is not understood.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut parsed = Arguments::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut file = || arguments.next().map(PathBuf::from).with_context(|| format!("`{argument}` needs a file"));
            let task = match argument.as_str() {
                "--device" => Task::Device,
                "--against" => Task::Against(file()?),
                "--record" => Task::Record(file()?),
                option if option.starts_with('-') => bail!("unknown option `{option}`"),
                name if parsed.kernel.is_none() => {
                    parsed.kernel = Some(name.to_owned());
                    continue;
                }
                other => bail!("`{other}` is one name too many"),
            };
            if std::mem::replace(&mut parsed.task, task) != Task::Check {
                bail!("only one of `--device`, `--against` and `--record` can be done at once");
            }
        }
        Ok(parsed)
    }
}

/// Prints what was compared. Whether everything agreed.
///
/// # Errors
/// No such kernel, no such file, a file that does not fit, no such backend. A kernel that fails is no error of the run.
pub fn run(mut kernels: Vec<&'static Declaration>, arguments: &Arguments) -> Result<bool> {
    let name = arguments.kernel.as_deref();
    kernels.retain(|kernel| name.is_none_or(|name| kernel.signature.name == name));
    if let (Some(name), true) = (name, kernels.is_empty()) {
        bail!("no kernel is called `{name}`\n  help: list the kernels with `{} kernels`", crate::caller());
    }
    kernels.sort_by_key(|kernel| (kernel.signature.name, kernel.signature.module));
    let mut session = Session::new()?;
    let backend = session.backend();
    if arguments.task != Task::Check {
        if backend == Backend::Cpu {
            bail!(
                "the `cpu` backend runs no kernel's text, so there is nothing to compare or record\n  help: set \
                 COTANGENT_BACKEND to `cuda` or `metal`, or to `emulated` for a record"
            );
        }
        println!("{}", header(&session));
    }
    match &arguments.task {
        Task::Record(path) => write_record(&mut session, &kernels, path),
        Task::Check => {
            // The CPU runs no kernel's source: without a GPU the emulator does, unless the CPU is asked for.
            let is_chosen = std::env::var_os("COTANGENT_BACKEND").is_some();
            let backend = if backend == Backend::Cpu && !is_chosen { Backend::Emulated } else { backend };
            check_all(&mut session, backend, &kernels, None, name.is_some())
        }
        Task::Against(path) => check_all(&mut session, backend, &kernels, Some(&file::read(path)?), true),
        Task::Device => {
            let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
            let path = folder.path().join("emulated.safetensors");
            emulate(name, &path)?;
            check_all(&mut session, backend, &kernels, Some(&file::read(&path)?), true)
        }
    }
}

/// Device, driver, versions and date, as a report must name them.
fn header(session: &Session) -> String {
    let date = jiff::Zoned::now().strftime("%Y-%m-%d");
    let driver = if session.backend() == Backend::Cuda { format!(", driver {}", driver()) } else { String::new() };
    format!("{}{driver}, {date}", session.description())
}

/// Returns the version of NVIDIA's driver, if the machine reports it.
fn driver() -> String {
    let query = ["--query-gpu=driver_version", "--format=csv,noheader"];
    let told = Command::new("nvidia-smi").args(query).output().ok().filter(|output| output.status.success());
    let told = told.map(|output| String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned());
    let loaded = || {
        let text = std::fs::read_to_string("/sys/module/nvidia/version").ok()?;
        Some(text.trim().to_owned())
    };
    told.filter(|version| !version.is_empty()).or_else(loaded).unwrap_or_else(|| "unknown".to_owned())
}

/// Lets the emulator compute the record, in a process of its own: a process has one backend.
fn emulate(kernel: Option<&str>, path: &Path) -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.args(kernel).arg("--record").arg(path).env("COTANGENT_BACKEND", "emulated");
    let output = command.output().context("cannot start this program again")?;
    if !output.status.success() {
        bail!(
            "the emulator failed\n{}{}  help: where there is no C++ compiler, record on another machine with \
             `COTANGENT_BACKEND=emulated check --record FILE`, and compare here with `--against FILE`",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn write_record(session: &mut Session, kernels: &[&'static Declaration], path: &Path) -> Result<bool> {
    let mut records = Vec::new();
    let mut failed = 0;
    for kernel in kernels {
        match record(session, kernel) {
            Ok(record) => records.push((key(kernel), record)),
            Err(error) => {
                println!("kernel `{}`\n  FAIL {error}", kernel.signature.name);
                failed += 1;
            }
        }
    }
    file::write(path, &header(session), &records)?;
    let results: usize = records.iter().map(|(_, record)| record.results.len()).sum();
    println!("{results} results of {} kernels recorded in `{}`, {failed} failed", records.len(), path.display());
    Ok(failed == 0)
}

/// Module and name: two kernels may share a name.
fn key(kernel: &Declaration) -> String {
    format!("{}::{}", kernel.signature.module, kernel.signature.name)
}

/// Checks kernels on `backend`, against a record as well if there is one. `always` speaks of those without anything to check, too.
fn check_all(
    session: &mut Session,
    backend: Backend,
    kernels: &[&'static Declaration],
    reference: Option<&file::Records>,
    always: bool,
) -> Result<bool> {
    if let Some(reference) = reference {
        println!("against {}", reference.made_on);
    }
    let examine = |session: &mut Session, kernel| examine(session, backend, kernel, reference, always);
    let verdicts: Vec<(String, bool)> = match session.backend() {
        // A GPU runs one check after the other.
        Backend::Metal | Backend::Cuda => {
            let verdicts = kernels.iter().map(|kernel| examine(session, kernel));
            verdicts.inspect(|(text, _)| print!("{text}")).collect()
        }
        Backend::Cpu | Backend::Emulated => on_all_cores(kernels, examine)?,
    };
    let failed = verdicts.iter().filter(|(_, passed)| !passed).count();
    let unseen =
        if backend == Backend::Cpu { "; Metal sources were not run, as the cpu backend runs none" } else { "" };
    let kernels = kernels.len();
    println!("{kernels} {} checked, {failed} failed{unseen}", if kernels == 1 { "kernel" } else { "kernels" });
    Ok(failed == 0)
}

/// Returns what `examine` says of each kernel, printed in their order as soon as may be. A thread has a session of its
/// own.
fn on_all_cores(
    kernels: &[&'static Declaration],
    examine: impl Fn(&mut Session, &'static Declaration) -> (String, bool) + Sync,
) -> Result<Vec<(String, bool)>> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let work = |sender: mpsc::Sender<(usize, (String, bool))>| -> Result<()> {
        let mut session = Session::new()?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(kernel) = kernels.get(index) else { return Ok(()) };
            // Sending fails only if the printing thread has failed.
            let _ = sender.send((index, examine(&mut session, kernel)));
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers: Vec<_> = (0..cores.min(kernels.len()))
            .map(|_| {
                let sender = sender.clone();
                scope.spawn(|| work(sender))
            })
            .collect();
        drop(sender);
        let mut verdicts: Vec<Option<(String, bool)>> = vec![None; kernels.len()];
        let mut shown = 0;
        for (index, verdict) in receiver {
            verdicts[index] = Some(verdict);
            while let Some(Some((text, _))) = verdicts.get(shown) {
                print!("{text}");
                shown += 1;
            }
        }
        for worker in workers {
            match worker.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(verdicts.into_iter().flatten().collect())
    })
}

/// Returns what is said of one kernel, and whether all of it agreed.
fn examine(
    session: &mut Session,
    backend: Backend,
    kernel: &'static Declaration,
    reference: Option<&file::Records>,
    always: bool,
) -> (String, bool) {
    let name = kernel.signature.name;
    let (mut text, mut passed) = match check_on(backend, kernel) {
        // A backward is checked with its forward.
        Ok(_) if kernel.is_backward() => {
            let told = format!("kernel `{name}` has no gradient of its own to check\n");
            (if always && reference.is_none() { told } else { String::new() }, true)
        }
        // The backend does not run this kernel's source.
        Ok(report) if report.comparisons().is_empty() => (report.to_string(), true),
        Ok(report) => (report.to_string(), report.passed()),
        Err(error) => (format!("kernel `{name}`\n  FAIL {error}\n"), false),
    };
    if let Some(reference) = reference {
        match record(session, kernel).map(|found| compare(kernel, &found, reference.of(&key(kernel)))) {
            Ok(report) if report.comparisons().is_empty() && report.notes().is_empty() => {}
            Ok(report) => {
                text += &format!("against the record, {report}");
                passed &= report.passed();
            }
            Err(error) => {
                text += &format!("against the record, kernel `{name}`\n  FAIL {error}\n");
                passed = false;
            }
        }
    }
    (text, passed)
}

/// A record without anything, for kernels that a file does not have.
static NOTHING: Record = Record { results: Vec::new(), refused: Vec::new() };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_a_name_and_one_task_in_any_order() {
        let parse = |text: &str| Arguments::parse(text.split_whitespace().map(str::to_owned));
        let ok = |kernel: Option<&str>, task| Arguments { kernel: kernel.map(str::to_owned), task };
        for (text, expected) in [
            ("", ok(None, Task::Check)),
            ("mrope", ok(Some("mrope"), Task::Check)),
            ("--device mrope", ok(Some("mrope"), Task::Device)),
            ("mrope --against a", ok(Some("mrope"), Task::Against("a".into()))),
            ("--record a", ok(None, Task::Record("a".into()))),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for (text, expected) in [
            ("--record", "`--record` needs a file"),
            ("--devise", "unknown option `--devise`"),
            ("a b", "`b` is one name too many"),
            ("--device --record a", "only one of `--device`, `--against` and `--record` can be done at once"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }
}
