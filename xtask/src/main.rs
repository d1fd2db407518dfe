//! Set-up and the commands of the project: `cargo xtask --help` lists them.
//!
//! Must build before MLX is set up, so it depends on nothing that links MLX and runs everything else as a program.

mod explain;
mod kernels;
mod program;
mod project_program;
mod setup;
mod test;
mod workspace;

use clap::{Parser, Subcommand};
use project_program::{ProjectProgram, demo_arguments};
use setup::Build;
use std::ffi::OsString;
use std::io::{ErrorKind, Write, stdout};
use std::process::ExitCode;

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
    Setup {
        /// Linux: set up MLX's CUDA build (87 MB), which needs an NVIDIA driver and CUDA 13's libraries
        #[arg(long)]
        cuda: bool,
        /// Linux: go back to MLX's CPU build. Without either, the build is the last one, at first the CPU's
        #[arg(long, conflicts_with = "cuda")]
        cpu: bool,
        /// Do it again, even if all is in place
        #[arg(long)]
        force: bool,
    },
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
        /// Instead make so many steps on rows of random lengths, and fail if memory grows; prints a table
        #[arg(long, value_name = "STEPS")]
        random_lengths: Option<OsString>,
    },
    /// Check kernels at the sizes they declare: outputs, gradients, and on a GPU the emulator's results
    ///
    /// Runs on the backend that COTANGENT_BACKEND names. All comparisons are printed; a deviation past its bound is a
    /// failure.
    Check {
        /// The name of the kernel's function; all kernels without one
        kernel: Option<OsString>,
        /// Hold a GPU's results against the emulator's, which are computed here
        #[arg(long, conflicts_with_all = ["against", "record"])]
        device: bool,
        /// Hold results against those that another machine recorded
        #[arg(long, value_name = "FILE", conflicts_with = "record")]
        against: Option<OsString>,
        /// Write results into a file, for another machine, instead of checking them
        #[arg(long, value_name = "FILE")]
        record: Option<OsString>,
    },
    /// Make mistakes in the kernels' gradients, and count those that their generated checks miss
    ///
    /// A mistake is a sign, a term, an index, a port, a forgotten scalar, a dropped barrier …, in the source of a backward or
    /// a stage, in a Rust body, or in what a forward saves. Each runs in a process of its own, with the checks that `cargo
    /// test` makes and no others. What survives is held against the original on inputs that no check uses.
    Mutate {
        /// Names of kernels, backwards or stages; all without
        kernels: Vec<OsString>,
        /// How many mistakes to make, one of every kind in every source first; all without
        #[arg(long, value_name = "COUNT")]
        sample: Option<OsString>,
        /// Which of them
        #[arg(long, value_name = "NUMBER", default_value = "1")]
        seed: OsString,
    },
    /// Run MLX's kernels as Apple's compiler made them, beside their sources in the emulator
    ///
    /// Needs LLVM 19, but neither MLX nor a Mac. Downloads MLX's package for macOS (45 MB) once, into `target/apple`.
    Apple {
        /// Arguments of `cotangent-apple`: names of kernels, or `--help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// List the kernels: gradients, where they run, determinism, test cases, what checks them, requirements, residuals
    ///
    /// Backwards and stages stand beneath their forwards. With the name of a kernel: everything about that one.
    Kernels {
        /// The name of a kernel's function
        #[arg(conflicts_with = "names")]
        kernel: Option<String>,
        /// Print the names alone, one a line
        #[arg(long)]
        names: bool,
        /// Count the bytes of residuals at these sizes
        #[arg(long, value_name = "B=4,T=2048", conflicts_with = "names")]
        at: Option<String>,
        /// What dtype parameters stand for then: f32, bf16 or f16
        #[arg(long, value_name = "DTYPE", default_value = "f32")]
        dtype: String,
    },
    /// Show what a kernel's attribute generates: Rust, and the texts for Metal and CUDA
    ///
    /// Reads the sources, so it works before MLX is set up and while other code does not compile.
    Expand {
        /// The name of the kernel's function
        kernel: String,
        /// Print what CUDA gets at the kernel's first case instead: the Metal text, translated, unless there is one of its own
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
    /// Write xtask/mlx/bindings.rs again, for another version of mlx-sys
    #[cfg(feature = "bindgen")]
    Bindings,
}

fn main() -> ExitCode {
    run(Arguments::parse().command).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        for cause in error.chain().skip(1) {
            eprintln!("  because: {cause}");
        }
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let root = workspace::root()?;
    match command {
        Command::Setup { cuda, cpu, force } => {
            let build = if cuda { Some(Build::Cuda) } else { cpu.then_some(Build::Cpu) };
            setup::set_up(&root, build, force).map(|()| ExitCode::SUCCESS)
        }
        Command::Test => test::run(&root),
        Command::Demo { arguments } => ProjectProgram::DEMO.run(&root, &demo_arguments(&root, arguments)),
        Command::Parity { folder } => ProjectProgram::PARITY.run(&root, &[folder]),
        Command::Bench { configuration, random_lengths } => {
            let mut arguments = vec![configuration];
            arguments.extend(random_lengths.into_iter().flat_map(|steps| ["--random-lengths".into(), steps]));
            ProjectProgram::BENCH.run(&root, &arguments)
        }
        Command::Check { kernel, device, against, record } => {
            let mut arguments: Vec<OsString> = kernel.into_iter().collect();
            arguments.extend(device.then(|| "--device".into()));
            arguments.extend(against.into_iter().flat_map(|file| ["--against".into(), file]));
            arguments.extend(record.into_iter().flat_map(|file| ["--record".into(), file]));
            ProjectProgram::CHECK.run(&root, &arguments)
        }
        Command::Mutate { kernels, sample, seed } => {
            let mut arguments = kernels;
            arguments.extend(sample.into_iter().flat_map(|count| ["--sample".into(), count]));
            arguments.extend(["--seed".into(), seed]);
            ProjectProgram::MUTATE.run(&root, &arguments)
        }
        Command::Apple { arguments } => {
            let cache: [OsString; 2] = ["--cache".into(), root.join("target/apple").into()];
            ProjectProgram::APPLE.run(&root, &[&cache, arguments.as_slice()].concat())
        }
        Command::Kernels { kernel, names, at, dtype } => {
            ProjectProgram::KERNELS.run(&root, &kernels::list_arguments(kernel, names, at, dtype))
        }
        Command::Expand { kernel, cuda: true } => ProjectProgram::KERNELS.run(&root, &["--cuda".into(), kernel.into()]),
        Command::Expand { kernel, cuda: false } => print(&kernels::expand(&root, &kernel)?),
        Command::Explain { write: true, .. } => explain::write_pages(&root).map(|()| ExitCode::SUCCESS),
        Command::Explain { code, write: false } => print(&explain::text(code.as_deref())?),
        #[cfg(feature = "bindgen")]
        Command::Bindings => setup::bindings::write(&root).map(|()| ExitCode::SUCCESS),
    }
}

/// Writes to standard output. A reader that stops, such as `head`, has seen enough.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    match stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
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
