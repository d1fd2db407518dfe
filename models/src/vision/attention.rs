//! Attention between the patches of one frame.

use cotangent::{Dtype, Graph, Mode, Parameters, Planned, Result, Tensor};

use crate::config::VisionConfig;
use crate::linear::BiasedLinear;

use super::input::VisionInput;

/// Attention in which every patch of a frame sees every other.
#[derive(Parameters)]
pub struct VisionAttention<M: Mode> {
    /// Queries, keys and values one after the other: `[3 * hidden, hidden]`.
    pub qkv: BiasedLinear<M>,
    /// `[hidden, hidden]`.
    pub proj: BiasedLinear<M>,
    /// The number of heads.
    #[config]
    pub heads: i32,
}

impl VisionAttention<Planned> {
    /// The layer that `config` describes, its matrices held in `dtype`.
    pub fn planned(config: &VisionConfig, dtype: Dtype) -> Self {
        let width = config.hidden_size;
        VisionAttention {
            qkv: BiasedLinear::planned(3 * width, width, dtype),
            proj: BiasedLinear::planned(width, width, dtype),
            heads: config.num_heads as i32,
        }
    }
}

impl<M: Graph> VisionAttention<M> {
    /// `[N, hidden]` to `[N, hidden]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(&self, x: &Tensor<M>, input: &VisionInput) -> Result<Tensor<M>> {
        let (patches, width) = (x.dimension(0), x.dimension(1));
        let head_dim = width / self.heads;
        let scale = (head_dim as f32).powf(-0.5);
        let qkv = self.qkv.forward(x)?.reshape(&[patches, 3, self.heads, head_dim])?;
        let heads =
            |index| qkv.slice(1, index, index + 1)?.reshape(&[1, patches, self.heads, head_dim])?.swap_axes(1, 2);
        let (queries, keys, values) = (input.rotate(&heads(0)?)?, input.rotate(&heads(1)?)?, heads(2)?);

        let mut attended = Vec::with_capacity(input.runs().len());
        let mut start = 0;
        for run in input.runs() {
            let end = start + run.frames * run.patches;
            // This turns `[1, H, frames * patches, D]` into `[frames, H, patches, D]`.
            let of_run = |x: &Tensor<M>| {
                let frames = x.slice(2, start, end)?.reshape(&[self.heads, run.frames, run.patches, head_dim])?;
                frames.swap_axes(0, 1)
            };
            let run_output =
                cotangent_kernels::full_attention(&of_run(&queries)?, &of_run(&keys)?, &of_run(&values)?, scale)?;
            attended.push(run_output.swap_axes(1, 2)?.reshape(&[run.frames * run.patches, width])?);
            start = end;
        }
        self.proj.forward(&Tensor::concatenate(&attended.iter().collect::<Vec<_>>(), 0)?)
    }
}
