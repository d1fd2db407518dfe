//! Set-up and the commands of the project.

fn main() {}
