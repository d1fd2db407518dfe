//! The load-balancing loss of routers.

use cotangent::{Error, Indices, Result, Stored, Tensor, Train};

use super::experts::Routing;
use super::feed_forward::FeedForward;
use super::model::Model;

/// The load-balancing loss of a batch: with E experts, `E sum over e of f_e P_e`, where f is the frequency with which
/// an expert was chosen and P its mean probability among all experts, both over all layers and all tokens that are not
/// padding.
///
/// f adds up to the number of experts that a token gets, so that is what the loss is where all experts are alike. It is
/// that of Fedus et al., "Switch Transformers" (2021), equations 4 to 6, as transformers computes it for these models
/// (`load_balancing_loss_func` of 5.24).
#[derive(Debug)]
pub struct Balance {
    /// The tokens that are no padding, by their places in `[B * T]`.
    pub(super) counted: Indices,
    /// The number of choices that a router made for them, in all layers.
    choices: f32,
    experts: i32,
    /// The factor of the loss in training.
    weight: f32,
}

impl Balance {
    /// Creates the loss of a batch. `is_token` says for each place, row after row, whether it holds a token. The loss
    /// is multiplied by `weight`, the product of its coefficient and of the share that these tokens have in all tokens
    /// of the step, so that micro-batches weigh by their tokens.
    ///
    /// # Errors
    /// If the model has no experts, or the batch no token.
    pub fn new(model: &Model<Stored>, is_token: &[bool], weight: f32) -> Result<Self> {
        let routers: Vec<i32> = model
            .layers
            .iter()
            .filter_map(|layer| match &layer.mlp {
                FeedForward::Experts(layer) => Some(layer.gate.outputs()),
                FeedForward::Dense(_) => None,
            })
            .collect();
        let Some(experts) = routers.first().copied() else {
            return Err(Error::Other("the load-balancing loss is one of routers, and the model has no experts".into()));
        };
        let places: Vec<i32> = (0..).zip(is_token).filter(|(_, is_token)| **is_token).map(|(place, _)| place).collect();
        if places.is_empty() {
            return Err(Error::Other("the load-balancing loss is a mean over tokens, and the batch has none".into()));
        }
        Ok(Balance {
            counted: Indices::from_slice(&places, &[places.len() as i32])?,
            choices: (places.len() * routers.len()) as f32,
            experts,
            weight,
        })
    }

    /// The loss, and how often each expert was chosen, as a share of the tokens: `[1 + experts]`.
    pub(super) fn parts(&self, routing: &Routing<Train>) -> Result<Tensor<Train>> {
        let shares = routing.chosen.multiply(1.0 / self.choices)?;
        let products = shares.multiply(&routing.probabilities)?.sum_keep(&[0])?;
        let loss = products.multiply(self.experts as f32 / self.choices)?;
        Tensor::concatenate(&[&loss, &shares], 0)
    }

    /// Returns the weight of each of the [`parts`](Self::parts): 0 for the shares, which are only reported.
    pub(super) fn weights(&self) -> Vec<f32> {
        let mut weights = vec![0.0; 1 + self.experts as usize];
        weights[0] = self.weight;
        weights
    }
}
