//! The results that are kept of a block that is computed again in the backward pass: its choices, which rounding must
//! not change, and, if there is room, the results of expensive kernels.

use std::cell::RefCell;
use std::collections::VecDeque;

use mlx_rs::Array;

use crate::error::{Error, Result};

/// The results that are kept of one block.
#[derive(Default)]
pub(crate) struct Kept {
    /// The calls of expensive kernels, in order.
    calls: VecDeque<Call>,
    /// The choices of the block and the indices that follow from them alone, in order.
    choices: VecDeque<Choice>,
}

struct Choice {
    operation: &'static str,
    indices: Array,
}

struct Call {
    kernel: &'static str,
    /// The outputs, residuals included; `None` where there was no room for them.
    outputs: Option<Vec<Array>>,
}

/// The pass that a block is in.
enum Pass {
    Forward { kept: Kept, room: Room },
    Backward { kept: Kept, calls_are_kept: bool },
}

/// The bytes that are left for the calls of expensive kernels.
#[derive(Clone, Copy)]
struct Room {
    left: usize,
    /// Whether there were any bytes at the beginning.
    any: bool,
}

thread_local! {
    // A training graph never leaves its thread.
    static PASS: RefCell<Option<Pass>> = const { RefCell::new(None) };
}

impl Kept {
    /// Runs a block forward, and keeps its choices, and what its expensive kernels compute while there is `room`, in bytes.
    pub(crate) fn forward<T>(room: &mut usize, run: impl FnOnce() -> Result<T>) -> Result<(T, Self)> {
        let pass = Pass::Forward { kept: Kept::default(), room: Room { left: *room, any: *room > 0 } };
        let (result, pass) = during(pass, run);
        let result = result?;
        match pass {
            Some(Pass::Forward { kept, room: Room { left, .. } }) => {
                *room = left;
                Ok((result, kept))
            }
            _ => Err(nested()),
        }
    }

    /// Runs the same block again, with what was kept of it.
    pub(crate) fn backward<T>(self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.calls.is_empty() && self.choices.is_empty() {
            return run();
        }
        let calls_are_kept = !self.calls.is_empty();
        let (result, pass) = during(Pass::Backward { kept: self, calls_are_kept }, run);
        let result = result?;
        let Some(Pass::Backward { kept: Kept { calls, choices }, .. }) = pass else { return Err(nested()) };
        let mut left: Vec<String> = calls.iter().map(|call| format!("`{}`", call.kernel)).collect();
        left.extend(choices.iter().map(|choice| format!("`{}`", choice.operation)));
        match left.is_empty() {
            true => Ok(result),
            false => Err(another(&left.join(", "))),
        }
    }

    /// The bytes in memory for the backward pass.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Array> {
        let choices = self.choices.iter().map(|choice| &choice.indices);
        self.calls.iter().filter_map(|call| call.outputs.as_ref()).flatten().chain(choices)
    }
}

fn another(called: &str) -> Error {
    Error::Other(format!(
        "a block called {called} in its forward pass, and not when it was computed again; what a block computes must \
         follow from its arguments alone"
    ))
}

fn nested() -> Error {
    Error::Other("a block was run inside another".into())
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

/// Returns whether a driver keeps what expensive kernels compute.
pub(crate) fn is_kept() -> bool {
    PASS.with_borrow(|pass| match pass {
        None => false,
        Some(Pass::Forward { room, .. }) => room.any,
        Some(Pass::Backward { calls_are_kept, .. }) => *calls_are_kept,
    })
}

/// Returns the indices that `operation` gave in the block's forward pass, or those that `choose` gives now.
///
/// Of two numbers that are almost equal, either may be the larger when they are computed again. The block would then
/// compute something else, and the gradient be that of another function. Indices that follow from a choice are kept too: they are
/// small, and are then not computed a second time.
pub(crate) fn choice(operation: &'static str, choose: impl FnOnce() -> Result<Array>) -> Result<Array> {
    let kept = PASS.with_borrow_mut(|pass| match pass {
        Some(Pass::Backward { kept, .. }) => kept.choices.pop_front(),
        _ => None,
    });
    match kept {
        Some(choice) if choice.operation == operation => return Ok(choice.indices),
        Some(choice) => return Err(another(&format!("`{}`", choice.operation))),
        None => {}
    }
    let indices = choose()?;
    PASS.with_borrow_mut(|pass| {
        if let Some(Pass::Forward { kept, .. }) = pass {
            kept.choices.push_back(Choice { operation, indices: indices.clone() });
        }
    });
    Ok(indices)
}

/// Every output of a call of an expensive kernel: what was kept of it, or what `compute` computes.
pub(crate) fn outputs(kernel: &'static str, compute: impl FnOnce() -> Result<Vec<Array>>) -> Result<Vec<Array>> {
    let kept = PASS.with_borrow_mut(|pass| match pass {
        // If the next call is another kernel's, this kernel used its fallback in the forward pass and does so now.
        Some(Pass::Backward { kept, .. }) => kept.calls.pop_front_if(|call| call.kernel == kernel),
        _ => None,
    });
    if let Some(Call { outputs: Some(outputs), .. }) = kept {
        return Ok(outputs);
    }
    let outputs = compute()?;
    PASS.with_borrow_mut(|pass| {
        if let Some(Pass::Forward { kept, room: room @ Room { any: true, .. } }) = pass {
            let left = room.left.checked_sub(outputs.iter().map(Array::nbytes).sum());
            room.left = left.unwrap_or(room.left);
            kept.calls.push_back(Call { kernel, outputs: left.map(|_| outputs.clone()) });
        }
    });
    Ok(outputs)
}
