//! Kernels declared outside the crates of the workspace: they run, differentiate by their own backward, and refuse what
//! does not fit.

use cotangent::kernel::{self, check};
use cotangent::{Constant, Graph, Indices, Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable};
use cotangent::{differentiable, value_and_grad};

/// `y = scale * x * w`, each row with the weight its index names.
#[differentiable(
    backward = scaled_rows_backward,
    fallback = scaled_rows_by_operations,
    cases = [(B = 3, D = 5, V = 4), (B = 1, D = 2, V = 1)],
)]
pub fn scaled_rows<T: F32 + BF16>(
    x: In![T; B, D],
    w: In![T; V, D],
    #[values(0..V)] rows: In![i32; B],
    #[nodiff] offset: In![T; D],
    scale: f32,
    y: Out![T; B, D],
    norm: Out![T; B],
    #[saved] chosen: Out![T; B, D],
) {
    let chosen = w.take_rows(rows)?;
    let y = x.multiply(&chosen)?.multiply(scale)?.add(offset)?;
    let norm = x.square()?.sum(&[1])?;
    Ok(Outputs { y, norm, chosen })
}

#[differentiable(backward_of = scaled_rows)]
pub fn scaled_rows_backward<T: F32 + BF16>(
    x: In![T; B, D],
    w: In![T; V, D],
    #[values(0..V)] rows: In![i32; B],
    chosen: In![T; B, D],
    scale: f32,
    d_y: In![T; B, D],
    d_norm: In![T; B],
    d_x: Out![T; B, D],
    d_w: Out![T; V, D],
) {
    let through_y = d_y.multiply(chosen)?.multiply(scale)?;
    let through_norm = x.multiply(2.0)?.multiply(&d_norm.expand_dims(1)?)?;
    let d_w = if wants_d_w {
        // Each row of `w` gets a row of zeros and ones, which is small enough for a test.
        let mut sums = Vec::new();
        let terms = d_y.multiply(x)?.multiply(scale)?;
        let one_hot = w.multiply(0.0)?.sum(&[1])?;
        for row in 0..V {
            let selected = one_hot_of(&one_hot, rows, row, V)?;
            sums.push(terms.multiply(&selected.expand_dims(1)?)?.sum(&[0])?);
        }
        let sums: Vec<_> = sums.iter().collect();
        Some(Tensor::stack(&sums, 0)?)
    } else {
        None
    };
    Ok(Outputs { d_x: Some(through_y.add(&through_norm)?), d_w })
}

/// One where `rows` is `row`, of `count` rows; `zeros` has one zero for each.
fn one_hot_of<M: Graph>(zeros: &Tensor<M>, rows: &Indices, row: i32, count: i32) -> Result<Tensor<M>> {
    let values: Vec<f32> = (0..count).map(|other| if other == row { 1.0 } else { 0.0 }).collect();
    zeros.add(&Constant::from_slice(&values, &[count])?.cast(zeros.dtype())?)?.take_rows(rows)
}

fn scaled_rows_by_operations<M: Graph>(inputs: ScaledRowsInputs<'_, M>) -> Result<ScaledRowsOutputs<M>> {
    let ScaledRowsInputs { x, w, rows, offset, scale } = inputs;
    let y = x.multiply(&w.take_rows(rows)?)?.multiply(scale)?.add(offset)?;
    Ok(ScaledRowsOutputs { y, norm: x.square()?.sum(&[1])? })
}

#[test]
fn every_kernel_of_the_program_has_the_gradient_it_declares() {
    let mut session = Session::new().unwrap();
    let kernels = kernel::kernels();
    assert!(kernels.iter().any(|kernel| kernel.signature.name == "scaled_rows"));
    for kernel in kernels {
        let report = check::check(&mut session, kernel).unwrap();
        println!("{report}");
        assert!(report.passed(), "{report}");
    }
}

#[derive(Parameters)]
struct Model<M: Mode> {
    x: Tensor<M>,
    w: Tensor<M>,
}

struct Batch {
    rows: Indices,
    offset: Constant,
}

fn model() -> Model<Stored> {
    Model {
        x: Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2]).unwrap(),
        w: Tensor::from_slice(&[0.5_f32, 1.5, -1.0, 2.0], &[2, 2]).unwrap(),
    }
}

fn loss(model: &Model<Train>, batch: &Batch) -> Result<Tensor<Train>> {
    let outputs = scaled_rows(ScaledRowsInputs {
        x: &model.x,
        w: &model.w,
        rows: &batch.rows,
        offset: &batch.offset,
        scale: 2.0,
    })?;
    outputs.y.sum(&[0, 1])?.add(&outputs.norm.sum(&[0])?)
}

#[test]
fn the_declared_backward_is_what_a_training_step_runs() {
    let mut session = Session::new().unwrap();
    let model = model();
    let batch = Batch {
        rows: Indices::from_slice(&[1, 1], &[2]).unwrap(),
        offset: Constant::from_slice(&[10.0, 20.0], &[2]).unwrap(),
    };
    let trainable = Trainable::new(&model, |_| true).unwrap();
    let (value, gradients) = value_and_grad(&mut session, &model, &trainable, &batch, loss).unwrap();
    // y = 2 x w[1] + offset: [[8, 28], [4, 36]]; norm = [5, 25].
    assert_eq!(value.item::<f32>().unwrap(), 8.0 + 28.0 + 4.0 + 36.0 + 30.0);
    assert_eq!(gradients.get("x").unwrap().to_vec::<f32>().unwrap(), [0.0, 8.0, 4.0, 12.0]);
    assert_eq!(gradients.get("w").unwrap().to_vec::<f32>().unwrap(), [0.0, 0.0, 8.0, 12.0]);

    let only_x = Trainable::new(&model, |name| name == "x").unwrap();
    let (_, gradients) = value_and_grad(&mut session, &model, &only_x, &batch, loss).unwrap();
    assert_eq!(gradients.len(), 1);
    assert_eq!(gradients.get("x").unwrap().to_vec::<f32>().unwrap(), [0.0, 8.0, 4.0, 12.0]);
}

#[test]
fn what_does_not_fit_the_signature_is_an_error_that_names_kernel_and_port() {
    let mut session = Session::new().unwrap();
    let rows = Indices::from_slice(&[0, 1, 0], &[3]).unwrap();
    let offset = Constant::from_slice(&[10.0, 20.0], &[2]).unwrap();
    let error = session
        .infer(&model(), &model(), &Batch { rows, offset }, |model, _, batch| {
            scaled_rows(ScaledRowsInputs {
                x: &model.x,
                w: &model.w,
                rows: &batch.rows,
                offset: &batch.offset,
                scale: 2.0,
            })
            .map(|outputs| outputs.y)
        })
        .map(|_: Tensor<Stored>| ())
        .unwrap_err();
    assert_eq!(error.to_string(), "kernel `scaled_rows`, port `rows`: found shape [3], expected [B] = [2]");
}
