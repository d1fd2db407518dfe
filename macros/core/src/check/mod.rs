//! Refuses declarations that cannot be right: one file for each subject, one function for each failure.

mod body;
mod cases;
mod limits;
mod names;
mod route;
mod rust_body;
mod syntax;

use crate::diagnostics::Diagnostics;
use crate::model::kernel::Kernel;

/// Runs every check that one declaration allows. What needs the other kernel of a pair is proved where both are known,
/// by constant assertions in the expansion of the backward.
pub fn check(kernel: &Kernel, diagnostics: &mut Diagnostics) {
    route::check(kernel, diagnostics);
    cases::check(kernel, diagnostics);
    limits::check(kernel, diagnostics);
    body::check(kernel, diagnostics);
}
