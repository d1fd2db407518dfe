//! The `cotangent` command.

mod command;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use cotangent_models::quoting::visible;
use cotangent_trainer::data::sandbox;

use command::Arguments;

fn main() -> ExitCode {
    if sandbox::is_requested() {
        return sandbox::serve();
    }
    cotangent::enter();
    if let Err(error) = sandbox::enable() {
        eprintln!("error: cannot find this program: {error}");
        return ExitCode::FAILURE;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return command::refuse(&error),
    };
    let code = match command::run(arguments) {
        Ok(code) => code,
        // The reader of the output has stopped, which is no error.
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) => {
            // The terminal may be closed.
            let _ = writeln!(io::stderr(), "error: {}", visible(&one_line_chain(&error)));
            1
        }
    };
    cotangent::leave(code)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}

/// An error and its causes. Some errors tell their cause themselves: it is not repeated.
fn one_line_chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_on_one_line_and_are_not_repeated() {
        let error = anyhow::anyhow!("no space").context("`a`: no space").context("cannot save");
        assert_eq!(one_line_chain(&error), "cannot save: `a`: no space");
    }
}
