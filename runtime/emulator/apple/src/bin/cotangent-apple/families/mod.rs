//! The kernels that are compared, by family. They were chosen before any of them had been compared here.

mod elementwise;
mod matrices;
mod reductions;
mod rows;

use crate::case::Case;

/// All cases, in order of families.
pub fn all() -> Vec<Case> {
    let mut cases = elementwise::cases();
    cases.extend(rows::cases());
    cases.extend(reductions::cases());
    cases.extend(matrices::cases());
    cases
}
