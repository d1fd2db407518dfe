//! Finds a fallback or a body that calls its own kernel: it would run for ever.

use std::cell::RefCell;

use crate::kernel::declaration::Declaration;
use crate::{Error, Result};

thread_local! {
    /// The running fallbacks and bodies, the outermost first.
    static RUNNING: RefCell<Vec<(&'static Declaration, &'static str)>> = const { RefCell::new(Vec::new()) };
}

/// Removes the last running one when it ends, also when it panics.
struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        RUNNING.with_borrow_mut(|running| running.pop());
    }
}

/// Runs `function`, which is the `part` of a kernel: its fallback or its body.
pub(super) fn inside<R>(declaration: &'static Declaration, part: &'static str, function: impl FnOnce() -> R) -> R {
    RUNNING.with_borrow_mut(|running| running.push((declaration, part)));
    let _leave = Leave;
    function()
}

/// Checks that a kernel is not called in its own fallback or body.
///
/// # Errors
/// [`Error::Kernel`] if it does.
pub(super) fn check_not_inside(declaration: &'static Declaration) -> Result<()> {
    let part = RUNNING.with_borrow(|running| {
        running.iter().find(|(outer, _)| std::ptr::eq(*outer, declaration)).map(|(_, part)| *part)
    });
    match part {
        None => Ok(()),
        Some(part) => Err(Error::Kernel {
            kernel: declaration.signature.name,
            port: None,
            message: format!("its {part} calls the kernel itself: compose it of other operations"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::with_backend;
    use crate::{Backend, Constant, Graph, Infer, Result, Tensor};

    #[crate::differentiable(
        crate = crate,
        untested = "its fallback calls the kernel",
        fallback = by_itself,
        grid = (N, 1, 1),
        threads = (32, 1, 1),
        cases = [(N = 3)],
    )]
    fn doubled(x: In![f32; N], y: Out![f32; N]) {
        metal! { y[thread_position_in_grid.x] = 2.0f * x[thread_position_in_grid.x]; }
    }

    fn by_itself<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
        doubled(x)
    }

    #[crate::differentiable(crate = crate, untested = "its body calls the kernel", fallback = same, cases = [(N = 3)])]
    fn kept(x: In![f32; N], y: Out![f32; N]) {
        Ok(Outputs { y: self::kept(x)? })
    }

    fn same<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
        Ok(x.clone())
    }

    #[test]
    fn a_kernel_is_no_part_of_its_own_fallback_or_body() {
        let x = Constant::from_slice(&[1.0, 2.0, 3.0], &[3]).unwrap().to_tensor::<Infer>();
        for (call, part) in [(doubled::<Infer> as fn(&Tensor<Infer>) -> _, "fallback"), (kept::<Infer>, "body")] {
            for _ in 0..2 {
                let error = with_backend(Backend::Cpu, || call(&x)).unwrap_err().to_string();
                assert!(error.contains(&format!("its {part} calls the kernel itself")), "{error}");
            }
        }
    }
}
