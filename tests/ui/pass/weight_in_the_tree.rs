use cotangent::{Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable, value_and_grad};

#[derive(Parameters)]
struct Model<M: Mode> {
    weight: Tensor<M>,
    other: Tensor<M>,
}

fn loss(model: &Model<Train>, _: &()) -> Result<Tensor<Train>> {
    model.weight.multiply(&model.other)?.sum_all()
}

fn train(session: &mut Session, model: &Model<Stored>, trainable: &Trainable) -> Result<()> {
    value_and_grad(session, model, trainable, &(), loss)?;
    Ok(())
}

pub fn main() {
    let _ = train;
}
