//! Computations that run while the next one is built.

use std::collections::VecDeque;

use mlx_rs::Array;

use crate::error::Result;
use crate::ffi;

/// Arrays being computed, of at most two parts of a larger computation: what the parts need in between is never in memory
/// for more of them.
pub(crate) struct InFlight {
    operation: &'static str,
    parts: VecDeque<Vec<Array>>,
}

impl InFlight {
    const PARTS: usize = 2;

    pub(crate) fn new(operation: &'static str) -> Self {
        InFlight { operation, parts: VecDeque::new() }
    }

    /// Starts to compute a part, and waits for the part before the last.
    pub(crate) fn start(&mut self, arrays: Vec<Array>) -> Result<()> {
        ffi::evaluate_async(self.operation, &arrays)?;
        self.parts.push_back(arrays);
        while self.parts.len() >= Self::PARTS {
            self.wait_for_oldest()?;
        }
        Ok(())
    }

    fn wait_for_oldest(&mut self) -> Result<()> {
        self.parts.pop_front().map_or(Ok(()), |arrays| ffi::evaluate(self.operation, &arrays))
    }

    /// Waits for all.
    pub(crate) fn finish(mut self) -> Result<()> {
        while !self.parts.is_empty() {
            self.wait_for_oldest()?;
        }
        Ok(())
    }
}
