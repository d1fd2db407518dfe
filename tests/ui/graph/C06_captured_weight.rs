use cotangent::{Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable, value_and_grad};

#[derive(Parameters)]
struct Model<M: Mode> {
    weight: Tensor<M>,
}

fn train(session: &mut Session, model: &Model<Stored>, trainable: &Trainable, other: &Tensor<Train>) -> Result<()> {
    value_and_grad(session, model, trainable, &(), |model, _| model.weight.multiply(other)?.sum_all())?;
    Ok(())
}

fn main() {}
