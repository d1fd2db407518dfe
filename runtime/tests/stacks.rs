//! The driver over two stacks of blocks of different types, between whose blocks a tree of tensors flows.

use cotangent::random::Key;
use cotangent::{
    Dtype, Gradients, Keep, Mode, Parameters, Result, Session, Stack, StackStages, Stored, Tensor, Train, Trainable,
    evaluate_stack, train_stack, value_and_grad,
};

/// A block of the first stack: `x tanh(scale)`, and one feature for the second.
#[derive(Parameters)]
struct Scale<M: Mode> {
    scale: Tensor<M>,
}

/// A block of the second stack: `x + silu(x up)`, and a feature of the first, if one is left.
#[derive(Parameters)]
struct Up<M: Mode> {
    up: Tensor<M>,
}

#[derive(Parameters)]
struct Table<M: Mode> {
    table: Tensor<M>,
}

#[derive(Parameters)]
struct Model<M: Mode = Stored> {
    picture: Table<M>,
    tower: Vec<Scale<M>>,
    text: Table<M>,
    layers: Vec<Up<M>>,
}

/// The state that flows between blocks.
#[derive(Parameters)]
struct State<M: Mode> {
    hidden: Tensor<M>,
    features: Vec<Tensor<M>>,
}

#[derive(Parameters)]
struct First<M: Mode> {
    picture: Table<M>,
}

#[derive(Parameters)]
struct Last<M: Mode> {
    text: Table<M>,
}

const ROWS: i32 = 6;
const WIDTH: i32 = 8;

impl Model {
    fn new() -> Self {
        let mut key = Key::new(11).unwrap();
        let mut draw = |shape: &[i32]| {
            let (now, next) = key.split().unwrap();
            key = next;
            now.uniform(-0.7, 0.7, shape).unwrap()
        };
        Model {
            picture: Table { table: draw(&[ROWS, WIDTH]) },
            tower: (0..3).map(|_| Scale { scale: draw(&[WIDTH]) }).collect(),
            text: Table { table: draw(&[ROWS, WIDTH]) },
            layers: (0..4).map(|_| Up { up: draw(&[WIDTH, WIDTH]) }).collect(),
        }
    }
}

fn scaled(block: &Scale<Train>, state: &State<Train>, (): &()) -> Result<State<Train>> {
    let hidden = state.hidden.add(&state.hidden.multiply(&block.scale.silu()?)?)?;
    let mut features = state.features.clone();
    features.push(hidden.multiply(0.3)?);
    Ok(State { hidden, features })
}

fn joined(text: &Table<Train>, state: &State<Train>, (): &()) -> Result<State<Train>> {
    let hidden = text.table.add(&state.hidden)?;
    Ok(State { hidden, features: [&state.features[..1], &state.features[2..]].concat() })
}

impl Stack for Model {
    type Batch = ();
    type State = State<Train>;
    type Embedding = First<Stored>;
    type Block = Up<Stored>;
    type Head = Last<Stored>;

    const BLOCKS: &'static str = "layers";

    fn embedding(&self) -> First<Stored> {
        First { picture: Table { table: self.picture.table.clone() } }
    }

    fn blocks(&self) -> &[Up<Stored>] {
        &self.layers
    }

    fn head(&self) -> Last<Stored> {
        Last { text: Table { table: self.text.table.clone() } }
    }

    fn stages(&self) -> StackStages<'_, Self> {
        StackStages::first("picture", self.embedding(), Self::embed)
            .blocks("tower", &self.tower, scaled)
            .part("text", &self.text, joined)
            .blocks("layers", &self.layers, Self::forward)
    }

    fn embed(first: &First<Train>, (): &()) -> Result<State<Train>> {
        let hidden = first.picture.table.square()?;
        // The state holds one tensor twice, so both of its cotangents count.
        Ok(State { features: vec![hidden.clone()], hidden })
    }

    fn forward(block: &Up<Train>, state: &State<Train>, (): &()) -> Result<State<Train>> {
        let mut hidden = state.hidden.add(&state.hidden.matmul(&block.up)?.silu()?)?;
        let mut features = state.features.clone();
        if !features.is_empty() {
            hidden = hidden.add(&features.remove(0))?;
        }
        Ok(State { hidden, features })
    }

    fn loss(head: &Last<Train>, state: &State<Train>, (): &()) -> Result<Tensor<Train>> {
        state.hidden.multiply(&head.text.table)?.square()?.sum_all()?.cast(Dtype::F32)
    }
}

/// The same model as one function, without the driver.
fn whole(model: &Model<Train>, (): &()) -> Result<Tensor<Train>> {
    let mut state = Model::embed(&First { picture: Table { table: model.picture.table.clone() } }, &())?;
    for block in &model.tower {
        state = scaled(block, &state, &())?;
    }
    state = joined(&model.text, &state, &())?;
    for block in &model.layers {
        state = Model::forward(block, &state, &())?;
    }
    Model::loss(&Last { text: Table { table: model.text.table.clone() } }, &state, &())
}

fn compare(what: &str, found: &Gradients, expected: &Gradients) {
    let names = |gradients: &Gradients| gradients.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}");
    for (name, found) in found.iter() {
        let [found, expected] = [found, expected.get(name).unwrap()].map(|tensor| tensor.to_vec::<f32>().unwrap());
        let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert!(largest > 0.0, "{what}: {name}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= 3e-6 * largest, "{what}: {name}: {found} {expected}");
        }
    }
}

#[test]
fn two_stacks_have_the_gradients_of_one_function() {
    let model = Model::new();
    let mut session = Session::new().unwrap();
    let selections: [(&str, fn(&str) -> bool); 5] = [
        ("all", |_| true),
        ("only the second stack", |name| name.starts_with("layers.")),
        ("only the first stack", |name| name.starts_with("tower.")),
        ("only what feeds the features", |name| name == "tower.1.scale"),
        ("what both share", |name| name == "text.table"),
    ];
    for (what, select) in selections {
        let trainable = Trainable::new(&model, select).unwrap();
        let (loss, expected) = value_and_grad(&mut session, &model, &trainable, &(), whole).unwrap();
        let loss: f32 = loss.item().unwrap();
        for keep in [Keep::All, Keep::BlockInputs, Keep::LastBlocks(2), Keep::LastBlocks(6), Keep::LastBlocks(99)] {
            let mut found = Gradients::new();
            let value = train_stack(&mut session, &model, &trainable, &(), keep, &mut found).unwrap();
            let value: f32 = value.item().unwrap();
            assert!((value - loss).abs() <= 1e-6 * loss, "{what}, {keep:?}: {value} {loss}");
            compare(&format!("{what}, {keep:?}"), &found, &expected);
        }
    }
}

#[test]
fn evaluation_walks_both_stacks() {
    let model = Model::new();
    let mut session = Session::new().unwrap();
    let trainable = Trainable::new(&model, |_| true).unwrap();
    let (loss, _) = value_and_grad(&mut session, &model, &trainable, &(), whole).unwrap();
    let (loss, found): (f32, f32) =
        (loss.item().unwrap(), evaluate_stack(&mut session, &model, &()).unwrap().item().unwrap());
    assert!((loss - found).abs() <= 1e-6 * loss, "{loss} {found}");
}
