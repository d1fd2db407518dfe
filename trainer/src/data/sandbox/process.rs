//! The second process, seen from the first.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use signal_hook::consts::{SIGKILL, SIGXCPU};

use super::limits::MEMORY_BYTES;
use super::{ARGUMENT, Answer, Operation};

/// An answer cannot be longer than the memory that the second process has for it.
const LONGEST_ANSWER: u64 = MEMORY_BYTES;

/// A running second process.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    operations: BufWriter<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// Starts `program` as the second process.
    pub(super) fn start(program: &Path) -> io::Result<Self> {
        let mut child = Command::new(program)
            .arg(ARGUMENT)
            // The process multiplies no matrices, and each of these threads would count as memory.
            .env("OPENBLAS_NUM_THREADS", "1")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the first process, which may have to run on for a while.
            .process_group(0)
            .spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("it has no standard input and output"));
        };
        Ok(Self { child, operations: BufWriter::new(stdin), answers: BufReader::new(stdout) })
    }

    /// The answer to `operation`, or how the process ended over it.
    pub(super) fn ask(&mut self, operation: &Operation) -> Result<Result<Answer, String>, String> {
        self.exchange(operation).map_err(|_| self.how_it_ended(operation.seconds()))
    }

    /// An error if the process ended instead.
    fn exchange(&mut self, operation: &Operation) -> io::Result<Result<Answer, String>> {
        serde_json::to_writer(&mut self.operations, operation)?;
        self.operations.write_all(b"\n")?;
        self.operations.flush()?;
        // Answers are read value by value, because one may have millions of tokens.
        let mut answers = serde_json::Deserializer::from_reader((&mut self.answers).take(LONGEST_ANSWER));
        Ok(Result::deserialize(&mut answers)?)
    }

    fn how_it_ended(&mut self, seconds: u64) -> String {
        let Ok(status) = self.child.wait() else {
            return "ended in an unknown way".into();
        };
        let mut said = Vec::new();
        if let Some(stderr) = self.child.stderr.take() {
            let _ = stderr.take(64 << 10).read_to_end(&mut said);
        }
        let said = String::from_utf8_lossy(&said);
        // Rust's runtime prints these words.
        if said.contains("memory allocation of") || status.signal() == Some(SIGKILL) {
            format!("takes more than {} GiB of memory", MEMORY_BYTES >> 30)
        } else if said.contains("overflowed its stack") {
            "nests values too deeply".into()
        } else if status.signal() == Some(SIGXCPU) {
            format!("does not end within {seconds} seconds of computing")
        } else {
            format!("breaks the program that runs it ({status})")
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
