//! The examples of a micro-batch: a function of its number alone, so that a run can go on anywhere.

use cotangent::{Indices, Stored};
use cotangent_kernels::Labels;
use cotangent_models::config::RopeConfig;
use cotangent_models::images::Grid;
use cotangent_models::qwen35::{self, Ahead, AheadLoss, Balance, Model};
use cotangent_models::rope::{Positions, Rotary};
use cotangent_models::vision::{Pictures, row_positions};
use std::collections::BTreeMap;

use crate::data::{Dataset, Example, Order, Placed, Targets, TokenBatch, VisionFormat};
use crate::generation::PromptPictures;

/// The micro-batches of epoch after epoch, numbered from 0.
#[derive(Debug)]
pub struct MicroBatches<'a> {
    dataset: &'a Dataset,
    batch_size: usize,
    seed: u64,
    /// The epoch of `plan`.
    epoch: u64,
    plan: Vec<Vec<usize>>,
}

impl<'a> MicroBatches<'a> {
    /// The micro-batches of `dataset` in the order that `seed` gives.
    ///
    /// # Panics
    /// If `batch_size` is 0.
    pub fn new(dataset: &'a Dataset, batch_size: usize, seed: u64) -> Self {
        let plan = dataset.plan_epoch(batch_size, Order::Shuffled { seed, epoch: 0 });
        MicroBatches { dataset, batch_size, seed, epoch: 0, plan }
    }

    /// The number of micro-batches of an epoch.
    pub fn per_epoch(&self) -> usize {
        self.plan.len()
    }

    /// The micro-batch of this number.
    pub fn get(&mut self, number: usize) -> TokenBatch {
        let epoch = (number / self.per_epoch()) as u64;
        if epoch != self.epoch {
            self.plan = self.dataset.plan_epoch(self.batch_size, Order::Shuffled { seed: self.seed, epoch });
            self.epoch = epoch;
        }
        self.dataset.batch(&self.plan[number % self.per_epoch()])
    }
}

/// Turns batches of the data into what the model reads; keeps the tables of positions of text, which few widths share.
#[derive(Debug)]
pub struct BatchMaker {
    rope: RopeConfig,
    /// The picture format of a model with a vision tower.
    vision: Option<VisionFormat>,
    /// The loss of the head of multi-token prediction, if it is trained.
    ahead: Option<AheadLoss>,
    /// The coefficient of the load-balancing loss of routers; 0 for none.
    router_aux_loss: f32,
    tables: BTreeMap<[usize; 3], Rotary>,
}

impl BatchMaker {
    /// Creates a maker for a model with these positions, and with a vision tower if its `vision` is given.
    pub fn new(rope: RopeConfig, vision: Option<VisionFormat>) -> Self {
        BatchMaker { rope, vision, ahead: None, router_aux_loss: 0.0, tables: BTreeMap::new() }
    }

    /// Sets what the head of multi-token prediction learns, if it learns.
    #[must_use]
    pub fn ahead(mut self, ahead: Option<AheadLoss>) -> Self {
        self.ahead = ahead;
        self
    }

    /// Adds the load-balancing loss of the model's routers, multiplied by this coefficient.
    #[must_use]
    pub fn balanced(mut self, coefficient: f32) -> Self {
        self.router_aux_loss = coefficient;
        self
    }

    /// The load-balancing loss of a batch that has so large a share in the tokens of its step.
    ///
    /// # Errors
    /// If the model has no experts.
    pub fn balance(&self, model: &Model<Stored>, batch: &TokenBatch, share: f64) -> cotangent::Result<Option<Balance>> {
        if self.router_aux_loss == 0.0 {
            return Ok(None);
        }
        let is_token: Vec<bool> =
            batch.lengths.iter().flat_map(|length| (0..batch.width).map(move |place| place < *length)).collect();
        Balance::new(model, &is_token, (f64::from(self.router_aux_loss) * share) as f32).map(Some)
    }

    /// Returns how many of these predictions each part of the loss counts.
    pub fn counted(&self, Targets { next, after_next }: Targets) -> [usize; 2] {
        if self.ahead == Some(AheadLoss::Alone) { [after_next, 0] } else { [next, after_next] }
    }

    /// Rows that begin at `start`.
    fn of_text(&mut self, rows: usize, start: usize, width: usize) -> cotangent::Result<Rotary> {
        if let Some(table) = self.tables.get(&[rows, start, width]) {
            return Ok(table.clone());
        }
        let table = Rotary::new(&self.rope, &Positions::text(rows, start, width))?;
        self.tables.insert([rows, start, width], table.clone());
        Ok(table)
    }

