//! `cargo xtask check [KERNEL]`: what machinery checks of every kernel, at each of its cases; prints all comparisons.

use std::process::ExitCode;

use anyhow::{Result, bail};
use cotangent::Session;
use cotangent::kernel::check;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (name, None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: check [KERNEL]");
        return ExitCode::from(2);
    };
    match check_kernels(name.as_deref()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", cotangent_tests::describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// Checks the kernel called `name`, or all. Whether everything agreed.
fn check_kernels(name: Option<&str>) -> Result<bool> {
    let mut kernels = cotangent_kernels::kernels();
    kernels.retain(|kernel| name.is_none_or(|name| kernel.signature.name == name));
    if let (Some(name), true) = (name, kernels.is_empty()) {
        bail!("no kernel is called `{name}`\n  help: list the kernels with `cargo xtask kernels`");
    }
    kernels.sort_by_key(|kernel| kernel.signature.name);
    let mut session = Session::new()?;
    let mut failed = 0;
    for kernel in &kernels {
        let report = check::check(&mut session, kernel)?;
        if !report.comparisons().is_empty() {
            print!("{report}");
        } else if name.is_some() {
            println!("kernel `{}` has no gradient of its own to check", kernel.signature.name);
        }
        failed += usize::from(!report.passed());
    }
    println!("{} kernels checked, {failed} failed", kernels.len());
    Ok(failed == 0)
}
