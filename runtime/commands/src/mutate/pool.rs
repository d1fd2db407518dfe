//! Mutants side by side, each in a process of its own with a limit of time.

use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::encode;
use super::subjects::{Mutant, Subject};
use super::trial::Verdict;

/// The beginning of the line of a verdict.
pub const MARK: &str = "verdict: ";

/// Seconds of computing that one mutant may take: every kernel's own checks take a fraction of it.
const COMPUTING: u64 = 120;

/// The limit on its wall time: other processes may leave it little of the machine.
const LIMIT: Duration = Duration::from_secs(1200);

/// The signals with which the system ends a process that has computed for too long: SIGXCPU, or SIGKILL where it comes
/// first.
const OVER_LIMIT: [i32; 2] = [24, 9];

/// One mutant that is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The number of its subject.
    pub subject: usize,
    /// The mutant.
    pub mutant: Mutant,
}

/// The verdict on each trial, in their order, with what was printed of it.
///
/// # Errors
/// If a process cannot be started, or fails for another reason than its mutant.
pub fn run(subjects: &[Subject], trials: &[Trial]) -> Result<Vec<(Verdict, String)>> {
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(vec![None; trials.len()]);
    let work = || -> Result<()> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(trial) = trials.get(index) else { return Ok(()) };
            let verdict = try_one(&subjects[trial.subject], trial, scratch.path())?;
            verdicts.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(verdict);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<(), anyhow::Error>(())
    })?;
    let verdicts = verdicts.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(verdicts.into_iter().flatten().collect())
}

fn try_one(subject: &Subject, trial: &Trial, scratch: &Path) -> Result<(Verdict, String)> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -t {COMPUTING}; exec \"$0\" \"$@\"")])
        .arg(program)
        .arg("--trial")
        .args([trial.subject.to_string(), encode(subject, &trial.mutant)?])
        // Compiled mutants are written here, because they are not needed afterwards.
        .env("TMPDIR", scratch)
        .env("OPENBLAS_NUM_THREADS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start this program again")?;
    if !ended_within(&mut child, LIMIT)? {
        // The child may have ended in this moment.
        let _ = child.kill();
        child.wait().context("cannot wait for a mutant")?;
        return Ok((Verdict::Hang, format!("no end after {} seconds", LIMIT.as_secs())));
    }
    let status = child.wait().context("cannot wait for a mutant")?;
    let (mut text, mut errors) = (String::new(), String::new());
    if let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) {
        out.read_to_string(&mut text).context("cannot read what a mutant says")?;
        err.read_to_string(&mut errors).context("cannot read what a mutant says")?;
    }
    let line = text.lines().find_map(|line| line.strip_prefix(MARK));
    match line.and_then(|line| line.split_once('\t')).map(|(verdict, told)| (Verdict::parse(verdict), told)) {
        Some((Some(verdict), told)) => Ok((verdict, told.to_owned())),
        // The original fails, so its mutants cannot be judged.
        _ if status.code() == Some(1) => bail!("{}: {}", subject.describe(&trial.mutant), errors.trim()),
        _ if status.signal().is_some_and(|signal| OVER_LIMIT.contains(&signal)) => {
            Ok((Verdict::Hang, format!("no end after {COMPUTING} seconds of computing")))
        }
        _ => Ok((Verdict::Crash, format!("{status}: {}", errors.lines().next().unwrap_or_default()))),
    }
}

fn ended_within(child: &mut Child, limit: Duration) -> Result<bool> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if child.try_wait().context("cannot wait for a mutant")?.is_some() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}