    /// The batch for the model, whose summed losses are divided by what they count in the whole step.
    ///
    /// # Errors
    /// If MLX refuses its sizes, or a picture can no longer be read.
    pub fn make(&mut self, batch: &TokenBatch, of_step: Targets) -> cotangent::Result<qwen35::Batch> {
        let (rows, width) = (batch.rows, batch.width);
        let (rotary, next, pictures) = match &self.vision {
            Some(vision) => {
                let ([positions, next], pictures) = with_pictures(vision, batch)?;
                (Rotary::new(&self.rope, &positions)?, Rotary::new(&self.rope, &next)?, Some(pictures))
            }
            None => (self.of_text(rows, 0, width)?, self.of_text(rows, 1, width)?, None),
        };
        let one_over = |count: usize| if count == 0 { 0.0 } else { (1.0 / count as f64) as f32 };
        let ahead = match self.ahead {
            Some(loss) => Some(Ahead {
                rotary: next,
                labels: Labels::from_slice(&batch.labels_after(2))?,
                scale: one_over(of_step.after_next),
                loss,
            }),
            None => None,
        };
        Ok(qwen35::Batch {
            tokens: Indices::from_slice(&batch.input_ids, &[rows as i32, width as i32])?,
            rotary,
            pictures,
            labels: Labels::from_slice(&batch.labels_after(1))?,
            scale: one_over(of_step.next),
            ahead,
            documents: None,
            balance: None,
        })
    }
}

impl VisionFormat {
    /// Returns the pictures of a prompt, and the positions of its tokens.
    ///
    /// # Errors
    /// If a picture can no longer be read.
    pub fn of_prompt(&self, prompt: &Example) -> cotangent::Result<PromptPictures> {
        let batch = TokenBatch::from_prompt(prompt);
        let (_, pictures) = with_pictures(self, &batch)?;
        let grids: Vec<Grid> = prompt.pictures.iter().map(|picture| picture.grid).collect();
        let positions = row_positions(&self.config, &prompt.tokens, &grids).map_err(cotangent::Error::Other)?;
        Ok(PromptPictures { pictures, positions })
    }
}

/// The positions of the tokens of a batch and of those after them, and its pictures.
fn with_pictures(vision: &VisionFormat, batch: &TokenBatch) -> cotangent::Result<([Positions; 2], Pictures)> {
    let fail = cotangent::Error::Other;
    let config = &vision.config;
    let (mut positions, mut patches) = (Vec::new(), Vec::new());
    let mut is_slot = vec![false; batch.rows * batch.width];
    let rows = batch.input_ids.chunks(batch.width).zip(&batch.lengths).zip(&batch.pictures);
    for (row, ((ids, length), pictures)) in rows.enumerate() {
        let ids: Vec<u32> = ids[..*length].iter().map(|id| id.cast_unsigned()).collect();
        let grids: Vec<Grid> = pictures.iter().map(|picture| picture.grid).collect();
        positions.push(row_positions(config, &ids, &grids).map_err(fail)?.tokens);
        for Placed { source, grid, tokens } in pictures {
            for place in tokens.clone() {
                is_slot[row * batch.width + place] = [config.image_token, config.video_token].contains(&ids[place]);
            }
            let made = vision.patches(source).map_err(fail)?;
            if made.grid != *grid {
                return Err(fail(format!("{source}: has another size than when the data were read")));
            }
            patches.push(made);
        }
    }
    let rows: Vec<&[[i32; 3]]> = positions.iter().map(Vec::as_slice).collect();
    let pictures = Pictures::new(config, &is_slot, [batch.rows, batch.width], &patches)?;
    let next: Vec<&[[i32; 3]]> = rows.iter().map(|row| row.get(1..).unwrap_or_default()).collect();
    let positions = [rows, next].map(|rows| Positions::from_rows(&rows, batch.width));
    Ok((positions, pictures))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Example;
    use std::path::Path;

    fn dataset(lengths: &[usize]) -> Dataset {
        let example =
            |length: &usize| Example { tokens: vec![7; *length], is_target: vec![true; *length], pictures: Vec::new() };
        Dataset::from_examples(Path::new("train.jsonl"), lengths.iter().map(example).collect(), 64).unwrap()
    }

    #[test]
    fn a_micro_batch_depends_on_its_number_alone() {
        let data = dataset(&[3, 9, 5, 8, 4, 6, 7]);
        let in_order: Vec<TokenBatch> = {
            let mut batches = MicroBatches::new(&data, 2, 5);
            (0..12).map(|number| batches.get(number)).collect()
        };
        for start in [11, 4, 0, 8] {
            assert_eq!(MicroBatches::new(&data, 2, 5).get(start), in_order[start]);
        }
        let mut lengths: Vec<usize> = in_order[4..8].iter().flat_map(|batch| batch.lengths.clone()).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, [3, 4, 5, 6, 7, 8, 9], "the second epoch visits every example once");
    }

    #[test]
    fn a_place_predicts_the_token_after_it_within_its_row() {
        let batch = TokenBatch {
            rows: 2,
            width: 3,
            input_ids: vec![1, 2, 3, 4, 5, 0],
            labels: vec![1, 2, 3, -100, 5, -100],
            lengths: vec![3, 2],
            targets: 3,
            pictures: vec![Vec::new(); 2],
        };
        assert_eq!(batch.labels_after(1), [2, 3, -100, 5, -100, -100]);
        assert_eq!(batch.labels_after(2), [3, -100, -100, -100, -100, -100]);
        assert_eq!(batch.counted(), Targets { next: 3, after_next: 1 });
    }
}
