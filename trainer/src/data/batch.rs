//! Examples in right-padded batches.

use cotangent_kernels::labels_after;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;

use super::{Dataset, Example, Placed};

/// The label of a token that is not to be learned.
pub use cotangent_kernels::IGNORED as IGNORED_LABEL;

/// Batches are shuffled among this many neighbours before they are sorted by length: enough for rows of a batch to be
/// alike, few enough that an epoch does not always meet the same rows together.
const BATCHES_PER_BUCKET: usize = 32;

/// Rows of the same width. Padding is on the right, where no token before it can see it.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenBatch {
    /// Number of rows.
    pub rows: usize,
    /// Tokens of a row, padding included.
    pub width: usize,
    /// `[rows, width]`, row-major: the tokens, then zeros.
    pub input_ids: Vec<i32>,
    /// `[rows, width]`: the token itself if it is learned, else [`IGNORED_LABEL`]. Not shifted: position `t`
    /// predicts the label at `t + 1`.
    pub labels: Vec<i32>,
    /// Tokens of each row without padding.
    pub lengths: Vec<usize>,
    /// Predictions that the loss counts: the weight of this batch's mean loss. At least 1.
    pub targets: usize,
    /// The pictures of each row, in order.
    pub pictures: Vec<Vec<Placed>>,
}

/// The numbers of predictions that losses count, in a batch or in all batches of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Targets {
    /// The predictions of the next token.
    pub next: usize,
    /// The predictions of the token after the next: in each row one less than of the next, if the row begins with
    /// targets.
    pub after_next: usize,
}

impl std::iter::Sum for Targets {
    fn sum<I: Iterator<Item = Self>>(batches: I) -> Self {
        batches.fold(Targets::default(), |sum, batch| Targets {
            next: sum.next + batch.next,
            after_next: sum.after_next + batch.after_next,
        })
    }
}

/// The order in which an epoch visits the examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Shortest first, the same every time: for validation.
    ByLength,
    /// Shuffled, by seed and epoch alone.
    Shuffled {
        /// The seed of the run.
        seed: u64,
        /// The epoch, counted from 0.
        epoch: u64,
    },
}

impl TokenBatch {
    /// One row, of which nothing is learned and nothing is padded.
    pub fn from_prompt(prompt: &Example) -> Self {
        let width = prompt.tokens.len();
        TokenBatch {
            rows: 1,
            width,
            input_ids: prompt.tokens.iter().map(|token| token.cast_signed()).collect(),
            labels: vec![IGNORED_LABEL; width],
            lengths: vec![width],
            targets: 0,
            pictures: vec![prompt.pictures.clone()],
        }
    }

    /// Tokens without padding.
    pub fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// The labels of the tokens that lie `places` further on, row after row: what each token predicts. The last ones of a
    /// row predict nothing.
    pub fn labels_after(&self, places: usize) -> Vec<i32> {
        labels_after(&self.labels, self.width, places)
    }

    /// Returns the number of predictions that the losses count.
    pub fn counted(&self) -> Targets {
        let after_next = self.labels_after(2).into_iter().filter(|label| *label != IGNORED_LABEL).count();
        Targets { next: self.targets, after_next }
    }
}

impl Dataset {
    /// The rows of each batch of one epoch, as indices of examples. Every example appears exactly once; the last batch,
    /// or one among them, may be smaller.
    ///
    /// # Panics
    /// If `batch_size` is 0.
    pub fn plan_epoch(&self, batch_size: usize, order: Order) -> Vec<Vec<usize>> {
        assert!(batch_size > 0, "a batch needs at least one row");
        let length = |index: &usize| self.examples[*index].tokens.len();
        let mut indices: Vec<usize> = (0..self.examples.len()).collect();
        match order {
            Order::ByLength => {
                indices.sort_by_key(length);
                indices.chunks(batch_size).map(<[usize]>::to_vec).collect()
            }
            Order::Shuffled { seed, epoch } => {
                let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ epoch);
                indices.shuffle(&mut rng);
                for bucket in indices.chunks_mut(batch_size * BATCHES_PER_BUCKET) {
                    bucket.sort_by_key(length);
                }
                let mut batches: Vec<Vec<usize>> = indices.chunks(batch_size).map(<[usize]>::to_vec).collect();
                batches.shuffle(&mut rng);
                batches
            }
        }
    }

    /// Puts the examples with the given indices into a batch, padded to one of a small set of widths.
    ///
    /// # Panics
    /// If `indices` is empty or names an example that does not exist.
    pub fn batch(&self, indices: &[usize]) -> TokenBatch {
        let examples: Vec<&Example> = indices.iter().map(|index| &self.examples[*index]).collect();
        let longest = examples.iter().map(|example| example.tokens.len()).max();
        let longest = longest.expect("a batch needs at least one row");
        let width = padded_width(longest, self.max_seq_length());
        let mut batch = TokenBatch {
            rows: examples.len(),
            width,
            input_ids: Vec::with_capacity(examples.len() * width),
            labels: Vec::with_capacity(examples.len() * width),
            lengths: examples.iter().map(|example| example.tokens.len()).collect(),
            targets: examples.iter().map(|example| example.targets()).sum(),
            pictures: examples.iter().map(|example| example.pictures.clone()).collect(),
        };
        for (row, example) in examples.iter().enumerate() {
            for (token, is_target) in example.tokens.iter().zip(&example.is_target) {
                let id = token.cast_signed();
                batch.input_ids.push(id);
                batch.labels.push(if *is_target { id } else { IGNORED_LABEL });
            }
            batch.input_ids.resize((row + 1) * width, 0);
            batch.labels.resize((row + 1) * width, IGNORED_LABEL);
        }
        batch
    }
}

