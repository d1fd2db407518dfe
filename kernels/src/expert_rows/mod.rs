//! Rows of tokens on their way to the experts that a router chose for them, and back.
//!
//! Every token has a row for each of its experts. The rows are in the order of the experts, so that an expert's rows
//! are neighbours. Rows are only moved and added here. Both directions gather and neither scatters, so sums have the
//! same order in every run.

mod fused;

use cotangent::{Error, Graph, Indices, Result, Tensor, VjpCase, custom_vjp};

pub use fused::{spread_rows, summed_rows};

/// The assignment of rows to tokens, for one choice of experts. Cloning shares the memory.
#[derive(Debug, Clone)]
pub struct ExpertRows {
    /// The number of rows of each expert: `[experts]`.
    counts: Indices,
    /// The choice that each row is of, row-major in `[N, S]`: `[N S]`.
    choices: Indices,
    /// The row of each choice: `[N, S]`.
    rows: Indices,
    /// The number of tokens, N.
    count: i32,
    /// The number of experts of a token, S.
    per_token: i32,
}

impl ExpertRows {
    /// Sorts the choices `[N, S]`: the numbers of the S experts of each of N tokens, below `experts`.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there are two axes, [`Error::IndexOutOfRange`] if there is no such expert.
    pub fn new(chosen: &Indices, experts: i32) -> Result<Self> {
        let &[count, per_token] = chosen.shape() else {
            let found = format!("{:?}", chosen.shape());
            return Err(Error::Shape {
                operation: "ExpertRows::new",
                found,
                expected: "[tokens, experts of each]".into(),
            });
        };
        let choices = chosen.sort_order()?;
        Ok(ExpertRows {
            counts: chosen.occurrences(experts)?,
            rows: choices.sort_order()?.reshape(&[count, per_token])?,
            choices,
            count,
            per_token,
        })
    }

    /// Returns the number of rows of each expert, in the order of the experts: `[experts]`.
    pub fn counts(&self) -> &Indices {
        &self.counts
    }
}

custom_vjp! {
    /// d_x is the sum of the gradients of a token's rows.
    static SPREAD: ExpertRows = "spread_to_experts" {
        inputs: [x],
        outputs: [rows],
        forward: |[x], rows| Ok(vec![spread_rows(x, &rows.choices, rows.per_token as usize)?]),
        backward: |_, [d_rows], _, rows| Ok(vec![summed_rows(d_rows, &rows.rows)?]),
        cases: [VjpCase::new(&[&[4, 3]], example()?)],
    }
}

custom_vjp! {
    /// The gradient of a row is that of its token.
    static GATHER: ExpertRows = "gather_from_experts" {
        inputs: [rows],
        outputs: [y],
        forward: |[values], rows| Ok(vec![summed_rows(values, &rows.rows)?]),
        backward: |_, [d_y], _, rows| Ok(vec![spread_rows(d_y, &rows.choices, rows.per_token as usize)?]),
        cases: [VjpCase::new(&[&[8, 3]], example()?)],
    }
}

custom_vjp! {
    /// The gradient of a weight is that of its row, because each choice has one row.
    static WEIGHTS: ExpertRows = "weights_of_rows" {
        inputs: [weights],
        outputs: [of_rows],
        forward: |[weights], rows| Ok(vec![weights.reshape(&[-1])?.take_rows(&rows.choices)?]),
        backward: |_, [d_of_rows], _, rows| Ok(vec![d_of_rows.take_rows(&rows.rows)?]),
        cases: [VjpCase::new(&[&[4, 2]], example()?)],
    }
}

/// Four tokens with two of three experts each, of which one has no row and one has half of all.
fn example() -> Result<ExpertRows> {
    ExpertRows::new(&Indices::from_slice(&[2, 0, 2, 0, 0, 2, 2, 0], &[4, 2])?, 3)
}

/// Returns a row of `x` `[N, width]` for each choice: `[N S, width]`, in the order of the experts.
///
/// # Errors
/// [`Error::Shape`] unless there are as many tokens as the choices are of.
pub fn spread_to_experts<M: Graph>(x: &Tensor<M>, rows: &ExpertRows) -> Result<Tensor<M>> {
    expect("spread_to_experts", x, [rows.count, x.dimension(-1)])?;
    Ok(custom_vjp(&SPREAD, &[x], rows)?.swap_remove(0))
}

/// Returns the sum of each token's rows `[N S, width]`: `[N, width]`.
///
/// # Errors
/// [`Error::Shape`] unless the rows are those of the choices.
pub fn gather_from_experts<M: Graph>(values: &Tensor<M>, rows: &ExpertRows) -> Result<Tensor<M>> {
    expect("gather_from_experts", values, [rows.count * rows.per_token, values.dimension(-1)])?;
    Ok(custom_vjp(&GATHER, &[values], rows)?.swap_remove(0))
}

/// Returns the weights `[N, S]` of the choices as weights of the rows: `[N S]`, in the order of the experts.
///
/// # Errors
/// [`Error::Shape`] unless there is a weight for each choice.
pub fn weights_of_rows<M: Graph>(weights: &Tensor<M>, rows: &ExpertRows) -> Result<Tensor<M>> {
    expect("weights_of_rows", weights, [rows.count, rows.per_token])?;
    Ok(custom_vjp(&WEIGHTS, &[weights], rows)?.swap_remove(0))
}

fn expect<M: Graph>(operation: &'static str, tensor: &Tensor<M>, shape: [i32; 2]) -> Result<()> {
    if tensor.shape() == shape {
        return Ok(());
    }
    Err(Error::Shape { operation, found: format!("{:?}", tensor.shape()), expected: format!("{shape:?}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotangent::{Constant, Infer, Session, Stored};

    #[test]
    fn rows_of_an_expert_are_neighbours_and_find_their_way_back() {
        let mut session = Session::new().unwrap();
        let x = Tensor::<Stored>::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[4, 1]).unwrap();
        let spread = |x: &Tensor<Infer>, _: &Tensor<Infer>, rows: &ExpertRows| spread_to_experts(x, rows);
        let rows = example().unwrap();
        let found = session.infer(&x, &x, &rows, spread).unwrap();
        // Expert 0 has one row of each token, and so has expert 2.
        assert_eq!(found.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(rows.counts().to_stored(&mut session).unwrap().to_vec::<i32>().unwrap(), [4, 0, 4]);

        let both = |x: &Tensor<Infer>, _: &Tensor<Infer>, rows: &ExpertRows| {
            let weights = Constant::from_slice(&[1.0, 10.0, 1.0, 10.0, 1.0, 10.0, 1.0, 10.0], &[4, 2])?.to_tensor();
            let weights = weights_of_rows(&weights, rows)?.expand_dims(1)?;
            // Each expert adds another number, which shows whose row it was.
            let own = Constant::from_slice(&[0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2], &[8, 1])?;
            gather_from_experts(&spread_to_experts(x, rows)?.add(&own)?.multiply(&weights)?, rows)
        };
        let found: Vec<f32> = session.infer(&x, &x, &rows, both).unwrap().to_vec().unwrap();
        for (found, expected) in found.iter().zip([12.2, 23.2, 35.1, 45.2]) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }
}
