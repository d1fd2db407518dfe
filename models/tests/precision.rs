//! Adapters of float32 in a model of 16 bits.

mod common;

use common::{batch, config, model};
use cotangent::random::Key;
use cotangent::{Dtype, Gradients, Keep, Result, Session, Stack, Stored, Tensor, Train, train_stack};
use cotangent_models::qwen35::{Batch, Block, Embedding, Head, LoraOptions, Model, State};

/// The model, whose layers cast their adapters at each use.
struct CastAtEachUse(Model<Stored>);

impl Stack for CastAtEachUse {
    type Batch = Batch;
    type State = State<Train>;
    type Embedding = Embedding<Stored>;
    type Block = Block<Stored>;
    type Head = Head<Stored>;

    const BLOCKS: &'static str = Model::<Stored>::BLOCKS;

    fn embedding(&self) -> Embedding<Stored> {
        self.0.embedding()
    }

    fn blocks(&self) -> &[Block<Stored>] {
        self.0.blocks()
    }

    fn head(&self) -> Head<Stored> {
        self.0.head()
    }

    fn embed(embedding: &Embedding<Train>, batch: &Batch) -> Result<State<Train>> {
        Model::embed(embedding, batch)
    }

    fn forward(block: &Block<Train>, hidden: &State<Train>, batch: &Batch) -> Result<State<Train>> {
        <Model<Stored> as Stack>::forward(block, hidden, batch)
    }

    fn loss(head: &Head<Train>, hidden: &State<Train>, batch: &Batch) -> Result<Tensor<Train>> {
        Model::loss(head, hidden, batch)
    }
}

#[test]
fn adapters_cast_once_a_step_train_as_adapters_cast_at_each_use() {
    let config = config(4);
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32] {
        let mut model = model(&config, dtype);
        let key = Key::new(0).unwrap();
        model.add_adapters(&LoraOptions::default(), &key).unwrap();
        // The second factor begins as zeros, and then the first has no gradient.
        let drawn = model.adapters().into_iter().map(|(name, tensor)| {
            let values = key.uniform(-0.1, 0.1, tensor.shape()).unwrap();
            (name, values)
        });
        model.set_adapters(&drawn.collect()).unwrap();
        let trainable = model.adapters_trainable().unwrap();
        let batch = batch(&config, 16);
        let each = CastAtEachUse(model);
        let mut session = Session::new().unwrap();
        for (keep, batches) in [(Keep::BlockInputs, 1), (Keep::BlockInputs, 2), (Keep::All, 1)] {
            let (mut found, mut expected) = (Gradients::new(), Gradients::new());
            for _ in 0..batches {
                let loss = train_stack(&mut session, &each.0, &trainable, &batch, keep, &mut found).unwrap();
                let again = train_stack(&mut session, &each, &trainable, &batch, keep, &mut expected).unwrap();
                assert_eq!(loss.to_bytes().unwrap(), again.to_bytes().unwrap());
            }
            assert_eq!(found.len(), trainable.len());
            for (name, gradient) in found.iter() {
                let expected = expected.get(name).unwrap();
                assert_eq!(expected.dtype(), Dtype::F32);
                assert_eq!(gradient.dtype(), if batches == 1 { dtype } else { Dtype::F32 });
                let gradient = gradient.cast(Dtype::F32).unwrap();
                assert_eq!(gradient.to_bytes().unwrap(), expected.to_bytes().unwrap(), "{dtype} {keep:?} {name}");
                let largest = gradient.to_vec::<f32>().unwrap().into_iter().fold(0.0_f32, |a, b| a.max(b.abs()));
                assert!(largest > 0.0 && largest.is_finite(), "{dtype} {name} {largest}");
            }
        }
    }
}
