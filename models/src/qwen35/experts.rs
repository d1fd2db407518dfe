//! A mixture of experts: a router chooses a few of many gated layers for each token, and one more layer serves all
//! tokens.

use cotangent::{Dtype, Graph, Indices, Mode, Parameters, Planned, Result, Tensor};
use cotangent_kernels::ExpertRows;

use crate::config::ExpertsConfig;
use crate::expert_linear::ExpertLinear;
use crate::linear::Linear;

use super::mlp::Mlp;

/// `sum over the chosen of w_e expert_e(x) + sigmoid(gate x) shared(x)`, with `w` the softmax of the router's logits, brought
/// to the sum 1 over the chosen.
#[derive(Parameters)]
pub struct MixtureOfExperts<M: Mode> {
    /// The router, `[experts, hidden]`.
    pub gate: Linear<M>,
    /// The gate of the shared expert, `[1, hidden]`.
    pub shared_expert_gate: Linear<M>,
    /// The experts to choose from.
    pub experts: Experts<M>,
    /// The expert for all tokens.
    pub shared_expert: Mlp<M>,
    /// The number of experts of a token.
    #[config]
    pub per_token: i32,
}

/// Gated layers of one size, side by side.
#[derive(Parameters)]
pub struct Experts<M: Mode> {
    /// `[experts, intermediate, hidden]`.
    pub gate_proj: ExpertLinear<M>,
    /// `[experts, intermediate, hidden]`.
    pub up_proj: ExpertLinear<M>,
    /// `[experts, hidden, intermediate]`.
    pub down_proj: ExpertLinear<M>,
}

/// The choices and probabilities of routers, summed over tokens and layers, from which the load-balancing loss is
/// computed.
#[derive(Parameters)]
pub struct Routing<M: Mode> {
    /// The number of times that each expert was chosen, `[experts]`, float32; without a gradient.
    pub chosen: Tensor<M>,
    /// The sum of the probabilities of each expert, among all experts, `[experts]`, float32.
    pub probabilities: Tensor<M>,
}

impl<M: Mode> Clone for Routing<M> {
    /// Shares the memory.
    fn clone(&self) -> Self {
        Routing { chosen: self.chosen.clone(), probabilities: self.probabilities.clone() }
    }
}

impl<M: Graph> Routing<M> {
    /// Returns the sum of both.
    ///
    /// # Errors
    /// If they are of other numbers of experts.
    pub fn add(&self, other: &Self) -> Result<Self> {
        Ok(Routing {
            chosen: self.chosen.add(&other.chosen)?,
            probabilities: self.probabilities.add(&other.probabilities)?,
        })
    }
}

impl MixtureOfExperts<Planned> {
    /// The layer that `config` describes in a model of width `hidden`, its matrices held in `dtype`.
    pub fn planned(hidden: usize, config: &ExpertsConfig, dtype: Dtype) -> Self {
        let experts = |outputs, inputs| ExpertLinear::planned(config.count, outputs, inputs, dtype);
        MixtureOfExperts {
            gate: Linear::planned(config.count, hidden, dtype),
            shared_expert_gate: Linear::planned(1, hidden, dtype),
            experts: Experts {
                gate_proj: experts(config.intermediate_size, hidden),
                up_proj: experts(config.intermediate_size, hidden),
                down_proj: experts(hidden, config.intermediate_size),
            },
            shared_expert: Mlp::planned(hidden, config.shared_intermediate_size, dtype),
            per_token: config.per_token as i32,
        }
    }
}

impl<M: Graph> MixtureOfExperts<M> {
    /// `[.., hidden]` to `[.., hidden]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(&self, x: &Tensor<M>) -> Result<Tensor<M>> {
        Ok(self.routed(x)?.0)
    }

    /// Runs as [`forward`](Self::forward) does, and returns what the router did with the tokens that `counted` names.
    ///
    /// # Errors
    /// If the shapes do not fit, or there is no such token.
    pub fn forward_counted(&self, x: &Tensor<M>, counted: &Indices) -> Result<(Tensor<M>, Routing<M>)> {
        let (y, logits, chosen) = self.routed(x)?;
        let how_often = chosen.take_rows(counted)?.occurrences(logits.dimension(1))?;
        let routing = Routing {
            chosen: how_often.to_constant("how often an expert is chosen is a staircase")?.to_tensor(),
            probabilities: logits.take_rows(counted)?.softmax()?.sum(&[0])?,
        };
        Ok((y, routing))
    }

    /// The output, and the router's logits `[tokens, experts]` and choices `[tokens, experts of each]`.
    fn routed(&self, x: &Tensor<M>) -> Result<(Tensor<M>, Tensor<M>, Indices)> {
        let tokens = x.reshape(&[-1, x.dimension(-1)])?;
        // Two logits that are different in float32 could be equal in 16 bits; then the expert's number would decide.
        let logits = self.gate.forward(&tokens)?.cast(Dtype::F32)?;
        let chosen = logits.top_k(self.per_token)?;
        // The softmax over the chosen experts equals the softmax over all, scaled to the sum 1 over the chosen.
        let weights = logits.take_along_axis(&chosen, 1)?.softmax()?;
        let rows = ExpertRows::new(&chosen, logits.dimension(1))?;
        let weights = cotangent_kernels::weights_of_rows(&weights, &rows)?;
        let routed = self.experts.forward(&cotangent_kernels::spread_to_experts(&tokens, &rows)?, &weights, &rows)?;
        let routed = cotangent_kernels::gather_from_experts(&routed, &rows)?;
        let share = self.shared_expert_gate.forward(&tokens)?.sigmoid()?;
        let shared = self.shared_expert.forward(&tokens)?.multiply(&share)?;
        Ok((routed.add(&shared)?.reshape(x.shape())?, logits, chosen))
    }
}

impl<M: Graph> Experts<M> {
    /// Returns the weighted results `[rows, hidden]` of rows `[rows, hidden]` in the order of their experts, with a weight for each.
    ///
    /// The down projection is linear, so a row may be weighted before it. The gradients of the weights then follow from the
    /// projection's inputs, and a block that is computed again does not compute its product.
    fn forward(&self, x: &Tensor<M>, weights: &Tensor<M>, rows: &ExpertRows) -> Result<Tensor<M>> {
        let (gate, up) = (self.gate_proj.forward(x, rows)?, self.up_proj.forward(x, rows)?);
        self.down_proj.forward(&cotangent_kernels::weighted_swiglu(&gate, &up, weights)?, rows)
    }
}
