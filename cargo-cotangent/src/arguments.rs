//! Arguments that `cargo cotangent` and `cargo xtask` share, and how programs that link kernels get them.

use crate::setup::Build;
use clap::Args;
use std::ffi::OsString;

/// The MLX to set up.
#[derive(Args, Clone, Copy, Debug)]
pub struct Setup {
    /// Linux: set up MLX's CUDA build (87 MB), which needs an NVIDIA driver and CUDA 13's libraries
    #[arg(long)]
    cuda: bool,
    /// Linux: go back to MLX's CPU build. Without either, the build is the last one, at first the CPU's
    #[arg(long, conflicts_with = "cuda")]
    cpu: bool,
    /// Do it again, even if all is in place
    #[arg(long)]
    pub force: bool,
}

impl Setup {
    /// The build that is asked for; none to keep what there is.
    pub fn build(self) -> Option<Build> {
        if self.cuda { Some(Build::Cuda) } else { self.cpu.then_some(Build::Cpu) }
    }
}

/// The kernels to list, and the form of the list.
#[derive(Args, Clone, Debug)]
pub struct Kernels {
    /// The name of a kernel's function
    #[arg(conflicts_with = "names")]
    kernel: Option<OsString>,
    /// Print the names alone, one a line
    #[arg(long)]
    names: bool,
    /// Count the bytes of residuals at these sizes
    #[arg(long, value_name = "B=4,T=2048", conflicts_with = "names")]
    at: Option<OsString>,
    /// What dtype parameters stand for then: f32, bf16 or f16
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    dtype: OsString,
}

impl Kernels {
    /// Returns these arguments in the form that the program that lists kernels takes.
    pub fn passed_on(self) -> Vec<OsString> {
        if self.names {
            return vec!["--names".into()];
        }
        let mut arguments: Vec<OsString> = self.kernel.into_iter().collect();
        if let Some(at) = self.at {
            arguments.extend(["--at".into(), at, "--dtype".into(), self.dtype]);
        }
        arguments
    }
}

/// The kernels to check, and what they are compared with.
#[derive(Args, Clone, Debug)]
pub struct Check {
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
}

impl Check {
    /// Returns these arguments in the form that the program that checks takes.
    pub fn passed_on(self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = self.kernel.into_iter().collect();
        arguments.extend(self.device.then(|| "--device".into()));
        arguments.extend(self.against.into_iter().flat_map(|file| ["--against".into(), file]));
        arguments.extend(self.record.into_iter().flat_map(|file| ["--record".into(), file]));
        arguments
    }
}

/// The mistakes to make.
#[derive(Args, Clone, Debug)]
pub struct Mutate {
    /// Names of kernels, backwards or stages; all without
    kernels: Vec<OsString>,
    /// Make only mistakes in this line of a source, as survivors are printed with; can be repeated
    #[arg(long, value_name = "FILE:LINE")]
    at: Vec<OsString>,
    /// How many mistakes to make, one of every kind in every source first; all without
    #[arg(long, value_name = "COUNT")]
    sample: Option<OsString>,
    /// Seed of the choice among them
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    seed: OsString,
}

impl Mutate {
    /// Returns these arguments in the form that the program that makes mistakes takes.
    pub fn passed_on(self) -> Vec<OsString> {
        let mut arguments = self.kernels;
        arguments.extend(self.at.into_iter().flat_map(|line| ["--at".into(), line]));
        arguments.extend(self.sample.into_iter().flat_map(|count| ["--sample".into(), count]));
        arguments.extend(["--seed".into(), self.seed]);
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    enum Command {
        Kernels(Kernels),
        Check(Check),
        Mutate(Mutate),
    }

    #[test]
    fn programs_get_what_was_asked() {
        for (line, expected) in [
            ("kernels", ""),
            ("kernels --names", "--names"),
            ("kernels mrope --at B=4,T=2048 --dtype bf16", "mrope --at B=4,T=2048 --dtype bf16"),
            ("check", ""),
            ("check --device mrope", "mrope --device"),
            ("check --against file", "--against file"),
            ("check --record file mrope", "mrope --record file"),
            ("mutate", "--seed 1"),
            ("mutate a b --at a.rs:7 --sample 60 --seed 7", "a b --at a.rs:7 --sample 60 --seed 7"),
        ] {
            let command = Command::try_parse_from(std::iter::once("cargo cotangent").chain(line.split(' '))).unwrap();
            let arguments = match command {
                Command::Kernels(arguments) => arguments.passed_on(),
                Command::Check(arguments) => arguments.passed_on(),
                Command::Mutate(arguments) => arguments.passed_on(),
            };
            assert_eq!(arguments.join(" ".as_ref()), expected, "{line}");
        }
    }
}
