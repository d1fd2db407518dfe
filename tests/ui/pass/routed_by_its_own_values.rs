//! Decisions that depend on values stay on the device: indices choose, masks select, and both are no floats.

use cotangent::{Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable, value_and_grad};

#[derive(Parameters)]
struct Experts<M: Mode> {
    router: Tensor<M>,
    values: Tensor<M>,
}

fn loss(experts: &Experts<Train>, _: &()) -> Result<Tensor<Train>> {
    let chosen = experts.values.take_rows(&experts.router.argmax(0)?.reshape(&[1])?)?;
    let positive = chosen.greater(0.0)?;
    let weight = experts.router.max_keep(&[0])?;
    chosen.select(&positive, &chosen.multiply(0.1)?)?.multiply(&weight)?.sum_all()
}

pub fn main() -> Result<()> {
    let experts: Experts<Stored> = Experts {
        router: Tensor::from_slice(&[0.5_f32, 2.0, 1.0], &[3])?,
        values: Tensor::from_slice(&[1.0_f32, 2.0, 3.0, -4.0, 5.0, 6.0], &[3, 2])?,
    };
    let mut session = Session::new()?;
    let trainable = Trainable::new(&experts, |_| true)?;
    let (value, gradients) = value_and_grad(&mut session, &experts, &trainable, &(), loss)?;
    // The second expert: 2 (3 - 0.4).
    assert!((value.item::<f32>()? - 5.2).abs() < 1e-6);
    let gradient = |name: &str| gradients.get(name).unwrap().to_vec::<f32>();
    assert!(gradient("values")?.iter().zip([0.0, 0.0, 2.0, 0.2, 0.0, 0.0]).all(|(a, b)| (a - b).abs() < 1e-6));
    assert!(gradient("router")?.iter().zip([0.0, 2.6, 0.0]).all(|(a, b)| (a - b).abs() < 1e-6));
    Ok(())
}
