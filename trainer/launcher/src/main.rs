//! `bin/cotangent` in the archive for CUDA.

use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let error = match start() {
        Ok(mut command) => {
            let mut arguments = std::env::args_os();
            // The program calls itself by this name where it says how to run it.
            command.arg0(arguments.next().unwrap_or_else(|| "cotangent".into()));
            // `exec` returns only if it fails.
            command.args(arguments).exec().to_string()
        }
        Err(error) => error,
    };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn start() -> Result<std::process::Command, String> {
    let own = std::env::current_exe().map_err(|error| format!("cannot find this program's own file: {error}"))?;
    let folder = own.parent().and_then(|bin| bin.parent()).ok_or("this program lies in no folder `bin`")?;
    cotangent_launcher::command(&folder.join("lib"), |name| std::env::var_os(name))
}
