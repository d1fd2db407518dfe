//! The sources of a kernel's launches as they are dispatched, for compilers that need no device.

use cotangent_metal::{CudaText, KernelText};

use super::cases::with_small_inputs;
use super::draw::Draw;
use super::experiment::{Experiment, dtypes};
use crate::kernel::declaration::Declaration;
use crate::{Error, Result};

/// The source of one launch, at one case and in one dtype.
#[derive(Debug, Clone)]
pub struct LaunchText {
    /// The case and the dtype.
    pub place: String,
    /// The source that Metal and the emulator get.
    pub metal: KernelText,
    /// The shapes of the inputs, scalars included.
    pub input_shapes: Vec<Vec<usize>>,
    /// The source that MLX gets on CUDA, or the reason why there is none.
    pub cuda: std::result::Result<CudaText, String>,
    /// Whether the source for CUDA is the author's own.
    pub is_native: bool,
}

impl Declaration {
    /// The launch of this kernel, stage or backward at each case and in each float dtype it is checked in, and again, in
    /// one, for each way in which some of its inputs are small; nothing for a body that only composes others.
    ///
    /// # Errors
    /// If a case contradicts the signature.
    pub fn launch_texts(&'static self) -> Result<Vec<LaunchText>> {
        let mut texts = Vec::new();
        if !self.is_launch() {
            return Ok(texts);
        }
        let dtypes = dtypes(self.signature);
        for (case, dtypes) in self.tried().iter().flat_map(|case| {
            // Which inputs are small does not depend on dtypes, so the further cases are made in one dtype only.
            let all = with_small_inputs(self, case).into_iter().enumerate();
            all.map(|(number, case)| (case, if number == 0 { &dtypes[..] } else { &dtypes[..1] }))
        }) {
            for &dtype in dtypes {
                let place = format!("{case}, {dtype}");
                texts.push(Experiment::new(self, &case, &Draw::default(), dtype, dtype)?.with_launch(|request| {
                    let (metal, input_shapes) = request.metal_text()?;
                    let cuda = match request.cuda_text() {
                        Ok(text) => Ok(text),
                        Err(Error::Untranslated { message, .. } | Error::Kernel { message, .. }) => Err(message),
                        Err(error) => return Err(error),
                    };
                    Ok(LaunchText { place, metal, input_shapes, cuda, is_native: request.launch.cuda.is_some() })
                })?);
            }
        }
        Ok(texts)
    }
}
