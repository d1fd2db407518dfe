use std::cell::RefCell;

use cotangent::random::Key;
use cotangent::{
    Gradients, Keep, Mode, Parameters, Result, Session, Stack, Stored, Tensor, Train, Trainable, train_stack,
};

#[derive(Parameters)]
struct Block<M: Mode> {
    w: Tensor<M>,
}

#[derive(Parameters)]
struct Model<M: Mode> {
    start: Tensor<M>,
    layers: Vec<Block<M>>,
}

#[derive(Parameters)]
struct Ends<M: Mode> {
    start: Tensor<M>,
}

thread_local! {
    static KEY: RefCell<Option<Key>> = const { RefCell::new(None) };
}

impl Stack for Model<Stored> {
    type Batch = ();
    type State = Tensor<Train>;
    type Embedding = Ends<Stored>;
    type Block = Block<Stored>;
    type Head = Ends<Stored>;

    const BLOCKS: &'static str = "layers";

    fn embedding(&self) -> Ends<Stored> {
        Ends { start: self.start.clone() }
    }

    fn blocks(&self) -> &[Block<Stored>] {
        &self.layers
    }

    fn head(&self) -> Ends<Stored> {
        self.embedding()
    }

    fn embed(ends: &Ends<Train>, _: &()) -> Result<Tensor<Train>> {
        ends.start.multiply(2.0)
    }

    fn forward(block: &Block<Train>, hidden: &Tensor<Train>, (): &()) -> Result<Tensor<Train>> {
        let (now, next) = KEY.take().expect("a key").split()?;
        KEY.set(Some(next));
        hidden.multiply(&block.w)?.dropout(&now, 0.5)
    }

    fn loss(ends: &Ends<Train>, hidden: &Tensor<Train>, _: &()) -> Result<Tensor<Train>> {
        hidden.multiply(&ends.start)?.sum_all()
    }
}

fn train() -> Result<()> {
    KEY.set(Some(Key::new(0)?));
    let tensor = || Tensor::from_slice(&[1.0_f32; 64], &[64]);
    let model: Model<Stored> = Model { start: tensor()?, layers: vec![Block { w: tensor()? }] };
    let trainable = Trainable::new(&model, |_| true)?;
    train_stack(&mut Session::new()?, &model, &trainable, &(), Keep::BlockInputs, &mut Gradients::new()).map(drop)
}

pub fn main() {
    let error = train().unwrap_err().to_string();
    assert!(error.starts_with("`train_stack`: `layers.0` computed something else when it was run again"), "{error}");
    assert!(error.ends_with("[C22]"), "{error}");
}