/// The smallest width of a row for `length` tokens. Each width is a shape to compile for, so there are few: multiples
/// of 16, and from 128 on four to each doubling, so that padding adds less than a quarter. Never above `limit`.
fn padded_width(length: usize, limit: usize) -> usize {
    let step = (length.next_power_of_two() / 8).max(16);
    length.next_multiple_of(step).min(limit.max(length))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// An example with the tokens 1, 2, 3 ..., of which the last `targets` are learned.
    fn example(length: usize, targets: usize) -> Example {
        let tokens = (1..=length as u32).collect();
        Example { tokens, is_target: (0..length).map(|i| i + targets >= length).collect(), pictures: Vec::new() }
    }

    fn dataset(examples: Vec<Example>, limit: usize) -> Dataset {
        Dataset::from_examples(Path::new("train.jsonl"), examples, limit).unwrap()
    }

    #[test]
    fn rows_are_padded_on_the_right_and_labelled_where_something_is_to_be_learned() {
        let batch = dataset(vec![example(3, 1), example(5, 2)], 5).batch(&[0, 1]);
        assert_eq!((batch.rows, batch.width), (2, 5));
        assert_eq!(batch.input_ids, [1, 2, 3, 0, 0, 1, 2, 3, 4, 5]);
        assert_eq!(batch.labels, [-100, -100, 3, -100, -100, -100, -100, -100, 4, 5]);
        assert_eq!(batch.lengths, [3, 5]);
        assert_eq!((batch.targets, batch.tokens()), (3, 8));
    }

    #[test]
    fn a_first_token_is_predicted_by_nothing_and_does_not_count() {
        assert_eq!(dataset(vec![example(2, 2)], 8).batch(&[0]).targets, 1);
    }

    #[test]
    fn what_is_cut_or_skipped_is_counted_and_said() {
        let data = dataset(vec![example(10, 3), example(6, 5), example(4, 0), example(4, 4)], 6);
        assert_eq!((data.examples.len(), data.truncated, data.skipped), (2, 1, 2));
        assert_eq!(
            data.warnings(),
            [
                "`train.jsonl`: cut 1 of 4 conversations at 6 tokens (the longest has 10)",
                "`train.jsonl`: left out 2 of 4 conversations, which have nothing to learn",
            ]
        );
    }

    #[test]
    fn a_data_set_with_nothing_to_learn_is_an_error() {
        let error = Dataset::from_examples(Path::new("train.jsonl"), vec![example(10, 3)], 6).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`train.jsonl`: none of its 1 conversations has anything of the assistant within the first 6 tokens\n\
             help: add messages of the assistant, or raise the maximum sequence length"
        );
    }

    #[test]
    fn widths_are_few_and_padding_stays_below_a_quarter() {
        let widths: Vec<usize> = (1..=4096).map(|length| padded_width(length, 4096)).collect();
        assert!((1..=4096).zip(&widths).all(|(length, width)| (length..=length.max(16) * 5 / 4 + 15).contains(width)));
        let mut distinct = widths;
        distinct.dedup();
        assert_eq!(distinct[..14], [16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384]);
        assert_eq!(distinct.len(), 28);
        assert_eq!(padded_width(900, 1000), 1000);
    }

    proptest! {
        #[test]
        fn an_epoch_visits_every_example_once_and_depends_on_seed_and_epoch_alone(
            lengths in prop::collection::vec(2usize..200, 1..300),
            batch_size in 1usize..9,
            seed in any::<u64>(),
            epoch in 0u64..4,
        ) {
            let data = dataset(lengths.iter().map(|length| example(*length, 1)).collect(), 200);
            for order in [Order::ByLength, Order::Shuffled { seed, epoch }] {
                let plan = data.plan_epoch(batch_size, order);
                prop_assert_eq!(&plan, &data.plan_epoch(batch_size, order));
                prop_assert_eq!(plan.len(), lengths.len().div_ceil(batch_size));
                let mut visited = plan.concat();
                visited.sort_unstable();
                prop_assert!(visited.into_iter().eq(0..lengths.len()));
            }
        }
    }

    #[test]
    fn epochs_differ_and_sorting_within_buckets_saves_padding() {
        let lengths = (0..512).map(|i| 2 + (i * 37) % 400);
        let data = dataset(lengths.map(|length| example(length, 1)).collect(), 512);
        let shuffled = |epoch| data.plan_epoch(4, Order::Shuffled { seed: 1, epoch });
        assert_ne!(shuffled(0), shuffled(1));

        let waste = |plan: &[Vec<usize>]| {
            let batches: Vec<TokenBatch> = plan.iter().map(|rows| data.batch(rows)).collect();
            let padded: usize = batches.iter().map(|batch| batch.rows * batch.width).sum();
            let tokens: usize = batches.iter().map(TokenBatch::tokens).sum();
            1.0 - tokens as f64 / padded as f64
        };
        let in_file_order: Vec<Vec<usize>> = (0..512).collect::<Vec<_>>().chunks(4).map(<[usize]>::to_vec).collect();
        assert!(waste(&shuffled(0)) < 0.5 * waste(&in_file_order), "{} {}", waste(&shuffled(0)), waste(&in_file_order));
    }
}
