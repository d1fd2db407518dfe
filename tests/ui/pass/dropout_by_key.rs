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

impl Stack for Model<Stored> {
    type Batch = Key;
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

    fn embed(ends: &Ends<Train>, _: &Key) -> Result<Tensor<Train>> {
        ends.start.multiply(2.0)
    }

    fn forward(block: &Block<Train>, hidden: &Tensor<Train>, key: &Key) -> Result<Tensor<Train>> {
        hidden.multiply(&block.w)?.dropout(key, 0.5)
    }

    fn loss(ends: &Ends<Train>, hidden: &Tensor<Train>, _: &Key) -> Result<Tensor<Train>> {
        hidden.multiply(&ends.start)?.sum_all()
    }
}

pub fn main() -> Result<()> {
    let tensor = || Tensor::from_slice(&[1.0_f32; 64], &[64]);
    let model: Model<Stored> = Model { start: tensor()?, layers: vec![Block { w: tensor()? }] };
    let trainable = Trainable::new(&model, |_| true)?;
    let mut session = Session::new()?;
    let gradients = |session: &mut Session, keep, step| -> Result<Vec<f32>> {
        let (mut gradients, key) = (Gradients::new(), Key::new(0)?.fold(step)?);
        train_stack(session, &model, &trainable, &key, keep, &mut gradients)?;
        gradients.get("layers.0.w").unwrap().to_vec()
    };
    let again = gradients(&mut session, Keep::BlockInputs, 1)?;
    assert_eq!(again, gradients(&mut session, Keep::All, 1)?);
    assert_ne!(again, gradients(&mut session, Keep::All, 2)?);
    Ok(())
}
