//! Commands about the kernels of this workspace. The list comes from a program that links them all; an expansion is made of
//! the sources, so that it works before MLX is set up and while other code does not compile.

mod expand;
mod source;

use anyhow::{Result, bail};
use std::ffi::OsString;
use std::path::Path;

pub use expand::expand;

/// The crates whose kernels are the project's; tests have kernels too, some of them wrong on purpose.
const CRATES: [&str; 3] = ["kernels", "examples", "models"];

/// The arguments of the program that lists kernels.
pub fn list_arguments(kernel: Option<String>, names: bool, at: Option<String>, dtype: String) -> Vec<OsString> {
    if names {
        return vec!["--names".into()];
    }
    let mut arguments: Vec<OsString> = kernel.into_iter().map(OsString::from).collect();
    if let Some(at) = at {
        arguments.extend(["--at".into(), at.into(), "--dtype".into(), dtype.into()]);
    }
    arguments
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_gets_what_was_asked() {
        let text = |kernel: Option<&str>, names, at: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let arguments = list_arguments(owned(kernel), names, owned(at), "bf16".to_owned());
            arguments.iter().map(|argument| argument.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(text(None, false, None), "");
        assert_eq!(text(None, true, None), "--names");
        assert_eq!(text(Some("mrope"), false, Some("B=4,T=2048")), "mrope --at B=4,T=2048 --dtype bf16");
    }
}
