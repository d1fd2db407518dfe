//! Gradients of one optimizer step, and validation loss.

use cotangent::{Gradients, Keep, Session, Stored, Trainable, evaluate_stack, train_stack};
use cotangent_models::qwen35::Model;

use super::TrainingOptions;
use super::micro_batches::{BatchMaker, MicroBatches};
use crate::data::{Batch, Dataset, Order};

/// The gradients of some micro-batches together.
#[derive(Debug)]
pub struct Accumulated {
    /// Mean loss of the counted tokens of all micro-batches.
    pub loss: f64,
    /// Its gradients.
    pub gradients: Gradients,
    /// Predictions that the loss counts.
    pub targets: usize,
    /// Tokens without padding.
    pub tokens: usize,
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
    batches: &[Batch],
    keep: Keep,
) -> cotangent::Result<Accumulated> {
    let targets: usize = batches.iter().map(|batch| batch.targets).sum();
    let tokens = batches.iter().map(Batch::tokens).sum();
    let mut accumulated = Accumulated { loss: 0.0, gradients: Gradients::new(), targets, tokens };
    for batch in batches {
        let batch = maker.make(batch, 1.0 / targets as f64)?;
        let loss = train_stack(session, model, trainable, &batch, keep, &mut accumulated.gradients)?;
        accumulated.loss += f64::from(loss.item::<f32>()?);
    }
    Ok(accumulated)
}

/// The mean loss of the counted tokens of `dataset`, or of `batches` of its batches, spread evenly from the shortest
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
) -> cotangent::Result<Option<f64>> {
    let plan = dataset.plan_epoch(batch_size, Order::ByLength);
    let (mut sum, mut targets) = (0.0, 0);
    for index in spread(plan.len(), batches.unwrap_or(plan.len())) {
        if interrupted() {
            return Ok(None);
        }
        let batch = dataset.batch(&plan[index]);
        let mean = evaluate_stack(session, model, &maker.make(&batch, 1.0 / batch.targets as f64)?)?;
        sum += f64::from(mean.item::<f32>()?) * batch.targets as f64;
        targets += batch.targets;
    }
    Ok(Some(sum / targets as f64))
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
    let batch = maker.make(&batch, 1.0 / batch.targets as f64)?;
    Ok(f64::from(evaluate_stack(session, model, &batch)?.item::<f32>()?))
}

/// At most `wanted` of `0..total`, at equal distances, in the middle of what each stands for.
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
