//! Runs other programs, and reports what went wrong.

use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _, stdout};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

/// Lines of a failed program's output worth showing: compilers put the cause first and repeat themselves afterwards.
const SHOWN_LINES: usize = 20;

/// Runs `command` to its end and returns what it wrote to its standard output.
///
/// # Errors
/// If it cannot be started, or fails: the message quotes what it wrote.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
    if !output.status.success() {
        let mut message = format!("`{}` failed ({})", describe(command), output.status);
        let both = [output.stderr, output.stdout].concat();
        for line in String::from_utf8_lossy(&both).lines().filter(|line| !line.trim().is_empty()).take(SHOWN_LINES) {
            write!(message, "\n    {line}")?;
        }
        bail!(message);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` wrote something that is not UTF-8", describe(command)))
}

/// Runs `command` to its end with the standard streams of this program, and returns its exit code.
///
/// # Errors
/// If it cannot be started.
pub fn pass_through(command: &mut Command) -> Result<ExitCode> {
    let status = command.status().with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The command as a person would type it, cut where it gets long.
pub fn describe(command: &Command) -> String {
    let mut text = command.get_program().display().to_string();
    for argument in command.get_args() {
        if text.len() > 120 {
            text.push_str(" …");
            break;
        }
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Writes to standard output. A reader that stops, such as `head`, has seen enough.
///
/// # Errors
/// If standard output cannot be written to.
pub fn print(text: &str) -> Result<ExitCode> {
    match stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Says on standard error what went wrong, and because of what.
pub fn report(error: &anyhow::Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}

/// Returns where `program` lies, if it is on the `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_quoted() {
        let error = output(Command::new("sh").args(["-c", "echo no such wheel >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("\n    no such wheel"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output(&mut Command::new("a-program-that-is-not-there")).unwrap_err().to_string();
        assert_eq!(error, "cannot start `a-program-that-is-not-there`");
    }
}
