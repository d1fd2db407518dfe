//! `cargo xtask kernels`: the table of all kernels, from the registry; all about one; or the CUDA source of one.

fn main() -> std::process::ExitCode {
    cotangent_commands::kernels(&cotangent_tests::CRATES)
}
