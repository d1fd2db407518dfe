//! Set-up and the commands of the project: `cargo xtask --help` lists them.
//!
//! Must build before MLX is set up, so it depends on nothing that links MLX and runs everything else as a program.

mod program;
mod setup;
mod workspace;

use clap::{Parser, Subcommand};
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
        /// Do it again, even if all is in place
        #[arg(long)]
        force: bool,
    },
    /// Write xtask/mlx/bindings.rs anew, for another version of mlx-sys
    #[cfg(feature = "bindgen")]
    Bindings,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let root = workspace::root()?;
    match command {
        Command::Setup { force } => setup::set_up(&root, force),
        #[cfg(feature = "bindgen")]
        Command::Bindings => setup::bindings::write(&root),
    }
}
