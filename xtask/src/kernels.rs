//! The kernels of this workspace, read from their sources: works before MLX is set up and while other code does not
//! compile.

mod expand;
mod list;
mod source;

use anyhow::{Result, bail};
use std::path::Path;

pub use expand::expand;

/// The crates whose kernels are the project's; tests have kernels too, some of them wrong on purpose.
const CRATES: [&str; 2] = ["kernels", "models"];

/// All kernels, with their gradient and where they are; or their names alone.
pub fn list(root: &Path, names: bool) -> Result<String> {
    let kernels = source::find_all(root, &CRATES)?;
    Ok(if names { list::names(&kernels) } else { list::table(&kernels) })
}

/// The one kernel called `name`.
fn find(root: &Path, name: &str) -> Result<source::KernelSource> {
    let mut kernels = source::find_all(root, &CRATES)?;
    kernels.retain(|kernel| kernel.name() == name);
    match kernels.len() {
        0 => bail!("no kernel is called `{name}`\n  help: list the kernels with `cargo xtask kernels`"),
        1 => Ok(kernels.remove(0)),
        _ => {
            let places: Vec<_> = kernels.iter().map(|kernel| format!("\n  {}", kernel.place)).collect();
            bail!("{} kernels are called `{name}`{}\n  help: rename all but one", kernels.len(), places.concat())
        }
    }
}
