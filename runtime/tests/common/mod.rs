//! A two-layer model and a stack of small blocks.

// Each test binary uses only a part of this module.
#![allow(dead_code)]

use cotangent::random::Key;
use cotangent::{
    Constant, Dtype, Gradients, Mode, Parameters, Result, Session, Stack, Stored, Tensor, Train, Trainable,
    value_and_grad,
};

#[derive(Parameters)]
pub struct Pair<M: Mode> {
    pub left: Tensor<M>,
    pub right: Tensor<M>,
}

pub fn pair(left: &[f32], right: &[f32]) -> Pair<Stored> {
    let tensor = |values: &[f32]| Tensor::from_slice(values, &[values.len() as i32]).unwrap();
    Pair { left: tensor(left), right: tensor(right) }
}

/// The gradient of `sum(c * left)` is `c`: a way to any gradient.
pub fn gradients_of(parameters: &Pair<Stored>, left: &[f32], right: &[f32]) -> Gradients {
    let constant = |values: &[f32], like: &Tensor<Stored>| {
        Constant::from_stored(&Tensor::from_slice(values, like.shape()).unwrap()).unwrap()
    };
    let host = (constant(left, &parameters.left), constant(right, &parameters.right));
    let trainable = Trainable::new(parameters, |_| true).unwrap();
    let mut session = Session::new().unwrap();
    value_and_grad(&mut session, parameters, &trainable, &host, |parameters, (left, right)| {
        let left = parameters.left.cast(Dtype::F32)?.multiply(left)?.sum_all()?;
        left.add(&parameters.right.cast(Dtype::F32)?.multiply(right)?.sum_all()?)
    })
    .unwrap()
    .1
}

/// The same values in memory of their own.
pub fn copy(tensor: &Tensor<Stored>) -> Tensor<Stored> {
    Tensor::from_bytes(&tensor.to_bytes().unwrap(), tensor.dtype(), tensor.shape()).unwrap()
}

/// A residual block: `x + silu(x up) down`.
#[derive(Parameters)]
pub struct Block<M: Mode> {
    pub up: Tensor<M>,
    pub down: Tensor<M>,
}

/// Blocks between an embedding and a head that is the same matrix again.
#[derive(Parameters)]
pub struct Tower<M: Mode = Stored> {
    pub table: Tensor<M>,
    pub layers: Vec<Block<M>>,
}

#[derive(Parameters)]
pub struct Table<M: Mode> {
    pub table: Tensor<M>,
}

impl Tower {
    pub fn new(blocks: usize, rows: i32, width: i32, inner: i32) -> Self {
        let mut key = Key::new(7).unwrap();
        let mut draw = |shape: &[i32]| {
            let (now, next) = key.split().unwrap();
            key = next;
            now.uniform(-0.1, 0.1, shape).unwrap()
        };
        Tower {
            table: draw(&[rows, width]),
            layers: (0..blocks).map(|_| Block { up: draw(&[width, inner]), down: draw(&[inner, width]) }).collect(),
        }
    }
}

impl Stack for Tower {
    type Batch = ();
    type State = Tensor<Train>;
    type Embedding = Table<Stored>;
    type Block = Block<Stored>;
    type Head = Table<Stored>;

    const BLOCKS: &'static str = "layers";

    fn embedding(&self) -> Table<Stored> {
        Table { table: self.table.clone() }
    }

    fn blocks(&self) -> &[Block<Stored>] {
        &self.layers
    }

    fn head(&self) -> Table<Stored> {
        self.embedding()
    }

    fn embed(embedding: &Table<Train>, (): &()) -> Result<Tensor<Train>> {
        embedding.table.multiply(2.0)
    }

    fn forward(block: &Block<Train>, hidden: &Tensor<Train>, (): &()) -> Result<Tensor<Train>> {
        hidden.add(&hidden.matmul(&block.up)?.silu()?.matmul(&block.down)?)
    }

    fn loss(head: &Table<Train>, hidden: &Tensor<Train>, (): &()) -> Result<Tensor<Train>> {
        hidden.multiply(&head.table)?.square()?.sum_all()?.cast(Dtype::F32)
    }
}
