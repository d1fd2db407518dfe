use cotangent::{Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable, value_and_grad};

#[derive(Parameters)]
struct Model<M: Mode> {
    w: Tensor<M>,
}

fn loss(model: &Model<Train>, (): &()) -> Result<Tensor<Train>> {
    let fixed = model.w.detach("a target").to_tensor::<Train>();
    fixed.square()?.sum_all()
}

fn train() -> Result<()> {
    let model: Model<Stored> = Model { w: Tensor::from_slice(&[1.0_f32, 2.0], &[2])? };
    let trainable = Trainable::new(&model, |_| true)?;
    value_and_grad(&mut Session::new()?, &model, &trainable, &(), loss).map(drop)
}

pub fn main() {
    let error = train().unwrap_err().to_string();
    assert!(error.starts_with("`value_and_grad`: the loss depends on no parameter that trains (`w`)"), "{error}");
    assert!(error.ends_with("[C20]"), "{error}");
}
