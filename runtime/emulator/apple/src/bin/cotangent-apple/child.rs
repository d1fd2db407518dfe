//! Runs compiled code in a process of its own, because it can overwrite the stack that it runs on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cotangent_apple::Workshop;
use cotangent_apple::lower::{Options, Source};
use cotangent_emulator::{BoundLaunch, Schedule};

use crate::case::Case;

/// The file in which that process finds the kernel's bitcode.
const MODULE: &str = "module.bc";

/// The time that the launches of one kernel may take together.
const PATIENCE: Duration = Duration::from_secs(240);

/// The way in which a launch of a compiled kernel is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    pub contract: bool,
    pub reversed: bool,
}

pub const MODES: [Mode; 3] = [
    Mode { contract: false, reversed: false },
    Mode { contract: true, reversed: false },
    Mode { contract: false, reversed: true },
];

impl Mode {
    fn file(self, folder: &Path, launch: usize) -> PathBuf {
        let contract = if self.contract { "contracted" } else { "plain" };
        folder.join(format!("{contract}-{}-{launch}", if self.reversed { "reversed" } else { "forward" }))
    }

    /// The launch in this mode.
    pub fn of<'a>(self, launch: &BoundLaunch<'a>) -> BoundLaunch<'a> {
        let schedule = if self.reversed { Schedule::Reversed } else { Schedule::Forward };
        BoundLaunch { schedule, ..launch.clone() }
    }
}

/// The results of a launch: buffers that could be written, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    pub buffers: Vec<(u32, Vec<u8>)>,
    pub findings: Vec<String>,
}

/// The facts about a compiled kernel.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// A result for each mode and launch that ended.
    pub left: Vec<(Mode, usize, Left)>,
    /// Products that are added.
    pub contractions: usize,
    /// The sources of results that take part.
    pub shared: Vec<Source>,
    /// The reason why there is no further result.
    pub failure: Option<String>,
}

impl Compiled {
    /// Returns the results of a launch, if it ended.
    pub fn of(&self, mode: Mode, launch: usize) -> Option<&Left> {
        self.left.iter().find(|(m, l, _)| (*m, *l) == (mode, launch)).map(|(.., left)| left)
    }
}

/// Runs all launches of a case in a process of its own.
pub fn run(case: &Case, cache: &Path, bitcode: &[u8]) -> Result<Compiled> {
    let folder = cache.join("runs").join(&case.kernel);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(MODULE), bitcode)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--cache").arg(cache).arg("--child").arg(&case.kernel).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start the process for compiled code")?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut compiled = Compiled::default();
    let facts = fs::read_to_string(folder.join("facts")).unwrap_or_default();
    for line in facts.lines() {
        match line {
            "library" => compiled.shared.push(Source::Library),
            "lanes" => compiled.shared.push(Source::Lanes),
            "matrix" => compiled.shared.push(Source::Matrix),
            count => compiled.contractions = count.parse().unwrap_or_default(),
        }
    }
    for mode in MODES {
        for launch in 0..case.launches.len() {
            if let Ok(bytes) = fs::read(mode.file(&folder, launch)) {
                let left = decode(&bytes).context("the process for compiled code left a damaged file")?;
                compiled.left.push((mode, launch, left));
            }
        }
    }
    compiled.failure = match status {
        Some(status) if status.success() => None,
        Some(_) => {
            let mut said = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                std::io::Read::read_to_string(&mut stderr, &mut said)?;
            }
            let said = said.trim().trim_start_matches("error: ").lines().take(4).collect::<Vec<_>>().join(" ");
            Some(if said.is_empty() { status.map_or_else(String::new, |s| format!("ended by {s}")) } else { said })
        }
        None => Some(format!("still running after {} seconds", PATIENCE.as_secs())),
    };
    Ok(compiled)
}

/// The work of that process: files in the case's folder, one a launch.
pub fn work(case: &Case, cache: &Path, workshop: &Workshop<'_>) -> Result<()> {
    let folder = cache.join("runs").join(&case.kernel);
    let module = workshop.llvm().disassemble(&fs::read(folder.join(MODULE))?)?;
    for contract in [false, true] {
        let options = Options { contract, constants: case.constants.iter().copied().collect() };
        let kernel = workshop.kernel(&case.kernel, &module, &options)?;
        if contract && kernel.lowered.contractions == 0 {
            break;
        }
        let mut facts = format!("{}\n", kernel.lowered.contractions);
        for source in &kernel.lowered.sources {
            facts += match source {
                Source::Instruction => "",
                Source::Library => "library\n",
                Source::Lanes => "lanes\n",
                Source::Matrix => "matrix\n",
            };
        }
        fs::write(folder.join("facts"), facts)?;
        for mode in MODES.into_iter().filter(|mode| mode.contract == contract) {
            for (number, launch) in case.launches.iter().enumerate() {
                let run = workshop.emulator().run_object(&kernel.object, &mode.of(launch))?;
                let findings = run.findings.iter().map(|finding| finding.to_string().replace('\n', " ")).collect();
                fs::write(mode.file(&folder, number), encode(&Left { buffers: run.buffers, findings }))?;
            }
        }
    }
    Ok(())
}

fn encode(left: &Left) -> Vec<u8> {
    let mut bytes = (left.buffers.len() as u32).to_le_bytes().to_vec();
    for (index, buffer) in &left.buffers {
        bytes.extend(index.to_le_bytes());
        bytes.extend((buffer.len() as u64).to_le_bytes());
        bytes.extend(buffer);
    }
    bytes.extend(left.findings.join("\n").bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Left> {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |all, &byte| all << 8 | u64::from(byte));
    let (count, mut rest) = bytes.split_at_checked(4)?;
    let mut left = Left::default();
    for _ in 0..number(count) {
        let (index, behind) = rest.split_at_checked(4)?;
        let (length, behind) = behind.split_at_checked(8)?;
        let (buffer, behind) = behind.split_at_checked(usize::try_from(number(length)).ok()?)?;
        left.buffers.push((u32::try_from(number(index)).ok()?, buffer.to_vec()));
        rest = behind;
    }
    let findings = String::from_utf8_lossy(rest);
    left.findings = findings.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    Some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_launch_left_survives_its_file() {
        let left = Left { buffers: vec![(3, vec![1, 2]), (7, Vec::new())], findings: vec!["a".into(), "b c".into()] };
        assert_eq!(decode(&encode(&left)), Some(left.clone()));
        assert_eq!(decode(&encode(&left)[..9]), None);
    }
}
