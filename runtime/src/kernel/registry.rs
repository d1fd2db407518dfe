//! Every kernel of the program, so that tests and commands list none by hand.

use super::check::Report;
use super::declaration::Declaration;
use crate::Result;

#[doc(hidden)]
pub use inventory::submit;

/// One kernel that was linked into the program. Made by the macro.
pub struct Registered(pub fn() -> &'static Declaration);

inventory::collect!(Registered);

/// All kernels of all crates that the program links, in the order of their modules and names.
///
/// A crate that nothing else of the program refers to is dropped by the linker, kernels included; a crate of kernels
/// therefore offers a `pub fn kernels()` that calls this one.
///
/// # Panics
/// If the program links none: a loop over nothing would pass for a check of everything.
pub fn kernels() -> Vec<&'static Declaration> {
    let mut kernels: Vec<_> = inventory::iter::<Registered>.into_iter().map(|registered| (registered.0)()).collect();
    assert!(
        !kernels.is_empty(),
        "this program links no kernel: name the crate that declares them, such as `use my_kernels as _;`, or call its \
         `kernels()`"
    );
    kernels.sort_by_key(|kernel| (kernel.signature.module, kernel.signature.name));
    kernels
}

/// Kernels that something calls: models, or the fallback of another kernel. Made by [`calls!`](macro@crate::calls).
pub struct Called {
    /// The name of what calls them.
    pub caller: &'static str,
    /// The kernels.
    pub kernels: &'static [fn() -> &'static Declaration],
}

inventory::collect!(Called);

/// What calls `kernel`, sorted: what says so in [`calls!`](macro@crate::calls), and the kernels whose bodies launch it.
pub fn callers(kernel: &Declaration) -> Vec<&'static str> {
    let is_it = |other: &&'static Declaration| std::ptr::eq(*other, kernel);
    let said = inventory::iter::<Called>
        .into_iter()
        .filter(|called| called.kernels.iter().any(|declaration| is_it(&declaration())))
        .map(|called| called.caller);
    let launched = inventory::iter::<Registered>
        .into_iter()
        .map(|registered| (registered.0)())
        .filter(|other| other.stages().iter().any(is_it))
        .map(|other| other.signature.name);
    let mut callers: Vec<_> = said.chain(launched).collect();
    callers.sort_unstable();
    callers.dedup();
    callers
}

/// Says that something calls kernels, for the table that `cargo cotangent kernels` prints: nothing else of a program knows
/// which functions call which.
///
/// ```
/// # use cotangent::{Infer, Result, Tensor, differentiable};
/// # #[differentiable(inference_only = "an example", cases = [(N = 3)])]
/// # pub fn doubled(x: In![f32; N], y: Out![f32; N]) { Ok(Outputs { y: x.add(x)? }) }
/// cotangent::calls! { "my model": doubled }
/// ```
#[macro_export]
macro_rules! calls {
    ($caller:literal: $($kernel:path),+ $(,)?) => {
        $crate::kernel::registry::submit! {
            $crate::kernel::registry::Called {
                caller: $caller,
                kernels: &[$(<$kernel as $crate::kernel::Kernel>::declaration),+],
            }
        }
    };
}

/// A function with a backward of its own. Made by [`custom_vjp!`](macro@crate::custom_vjp).
#[derive(Debug)]
pub struct RegisteredFunction {
    /// The name that messages use.
    pub name: &'static str,
    /// The source file that declares the function.
    pub file: &'static str,
    /// The line of the declaration, counted from 1.
    pub line: u32,
    /// Compares the function's backward with finite differences.
    pub check: fn() -> Result<Report>,
}

inventory::collect!(RegisteredFunction);

/// All functions with a backward of their own that the program links, by their names: as [`kernels`], but there may be none.
pub fn functions() -> Vec<&'static RegisteredFunction> {
    let mut functions: Vec<_> = inventory::iter::<RegisteredFunction>.into_iter().collect();
    functions.sort_by_key(|function| (function.name, function.file, function.line));
    functions
}
