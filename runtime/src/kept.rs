//! What expensive kernels computed in the forward pass, for blocks that are computed again in the backward pass.

use std::cell::RefCell;
use std::collections::VecDeque;

use mlx_rs::Array;

use crate::error::{Error, Result};

/// The calls of expensive kernels in one block, in order.
#[derive(Default)]
pub(crate) struct Kept {
    calls: VecDeque<Call>,
}

struct Call {
    kernel: &'static str,
    /// Residuals included; `None` where there was no room for them.
    outputs: Option<Vec<Array>>,
}

/// Which of its two passes a block is in.
enum Pass {
    Forward { kept: Kept, room: usize },
    Backward(Kept),
}

thread_local! {
    // Of the thread, because a training graph never leaves its own.
    static PASS: RefCell<Option<Pass>> = const { RefCell::new(None) };
}

impl Kept {
    /// Runs a block forward, and keeps what its expensive kernels compute while there is `room`, in bytes.
    pub(crate) fn forward<T>(room: &mut usize, run: impl FnOnce() -> Result<T>) -> Result<(T, Self)> {
        if *room == 0 {
            return Ok((run()?, Kept::default()));
        }
        let (result, pass) = during(Pass::Forward { kept: Kept::default(), room: *room }, run);
        let result = result?;
        match pass {
            Some(Pass::Forward { kept, room: left }) => {
                *room = left;
                Ok((result, kept))
            }
            _ => Err(Error::Other("a block was run inside another".into())),
        }
    }

    /// Runs the same block again, with what was kept of it.
    pub(crate) fn backward<T>(self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.calls.is_empty() {
            return run();
        }
        let (result, pass) = during(Pass::Backward(self), run);
        let result = result?;
        match pass {
            Some(Pass::Backward(Kept { calls })) if calls.is_empty() => Ok(result),
            Some(Pass::Backward(Kept { calls })) => {
                let names: Vec<_> = calls.iter().map(|call| format!("`{}`", call.kernel)).collect();
                Err(Error::Other(format!(
                    "a block called {} in its forward pass, and not when it was computed again; what a block computes must \
                     follow from its arguments alone",
                    names.join(", ")
                )))
            }
            _ => Err(Error::Other("a block was run inside another".into())),
        }
    }

    /// What is in memory for the backward pass.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.calls.iter().filter_map(|call| call.outputs.as_ref()).flatten()
    }
}

fn during<T>(pass: Pass, run: impl FnOnce() -> Result<T>) -> (Result<T>, Option<Pass>) {
    /// Leaves no pass behind, also when the block panics.
    struct Leave(Option<Pass>);
    impl Drop for Leave {
        fn drop(&mut self) {
            PASS.set(self.0.take());
        }
    }
    let _leave = Leave(PASS.replace(Some(pass)));
    let result = run();
    (result, PASS.take())
}

/// Whether a driver keeps what expensive kernels compute.
pub(crate) fn is_kept() -> bool {
    PASS.with_borrow(Option::is_some)
}

/// Every output of a call of an expensive kernel: what was kept of it, or what `compute` computes.
pub(crate) fn outputs(kernel: &'static str, compute: impl FnOnce() -> Result<Vec<Array>>) -> Result<Vec<Array>> {
    let kept = PASS.with_borrow_mut(|pass| match pass {
        // Another kernel's turn means that this one fell back on it, as it did in the forward pass.
        Some(Pass::Backward(Kept { calls })) => calls.pop_front_if(|call| call.kernel == kernel),
        _ => None,
    });
    if let Some(Call { outputs: Some(outputs), .. }) = kept {
        return Ok(outputs);
    }
    let outputs = compute()?;
    PASS.with_borrow_mut(|pass| {
        if let Some(Pass::Forward { kept, room }) = pass {
            let left = room.checked_sub(outputs.iter().map(Array::nbytes).sum());
            *room = left.unwrap_or(*room);
            kept.calls.push_back(Call { kernel, outputs: left.map(|_| outputs.clone()) });
        }
    });
    Ok(outputs)
}
