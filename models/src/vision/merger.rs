//! The merger, which turns groups of patches into tokens of the text model.

use cotangent::{Dtype, Graph, Mode, Parameters, Planned, Result, Tensor};

use crate::config::VisionConfig;
use crate::linear::BiasedLinear;
use crate::norm::LayerNorm;

/// `fc2(gelu(fc1(norm(x))))` of the patches of a group, one after the other.
#[derive(Parameters)]
pub struct Merger<M: Mode> {
    /// The norm over a patch, or over the group.
    pub norm: LayerNorm<M>,
    /// `[group * hidden, group * hidden]`.
    pub linear_fc1: BiasedLinear<M>,
    /// `[text width, group * hidden]`.
    pub linear_fc2: BiasedLinear<M>,
    /// Width of a group.
    #[config]
    pub group: i32,
    /// Whether the norm is over the group: so it is in the mergers of deepstack.
    #[config]
    pub norms_groups: bool,
}

impl Merger<Planned> {
    /// The merger that `config` describes, its matrices held in `dtype`.
    pub fn planned(config: &VisionConfig, norms_groups: bool, dtype: Dtype) -> Self {
        let group = config.spatial_merge_size * config.spatial_merge_size * config.hidden_size;
        Merger {
            norm: LayerNorm::planned(if norms_groups { group } else { config.hidden_size }),
            linear_fc1: BiasedLinear::planned(group, group, dtype),
            linear_fc2: BiasedLinear::planned(config.out_hidden_size, group, dtype),
            group: group as i32,
            norms_groups,
        }
    }
}

impl<M: Graph> Merger<M> {
    /// `[N, hidden]` to `[N / group, text width]`.
    ///
    /// # Errors
    /// If the patches are not whole groups.
    pub fn forward(&self, x: &Tensor<M>) -> Result<Tensor<M>> {
        let group = [-1, self.group];
        let normed = match self.norms_groups {
            true => self.norm.forward(&x.reshape(&group)?)?,
            false => self.norm.forward(x)?.reshape(&group)?,
        };
        self.linear_fc2.forward(&cotangent_kernels::gelu(&self.linear_fc1.forward(&normed)?)?)
    }
}
