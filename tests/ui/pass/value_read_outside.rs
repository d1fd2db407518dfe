use cotangent::{Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable, value_and_grad};

#[derive(Parameters)]
struct Model<M: Mode> {
    x: Tensor<M>,
}

/// The largest value stays on the device, where it has a gradient.
fn loss(model: &Model<Train>, _: &()) -> Result<Tensor<Train>> {
    model.x.divide(&model.x.max_keep(&[0])?)?.sum_all()
}

fn train(session: &mut Session, model: &Model<Stored>, trainable: &Trainable) -> Result<f32> {
    let (loss, _) = value_and_grad(session, model, trainable, &(), loss)?;
    loss.item()
}

pub fn main() {
    let _ = train;
}
