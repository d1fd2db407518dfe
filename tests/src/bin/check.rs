//! `cargo xtask check`: what machinery checks of every kernel, at each of its cases; prints all comparisons.

fn main() -> std::process::ExitCode {
    cotangent_commands::check(&cotangent_tests::CRATES)
}
