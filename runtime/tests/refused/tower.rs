//! A stack of rows whose blocks do what a test asks for.

use std::cell::{Cell, RefCell};

use cotangent::random::Key;
use cotangent::{
    Constant, Dtype, Error, Gradients, Keep, Mode, Parameters, Result, Session, Stack, Stored, Tensor, Train,
    Trainable, train_stack,
};

/// The operations of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// `h + tanh(h w)`.
    Plain,
    /// Adds what is drawn from a key that is kept and advanced.
    Draws,
    /// Drops what a key in the batch says.
    DropsByKey,
    /// Skips the second call.
    Skips,
    /// Adds how often it was called, in thousandths.
    Counts,
    /// Returns the first block's input beside its own.
    AddsKept,
    /// Returns what the first block computed.
    ReturnsKept,
    /// Returns rows in another shape every other time.
    Reshapes,
    /// Cuts the way to all before.
    Cuts,
    /// Returns host data.
    Forgets,
    /// Fails when it is run again.
    FailsAgain,
}

#[derive(Parameters)]
pub struct Row<M: Mode> {
    pub w: Tensor<M>,
}

#[derive(Parameters)]
pub struct Start<M: Mode> {
    pub start: Tensor<M>,
}

#[derive(Parameters)]
pub struct End<M: Mode> {
    pub end: Tensor<M>,
}

#[derive(Parameters)]
pub struct Rows<M: Mode = Stored> {
    pub start: Tensor<M>,
    pub layers: Vec<Row<M>>,
    pub end: Tensor<M>,
}

pub const ROWS: i32 = 6;
pub const WIDTH: i32 = 16;

thread_local! {
    pub static CALLS: Cell<u32> = const { Cell::new(0) };
    static KEPT: RefCell<Option<Tensor<Train>>> = const { RefCell::new(None) };
    static KEY: RefCell<Option<Key>> = const { RefCell::new(None) };
}

impl Rows {
    pub fn new() -> Self {
        let mut key = Key::new(11).unwrap();
        let mut draw = |shape: &[i32]| {
            let (now, next) = key.split().unwrap();
            key = next;
            now.uniform(-1.0, 1.0, shape).unwrap()
        };
        let start = draw(&[ROWS, WIDTH]);
        Rows { start, layers: (0..3).map(|_| Row { w: draw(&[WIDTH]) }).collect(), end: draw(&[WIDTH]) }
    }

    /// Gradients of the parameters that `select` picks.
    pub fn train(&self, does: Does, keep: Keep, select: impl Fn(&str) -> bool) -> Result<Gradients> {
        CALLS.set(0);
        KEPT.take();
        KEY.set(Some(Key::new(3)?));
        let trainable = Trainable::new(self, select)?;
        let mut gradients = Gradients::new();
        let batch = (does, Key::new(5)?);
        train_stack(&mut Session::new()?, self, &trainable, &batch, keep, &mut gradients)?.item::<f32>()?;
        Ok(gradients)
    }
}

impl Stack for Rows {
    type Batch = (Does, Key);
    type State = Tensor<Train>;
    type Embedding = Start<Stored>;
    type Block = Row<Stored>;
    type Head = End<Stored>;

    const BLOCKS: &'static str = "layers";

    fn embedding(&self) -> Start<Stored> {
        Start { start: self.start.clone() }
    }

    fn blocks(&self) -> &[Row<Stored>] {
        &self.layers
    }

    fn head(&self) -> End<Stored> {
        End { end: self.end.clone() }
    }

    fn embed(embedding: &Start<Train>, _: &(Does, Key)) -> Result<Tensor<Train>> {
        embedding.start.multiply(2.0)
    }

    fn forward(block: &Row<Train>, hidden: &Tensor<Train>, (does, key): &(Does, Key)) -> Result<Tensor<Train>> {
        let call = CALLS.replace(CALLS.get() + 1);
        let branch = hidden.multiply(&block.w)?.tanh()?;
        let plain = hidden.add(&branch)?;
        let kept = || KEPT.with_borrow(|kept| kept.clone().expect("the first block keeps something"));
        match does {
            Does::Plain => Ok(plain),
            Does::Draws => {
                let (now, next) = KEY.take().expect("there is a key").split()?;
                KEY.set(Some(next));
                hidden.add(&branch.multiply(&Constant::from_stored(&now.uniform(0.0, 2.0, hidden.shape())?)?)?)
            }
            Does::DropsByKey => hidden.add(&branch.dropout(key, 0.5)?),
            Does::Skips if call == 1 => Ok(hidden.clone()),
            Does::Skips => Ok(plain),
            Does::Counts => plain.add(1e-3 * call as f32),
            Does::AddsKept | Does::ReturnsKept => {
                if call.is_multiple_of(3) {
                    KEPT.set(Some(plain.clone()));
                }
                match (call % 3 == 2, does) {
                    (true, Does::AddsKept) => plain.add(&kept()),
                    (true, _) => kept().multiply(2.0),
                    _ => Ok(plain),
                }
            }
            Does::Reshapes if call > 2 => plain.reshape(&[1, ROWS, WIDTH]),
            Does::Reshapes => Ok(plain),
            Does::Cuts => plain.detach("the test cuts the way").to_tensor::<Train>().multiply(1.0),
            Does::Forgets => Ok(Constant::full(hidden.shape(), 1.0, Dtype::F32)?.to_tensor()),
            Does::FailsAgain if call > 2 => Err(Error::Other("the second time".into())),
            Does::FailsAgain => Ok(plain),
        }
    }

    fn loss(head: &End<Train>, hidden: &Tensor<Train>, _: &(Does, Key)) -> Result<Tensor<Train>> {
        hidden.multiply(&head.end)?.square()?.sum_all()
    }
}

/// The gradients of a step that fails after those of the head were added.
pub fn failing_in_the_backward_pass() -> (Gradients, Error) {
    CALLS.set(0);
    let rows = Rows::new();
    let trainable = Trainable::new(&rows, |_| true).unwrap();
    let (mut gradients, mut session) = (Gradients::new(), Session::new().unwrap());
    let batch = (Does::FailsAgain, Key::new(5).unwrap());
    let error = train_stack(&mut session, &rows, &trainable, &batch, Keep::BlockInputs, &mut gradients).unwrap_err();
    (gradients, error)
}
