//! Set-up and the commands of the project: `cargo xtask --help` lists them.
//!
//! Must build before MLX is set up, so it depends on nothing that links MLX and runs everything else as a program.

mod dist;
mod error_pages;
mod project_program;
mod test;
mod workspace;

use cargo_cotangent::{arguments, expand, explain, program, setup};
use clap::{Parser, Subcommand};
use project_program::{ProjectProgram, demo_arguments};
use std::ffi::OsString;
use std::process::ExitCode;

/// The command that a person types.
const CALLER: &str = "cargo xtask";

/// The crates whose kernels are the project's; tests have kernels too, some of them wrong on purpose.
const CRATES: [&str; 3] = ["kernels", "examples", "models"];

/// Set-up and the commands of the project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make MLX available to this checkout
    ///
    /// On Linux: downloads MLX (10 MB) and OpenBLAS (8 MB), compiles MLX's C interface, and tells Cargo where they are.
    /// Everything goes into `.mlx`; plain `cargo build`, `cargo test` and editors work afterwards. On macOS, where Cargo
    /// builds MLX itself: checks for the tools this takes. Does nothing when all is in place.
    Setup(arguments::Setup),
    /// Run all checks: formatting, clippy, tests, documentation
    ///
    /// Sets MLX up first if need be. All checks run even if one fails. The last line counts the tests.
    Test,
    /// Fine-tune a tiny model on data that comes with the project
    ///
    /// Needs no network and no GPU. Arguments are passed on to `cotangent demo`.
    Demo {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Compare logits, losses and gradients with another implementation's
    Parity {
        /// The folder with a checkpoint and the other implementation's results
        #[arg(value_name = "DIR")]
        folder: OsString,
    },
    /// Time training steps; writes JSON to standard output
    Bench {
        /// What to time
        #[arg(value_name = "CONFIG.json")]
        configuration: OsString,
        /// Instead make this many steps on rows of random lengths, and fail if memory grows; prints a table
        #[arg(long, value_name = "STEPS", conflicts_with_all = ["record", "against"])]
        random_lengths: Option<OsString>,
        /// Instead write the loss and the gradients of one step into a file, for another backend
        #[arg(long, value_name = "FILE", conflicts_with = "against")]
        record: Option<OsString>,
        /// Instead compare the loss and the gradients of one step with those that another backend recorded
        #[arg(long, value_name = "FILE")]
        against: Option<OsString>,
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
    /// Run MLX's kernels as Apple's compiler made them, beside their sources in the emulator
    ///
    /// Needs LLVM 19, but neither MLX nor a Mac. Downloads MLX's package for macOS (45 MB) once, into `target/apple`.
    Apple {
        /// Instead compile the project's own kernels with clang, in C++ for OpenCL, and compare: needs MLX, no download
        #[arg(long)]
        own: bool,
        /// Arguments of `cotangent-apple`: names of kernels, or `--help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
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
    /// Make an archive with the `cotangent` program that runs on Linux without Rust, Python or a compiler
    ///
    /// MLX's libraries and the licences of all that is inside lie beside the program. The archive is put into `target/dist`; its
    /// size and the version of glibc that it needs are printed.
    Dist {
        /// With MLX's CUDA build: needs an NVIDIA driver and CUDA 13's libraries where it runs, not here
        #[arg(long)]
        cuda: bool,
    },
    /// Explain a failure by the code in its message
    Explain {
        /// Such as C03; all codes are listed without one
        code: Option<String>,
        /// Write the pages in docs/errors from the catalogue
        #[arg(long, conflicts_with = "code")]
        write: bool,
    },
    /// Write cargo-cotangent/mlx/bindings.rs again, for another version of mlx-sys
    #[cfg(feature = "bindgen")]
    Bindings,
}

fn main() -> ExitCode {
    run(Arguments::parse().command).unwrap_or_else(|error| {
        program::report(&error);
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let root = workspace::root()?;
    match command {
        Command::Setup(arguments) => {
            setup::set_up(&root, arguments.build(), arguments.force).map(|()| ExitCode::SUCCESS)
        }
        Command::Test => test::run(&root),
        Command::Demo { arguments } => ProjectProgram::DEMO.run(&root, &demo_arguments(&root, arguments)),
        Command::Parity { folder } => ProjectProgram::PARITY.run(&root, &[folder]),
        Command::Bench { configuration, random_lengths, record, against } => {
            let options = [("--random-lengths", random_lengths), ("--record", record), ("--against", against)];
            let given = options.into_iter().filter_map(|(name, value)| Some([name.into(), value?]));
            let arguments: Vec<OsString> = std::iter::once(configuration).chain(given.flatten()).collect();
            ProjectProgram::BENCH.run(&root, &arguments)
        }
        Command::Check(arguments) => ProjectProgram::CHECK.run(&root, &arguments.passed_on()),
        Command::Mutate(arguments) => ProjectProgram::MUTATE.run(&root, &arguments.passed_on()),
        Command::Apple { own, arguments } => {
            let cache: [OsString; 2] = ["--cache".into(), root.join("target/apple").into()];
            let program = if own { ProjectProgram::COMPILED } else { ProjectProgram::APPLE };
            program.run(&root, &[&cache, arguments.as_slice()].concat())
        }
        Command::Kernels(arguments) => ProjectProgram::KERNELS.run(&root, &arguments.passed_on()),
        Command::Expand { kernel, cuda: true } => ProjectProgram::KERNELS.run(&root, &["--cuda".into(), kernel.into()]),
        Command::Expand { kernel, cuda: false } => {
            let folders = CRATES.map(|folder| root.join(folder).join("src"));
            program::print(&expand::expand(&root, &folders, &kernel, CALLER)?)
        }
        Command::Dist { cuda } => dist::run(&root, cuda),
        Command::Explain { write: true, .. } => error_pages::write(&root).map(|()| ExitCode::SUCCESS),
        Command::Explain { code, write: false } => program::print(&explain::text(code.as_deref(), CALLER)?),
        #[cfg(feature = "bindgen")]
        Command::Bindings => setup::bindings::write(&root).map(|()| ExitCode::SUCCESS),
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

    #[test]
    fn arguments_of_a_project_program_are_passed_on_untouched() {
        let parsed = Arguments::try_parse_from(["cargo xtask", "demo", "--output", "elsewhere", "--seed=3"]).unwrap();
        let Command::Demo { arguments } = parsed.command else { panic!("another command") };
        assert_eq!(arguments, ["--output", "elsewhere", "--seed=3"]);
    }
}
