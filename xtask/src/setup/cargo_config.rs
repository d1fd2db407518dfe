//! Cargo's configuration: overrides the build script of mlx-sys, which can only build MLX with macOS' tools.

use super::layout::Installation;
use std::path::Path;

/// The text of a configuration file by which mlx-sys uses `installation` on `target`.
pub fn text(target: &str, installation: &Installation) -> String {
    format!(
        "# Written by `cargo xtask setup`.\n\n[target.{target}.mlx]\n\
         rustc-link-search = [{}]\n\
         rustc-link-lib = [\"dylib=mlxc\"]\n\
         rustc-env = {{ OUT_DIR = {} }}\n",
        quoted("native=", &installation.library_folder()),
        quoted("", &installation.bindings_folder()),
    )
}

/// A basic string of TOML.
fn quoted(prefix: &str, path: &Path) -> String {
    let mut text = String::from("\"");
    text += prefix;
    for character in path.display().to_string().chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            control if control.is_control() => text += &format!("\\u{:04X}", u32::from(control)),
            plain => text.push(plain),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_override_names_library_and_bindings() {
        let installation = Installation { folder: "/home/ada/my work/.mlx/0.32.2".into() };
        let text = text("x86_64-unknown-linux-gnu", &installation);
        let lines: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "[target.x86_64-unknown-linux-gnu.mlx]",
                r#"rustc-link-search = ["native=/home/ada/my work/.mlx/0.32.2/lib"]"#,
                r#"rustc-link-lib = ["dylib=mlxc"]"#,
                r#"rustc-env = { OUT_DIR = "/home/ada/my work/.mlx/0.32.2/bindings" }"#,
            ]
        );
    }

    #[test]
    fn paths_are_quoted_for_toml() {
        assert_eq!(quoted("", Path::new("/a\"b\\c\td")), r#""/a\"b\\c\u0009d""#);
    }
}
