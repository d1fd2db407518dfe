//! `cargo xtask mutate`: which mistakes in the kernels' gradients the generated checks miss.

fn main() -> std::process::ExitCode {
    cotangent_commands::mutate(&cotangent_tests::CRATES)
}
