//! The process in which foreign templates and tokenizers run.
//!
//! Both are programs: a template computes, and a tokenizer runs regular expressions and merges. A damaged or hostile
//! one never ends, takes all memory, or overflows the stack, which nothing in the same process can survive. So the
//! program `cotangent` runs them in a second process of itself with limits on computing time and memory, and reports in
//! a sentence how that process ended. Programs that use the library and do not call [`enable`] run them in their own
//! process.

mod encoding;
mod limits;
mod operation;
mod process;

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{panic, thread};

pub(super) use operation::{Answer, Operation};

use operation::Operator;
use process::Process;

/// The argument that asks the program for its second process.
const ARGUMENT: &str = "--sandbox";

/// Enough for the deepest nesting that minijinja allows, in a build without optimisation.
const STACK_BYTES: usize = 64 << 20;

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Makes templates and tokenizers run in a process of this program from now on. The program's `main` has to begin with
/// [`is_requested`] and [`serve`].
///
/// # Errors
/// If the system does not say where the program is.
pub fn enable() -> io::Result<()> {
    let program = std::env::current_exe()?;
    PROGRAM.get_or_init(|| program);
    Ok(())
}

/// Returns whether this process is the second one.
pub fn is_requested() -> bool {
    std::env::args_os().nth(1).is_some_and(|argument| argument == ARGUMENT)
}

/// Answers operations, one JSON value on a line, until standard input ends.
pub fn serve() -> ExitCode {
    limits::set();
    // A panic becomes an answer, so its message is not printed.
    panic::set_hook(Box::new(|_| {}));
    let served = thread::Builder::new().stack_size(STACK_BYTES).spawn(answer_all).map(thread::JoinHandle::join);
    match served {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn answer_all() -> io::Result<()> {
    let mut operator = Operator::default();
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let operation: Operation = serde_json::from_str(&line?)?;
        limits::allow_seconds(operation.seconds());
        serde_json::to_writer(&mut out, &operator.answer(&operation))?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

/// One template or one tokenizer.
#[derive(Debug)]
pub(super) struct Sandbox {
    place: Mutex<Place>,
}

#[derive(Debug)]
enum Place {
    /// The operator runs in this process.
    Here(Box<Operator>),
    /// The operator runs in a process of its own.
    Apart(Process),
    /// The operator has ended, for this reason.
    Ended(String),
}

impl Sandbox {
    /// Opens an empty sandbox.
    pub(super) fn open() -> Self {
        let place = match PROGRAM.get() {
            None => Place::Here(Box::default()),
            Some(program) => match Process::start(program) {
                Ok(process) => Place::Apart(process),
                Err(error) => Place::Ended(format!("cannot run in a process of its own: {error}")),
            },
        };
        Self { place: Mutex::new(place) }
    }

    /// Does `operation`; an error says why not, and may follow the words `the template` or `the tokenizer`.
    pub(super) fn ask(&self, operation: &Operation) -> Result<Answer, String> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = match &mut *place {
            Place::Here(operator) => return operator.answer(operation),
            Place::Ended(reason) => return Err(reason.clone()),
            Place::Apart(process) => match process.ask(operation) {
                Ok(answer) => return answer,
                Err(reason) => reason,
            },
        };
        *place = Place::Ended(ended.clone());
        Err(ended)
    }
}
