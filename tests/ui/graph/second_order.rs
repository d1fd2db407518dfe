use cotangent::{Graph, Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable, value_and_grad};

#[derive(Parameters)]
struct Model<M: Mode> {
    w: Tensor<M>,
}

fn length<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.square()?.sum_all()
}

fn loss(model: &Model<Train>, _: &()) -> Result<Tensor<Train>> {
    length(&model.w)
}

/// The length of the gradient, to be differentiated once more.
fn penalty(session: &mut Session, model: &Model<Stored>) -> Result<Tensor<Stored>> {
    let trainable = Trainable::new(model, |_| true)?;
    let (_, gradients) = value_and_grad(session, model, &trainable, &(), loss)?;
    length(gradients.get("w").unwrap())
}

fn main() {}
