//! A run that is killed at random moments, and goes on each time, leaves what an undisturbed run leaves: the same files byte for
//! byte, and the same losses in its log.
//!
//!     KILLS=20 cargo test -p cotangent-trainer --test kills -- --ignored --nocapture
//!
//! `KILLS` is the number of kills (20 if it is not given), `SEED` draws the moments (the time of day if it is not given). The seed
//! is printed.

mod program;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cotangent_models::checkpoint::SafetensorsFile;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use program::{TRAIN, cotangent, workplace};

/// Saves, reports and validations fall on different iterations, so that some of each are lost at a kill and repeated.
const RUN: &str = "--iters 24 --batch-size 2 --learning-rate 1e-3 --schedule cosine --warmup 3 --rank 4 --save-every 2 \
                   --steps-per-report 3 --steps-per-eval 5 --val-batches -1 --log-json log.jsonl";

const STATE: &str = "out/training_state.safetensors";

/// The signal that ends a process at once, which no program can handle.
const SIGKILL: i32 = 9;

fn from_environment(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}: found `{text}`, expected a whole number")),
        Err(_) => default,
    }
}

/// The command that begins the run in `dir`, or goes on with it once it has saved.
fn next_part(dir: &Path) -> Command {
    let how = match dir.join(STATE).exists() {
        true => "--resume",
        // A kill before the end of the first save may leave an adapter alone.
        false => "--overwrite",
    };
    cotangent(dir, &format!("{TRAIN} {RUN} {how}"))
}

/// Runs the command to its end, or kills it after `patience`. Returns whether it was killed.
fn is_killed(mut command: Command, patience: Option<Duration>) -> bool {
    let begin = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while let Some(patience) = patience
        && child.try_wait().unwrap().is_none()
    {
        if begin.elapsed() >= patience {
            child.kill().unwrap();
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().unwrap();
    let is_killed = output.status.signal() == Some(SIGKILL);
    assert!(is_killed || output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    is_killed
}

/// The files of the run in `dir`, by name.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir.join("out")).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// What the log says of losses: iterations, and the bits of what was measured.
fn losses(dir: &Path) -> Vec<(u64, &'static str, u64)> {
    let text = fs::read_to_string(dir.join("log.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}")));
    let loss = |line: Value| {
        let key = ["train_loss", "val_loss"].into_iter().find(|key| line.get(*key).is_some()).unwrap();
        (line["iteration"].as_u64().unwrap(), key, line[key].as_f64().unwrap().to_bits())
    };
    lines.map(loss).collect()
}

/// Every file that carries its own name is whole, at every moment.
fn assert_whole(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir.join("out")) else { return };
    for file in entries.map(|entry| entry.unwrap().path()) {
        let is_temporary = file.file_name().unwrap().to_string_lossy().starts_with('.');
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") if !is_temporary => drop(SafetensorsFile::open(&file).unwrap()),
            Some("json") if !is_temporary => drop(serde_json::from_slice::<Value>(&fs::read(&file).unwrap()).unwrap()),
            _ => assert!(is_temporary, "{file:?} was left behind"),
        }
    }
}

#[test]
#[ignore = "takes minutes"]
fn a_run_that_is_killed_goes_on_as_if_it_had_not_been() {
    let kills = from_environment("KILLS", 20);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = from_environment("SEED", now.as_secs());
    println!("KILLS={kills} SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);

    let undisturbed = workplace();
    let begin = Instant::now();
    assert!(!is_killed(next_part(undisturbed.path()), None));
    let mut duration = begin.elapsed();
    let (expected, expected_losses) = (files(undisturbed.path()), losses(undisturbed.path()));

    let (mut done, mut runs, mut before_a_save) = (0, 0, 0);
    while done < kills {
        let disturbed = workplace();
        let dir = disturbed.path();
        loop {
            let patience = (done < kills).then(|| duration.mul_f64(random.random_range(0.0..1.0)));
            let (resumed, begin) = (dir.join(STATE).exists(), Instant::now());
            if !is_killed(next_part(dir), patience) {
                // Other programs may have slowed down the run that was measured first.
                duration = if resumed { duration } else { duration.min(begin.elapsed()) };
                break;
            }
            assert_whole(dir);
            done += 1;
            before_a_save += u64::from(!resumed && !dir.join(STATE).exists());
        }
        runs += 1;
        let found = files(dir);
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected));
        for (name, bytes) in &expected {
            assert!(found[name] == *bytes, "`{name}` differs, after {done} kills");
        }
        assert_eq!(losses(dir), expected_losses, "after {done} kills");
    }
    println!("{done} kills in {runs} runs, {before_a_save} of them before a run had saved");
}
