//! Cargo's configuration: overrides the build script of mlx-sys, which can only build MLX with macOS' tools.

use super::folder::Installation;

/// The text of a configuration file by which mlx-sys uses `installation` on `target`.
///
/// `inputs` stands for all that the installation was made from: Cargo does not look into the installation's files, and
/// compiles mlx-sys again only if this text changes.
pub fn text(target: &str, installation: &Installation, inputs: &str) -> String {
    format!(
        "# Written by set-up.\n\n[target.{target}.mlx]\n\
         rustc-link-search = [{}]\n\
         rustc-link-lib = [\"dylib=mlxc\"]\n\
         rustc-env = {{ OUT_DIR = {} }}\n\
         inputs = {}\n",
        quoted("native=", &installation.library_folder().display().to_string()),
        quoted("", &installation.bindings_folder().display().to_string()),
        quoted("", inputs),
    )
}

/// A basic string of TOML.
fn quoted(prefix: &str, text: &str) -> String {
    let mut quoted = format!("\"{prefix}");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => quoted += &format!("\\u{:04X}", u32::from(control)),
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::pins::Build;

    #[test]
    fn the_override_names_library_and_bindings() {
        let installation = Installation { folder: "/home/ada/my work/.mlx/0.32.2".into(), build: Build::Cpu };
        let text = text("x86_64-unknown-linux-gnu", &installation, "5eed");
        let lines: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "[target.x86_64-unknown-linux-gnu.mlx]",
                r#"rustc-link-search = ["native=/home/ada/my work/.mlx/0.32.2/lib"]"#,
                r#"rustc-link-lib = ["dylib=mlxc"]"#,
                r#"rustc-env = { OUT_DIR = "/home/ada/my work/.mlx/0.32.2/bindings" }"#,
                r#"inputs = "5eed""#,
            ]
        );
    }

    #[test]
    fn paths_are_quoted_for_toml() {
        assert_eq!(quoted("", "/a\"b\\c\td"), r#""/a\"b\\c\u0009d""#);
    }
}
