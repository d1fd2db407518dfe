//! The program `cargo cotangent`, whose `--help` lists its commands.

use cargo_cotangent::project::Project;
use cargo_cotangent::{arguments, expand, explain, linked, program, setup};
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// The command that a person types.
const CALLER: &str = "cargo cotangent";

/// Set-up of MLX, and what authors of kernels run, in any crate that depends on `cotangent`.
///
/// Commands are about the package in whose folder they run; at the root of a workspace, about all its packages.
#[derive(Parser)]
#[command(
    name = "cargo cotangent",
    bin_name = "cargo cotangent",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make MLX available to this crate
    ///
    /// On Linux: takes the MLX of the checkout of Cotangent that the crate depends on, which is set up if need be, or else
    /// downloads MLX (10 MB) and OpenBLAS (8 MB) into `.mlx`; and tells Cargo where it is, in `.cargo/config.toml`. Plain `cargo
    /// build`, `cargo test` and editors work afterwards. On macOS, where Cargo builds MLX itself: checks for the tools this
    /// takes.
    Setup(arguments::Setup),
    /// List the kernels: gradients, where they run, determinism, test cases, what checks them, requirements, residuals
    ///
    /// Backwards and stages stand beneath their forwards. With the name of a kernel: everything about that one.
    Kernels(arguments::Kernels),
    /// Show what a kernel's attribute generates: Rust, and the texts for Metal and CUDA
    ///
    /// Reads the sources, so it works before MLX is set up and while other code does not compile.
    Expand {
        /// The name of the kernel's function
        kernel: String,
        /// Print what CUDA gets at the kernel's first case instead: the Metal source, translated, unless there is one of its own
        #[arg(long)]
        cuda: bool,
    },
    /// Explain a failure by the code in its message
    Explain {
        /// Such as C03; all codes are listed without one
        code: Option<String>,
    },
    /// Check kernels at the sizes they declare: outputs, gradients, and on a GPU the emulator's results
    ///
    /// Runs on the backend that COTANGENT_BACKEND names, else on a GPU, else in the emulator. All comparisons are printed, each with
    /// its deviation and the bound; a deviation past its bound is a failure.
    Check(arguments::Check),
    /// Make mistakes in the kernels' gradients, and count those that their generated checks miss
    ///
    /// A mistake is a sign, a term, an index, a port, a forgotten scalar, a dropped barrier …, in the source of a backward or
    /// a stage, in a Rust body, or in what a forward saves. Each runs in a process of its own, with the checks that `cargo
    /// test` makes and no others. What survives is compared with the original on inputs that no check uses.
    Mutate(arguments::Mutate),
}

fn main() -> ExitCode {
    let mut line: Vec<OsString> = std::env::args_os().collect();
    // Cargo passes the name of the command as the first argument.
    if line.get(1).is_some_and(|word| word == "cotangent") {
        line.remove(1);
    }
    run(Arguments::parse_from(line).command).unwrap_or_else(|error| {
        program::report(&error);
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let here = Path::new(".");
    match command {
        Command::Setup(arguments) => {
            setup::set_up_project(here, arguments.build(), arguments.force).map(|()| ExitCode::SUCCESS)
        }
        Command::Explain { code } => program::print(&explain::text(code.as_deref(), CALLER)?),
        Command::Expand { kernel, cuda: false } => {
            let project = Project::at(here)?;
            program::print(&expand::expand(&project.root, &project.sources(), &kernel, CALLER)?)
        }
        Command::Expand { kernel, cuda: true } => {
            linked::run(&Project::at(here)?, "kernels", &["--cuda".into(), kernel.into()], CALLER)
        }
        Command::Kernels(arguments) => linked::run(&Project::at(here)?, "kernels", &arguments.passed_on(), CALLER),
        Command::Check(arguments) => linked::run(&Project::at(here)?, "check", &arguments.passed_on(), CALLER),
        Command::Mutate(arguments) => linked::run(&Project::at(here)?, "mutate", &arguments.passed_on(), CALLER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
