//! Gradients of one optimizer step, and validation loss.

use cotangent::{Gradients, Keep, Session, Stored, Tensor, Trainable, evaluate_stack, train_stack};
use cotangent_models::qwen35::{self, Ahead, AheadLoss, Model};

use super::TrainingOptions;
use super::micro_batches::{BatchMaker, MicroBatches};
use crate::data::{Dataset, Order, Targets, TokenBatch};

/// Losses, each a mean over the predictions that it counts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Losses {
    /// The loss that is trained: of the next token, or, where multi-token prediction is trained alone, of the token
    /// after that.
    pub loss: f64,
    /// The loss of the token after the next, without its weight, where it is trained beside that of the next.
    pub mtp_loss: Option<f64>,
}

/// The gradients of some micro-batches together.
#[derive(Debug)]
pub struct Accumulated {
    /// The losses over all micro-batches.
    pub losses: Losses,
    /// The gradients of the losses with their weights.
    pub gradients: Gradients,
    /// Predictions that the losses count.
    pub targets: Targets,
    /// Tokens without padding.
    pub tokens: usize,
    /// The behaviour of the routers, where their load-balancing loss is trained.
    pub routing: Option<RoutingMeans>,
}

/// The load-balancing loss of routers, without its coefficient, and the share of the tokens that each expert was chosen for:
/// means over tokens and layers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoutingMeans {
    /// The loss; where all experts are alike it equals the number of experts of a token.
    pub loss: f64,
    /// The share of the tokens of each expert.
    pub shares: Vec<f64>,
}

impl RoutingMeans {
    /// Adds what the routers did with so large a share of the tokens.
    pub(super) fn add(&mut self, loss: f64, shares: impl Iterator<Item = f64>, share: f64) {
        self.loss += loss * share;
        for (index, of_expert) in shares.enumerate() {
            if index == self.shares.len() {
                self.shares.push(0.0);
            }
            self.shares[index] += of_expert * share;
        }
    }
}

impl Losses {
    /// Adds the loss of a batch, or its parts, that count as much as `share` says.
    fn add(&mut self, parts: &Tensor<Stored>, share: impl Fn(usize) -> f64) -> cotangent::Result<()> {
        self.add_values(&parts.to_vec::<f32>()?, share);
        Ok(())
    }

    fn add_values(&mut self, parts: &[f32], share: impl Fn(usize) -> f64) {
        self.loss += f64::from(parts[0]) * share(0);
        if let Some(part) = parts.get(1) {
            *self.mtp_loss.get_or_insert(0.0) += f64::from(*part) * share(1);
        }
    }
}

/// Sums the gradients of `batches`, in which every counted token weighs the same: as if they were one batch.
///
/// # Errors
/// If a computation fails.
pub fn accumulate(
    session: &mut Session,
    model: &Model<Stored>,
    trainable: &Trainable,
    maker: &mut BatchMaker,
    batches: &[TokenBatch],
    keep: Keep,
) -> cotangent::Result<Accumulated> {
    let targets: Targets = batches.iter().map(TokenBatch::counted).sum();
    let tokens = batches.iter().map(TokenBatch::tokens).sum();
    let gradients = Gradients::new();
    let mut accumulated = Accumulated { losses: Losses::default(), gradients, targets, tokens, routing: None };
    for batch in batches {
        let share = batch.tokens() as f64 / tokens as f64;
        let balance = maker.balance(model, batch, share)?;
        let batch = qwen35::Batch { balance, ..maker.make(batch, targets)? };
        let loss = train_stack(session, model, trainable, &batch, keep, &mut accumulated.gradients)?;
        let parts = loss.to_vec::<f32>()?;
        // After the losses of tokens come that of the routers and the shares of the experts.
        let of_tokens = if matches!(batch.ahead, Some(Ahead { loss: AheadLoss::Beside { .. }, .. })) { 2 } else { 1 };
        let (losses, of_routers) = parts.split_at(of_tokens.min(parts.len()));
        accumulated.losses.add_values(losses, |_| 1.0);
        if let Some((loss, shares)) = of_routers.split_first() {
            let routing = accumulated.routing.get_or_insert_default();
            routing.add(f64::from(*loss), shares.iter().copied().map(f64::from), share);
        }
    }
    Ok(accumulated)
}

/// The mean losses of the counted tokens of `dataset`, or of `batches` of its batches, spread evenly from the shortest
/// rows to the longest and the same every time. `None` if `interrupted` says so meanwhile.
///
/// # Errors
/// If a computation fails.
pub fn validate(
    session: &mut Session,
    model: &Model<Stored>,
    maker: &mut BatchMaker,
    dataset: &Dataset,
    batch_size: usize,
    batches: Option<usize>,
    interrupted: &dyn Fn() -> bool,
) -> cotangent::Result<Option<Losses>> {
    let plan = dataset.plan_epoch(batch_size, Order::ByLength);
    let (mut losses, mut counted) = (Losses::default(), [0; 2]);
    for index in spread(plan.len(), batches.unwrap_or(plan.len())) {
        if interrupted() {
            return Ok(None);
        }
        let batch = dataset.batch(&plan[index]);
        let targets = maker.counted(batch.counted());
        let parts = evaluate_stack(session, model, &maker.make(&batch, batch.counted())?)?;
        losses.add(&parts, |part| targets[part] as f64)?;
        counted = [counted[0] + targets[0], counted[1] + targets[1]];
    }
    losses.loss /= counted[0] as f64;
    losses.mtp_loss = losses.mtp_loss.map(|sum| sum / counted[1].max(1) as f64);
    Ok(Some(losses))
}

/// The loss of the first micro-batch before anything is trained. What is not finite here was not before.
///
/// # Errors
/// If a computation fails.
pub fn first_loss(
    session: &mut Session,
    model: &Model<Stored>,
    maker: &mut BatchMaker,
    data: &Dataset,
    options: &TrainingOptions,
) -> cotangent::Result<f64> {
    let batch = MicroBatches::new(data, options.batch_size, options.seed).get(0);
    let mut losses = Losses::default();
    losses.add(&evaluate_stack(session, model, &maker.make(&batch, batch.counted())?)?, |_| 1.0)?;
    Ok(losses.loss)
}

/// Returns at most `wanted` of `0..total`, at equal distances, each in the middle of the range that it stands for.
fn spread(total: usize, wanted: usize) -> impl Iterator<Item = usize> {
    let count = wanted.min(total);
    (0..count).map(move |index| (2 * index + 1) * total / (2 * count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_validation_batches_stand_for_all_lengths() {
        for (total, wanted, expected) in [
            (5, 9, vec![0, 1, 2, 3, 4]),
            (5, 5, vec![0, 1, 2, 3, 4]),
            (10, 2, vec![2, 7]),
            (9, 3, vec![1, 4, 7]),
            (7, 1, vec![3]),
        ] {
            assert_eq!(spread(total, wanted).collect::<Vec<_>>(), expected, "{wanted} of {total}");
        }
    }
}
