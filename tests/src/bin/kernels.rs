//! `cargo xtask kernels`: the table of all kernels, from the registry; all about one; or the CUDA text of one.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use cotangent_tests::kernel_table::{self, Sizes};

const USAGE: &str = "usage: kernels [KERNEL] [--at B=4,T=2048] [--dtype f32] | kernels --names | kernels --cuda KERNEL";

fn main() -> ExitCode {
    match answer(std::env::args().skip(1)) {
        Ok(text) => {
            // A reader that stops has seen enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}", cotangent_tests::describe(&error));
            ExitCode::FAILURE
        }
    }
}

fn answer(mut arguments: impl Iterator<Item = String>) -> Result<String> {
    let (mut name, mut at, mut dtype) = (None, None, "f32".to_owned());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().map_or_else(|| bail!("`{argument}` has no value\n{USAGE}"), Ok);
        match argument.as_str() {
            "--names" => return Ok(kernel_table::names()),
            "--cuda" => return kernel_table::cuda(&value()?),
            "--at" => at = Some(value()?),
            "--dtype" => dtype = value()?,
            _ if argument.starts_with('-') || name.is_some() => bail!("found `{argument}`\n{USAGE}"),
            _ => name = Some(argument),
        }
    }
    let sizes = at.map(|at| Sizes::parse(&at, &dtype)).transpose()?;
    match name {
        Some(name) => kernel_table::kernel(&name, sizes.as_ref()),
        None => kernel_table::table(sizes.as_ref()),
    }
}
