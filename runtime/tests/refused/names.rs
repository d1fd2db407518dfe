//! A parameter that trains has one name, and a name one parameter.

use cotangent::optimizer::{AdamW, AdamWOptions};
use cotangent::{
    Gradients, Keep, Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable, evaluate, train_stack,
    value_and_grad,
};

use crate::common::{Pair, Tower, copy, pair};
use crate::{example, refused, run, values};

fn square(p: &Pair<Train>, (): &()) -> Result<Tensor<Train>> {
    p.left.multiply(&p.right)?.sum_all()
}

#[test]
fn a_selection_picks_something_that_is_there() {
    let parameters = example();
    refused(Trainable::new(&parameters, |name| name.contains("lora")), "Trainable::new", "C20", &["`left`, `right`"]);
    refused(Trainable::new(&Vec::<Pair<Stored>>::new(), |_| true), "Trainable::new", "C20", &["none"]);
    let train = |trainable: &Trainable| value_and_grad(&mut Session::new()?, &parameters, trainable, &(), square);
    refused(train(&Trainable::default()), "value_and_grad", "C20", &["evaluate"]);
    refused(train(&Trainable::named([])), "value_and_grad", "C20", &["`left`, `right`"]);
    let named = |names: &[&str]| Trainable::named(names.iter().map(|name| (*name).to_owned()));
    for names in [&["left", "rihgt"] as &[&str], &["rihgt"], &["left", "right", "layers.0.rihgt"]] {
        refused(train(&named(names)), "value_and_grad", "C21", &["rihgt` is to train", "`left`"]);
    }
    assert_eq!(train(&named(&["right"])).unwrap().1.len(), 1);
    let loss = evaluate(&mut Session::new().unwrap(), &parameters, &(), square).unwrap();
    assert_eq!(loss.item::<f32>().unwrap(), 32.0);
}

#[derive(Parameters)]
struct Inner<M: Mode> {
    w: Tensor<M>,
}

#[derive(Parameters)]
struct Other<M: Mode> {
    w: Tensor<M>,
}

/// Two leaves called `x.w`, further down than the compiler looks.
#[derive(Parameters)]
struct Twice<M: Mode> {
    #[parameters(rename = "x")]
    first: Inner<M>,
    #[parameters(rename = "x")]
    second: Other<M>,
}

fn twice(first: Tensor<Stored>, second: Tensor<Stored>) -> Twice<Stored> {
    Twice { first: Inner { w: first }, second: Other { w: second } }
}

fn weighted(p: &Twice<Train>, (): &()) -> Result<Tensor<Train>> {
    p.first.w.multiply(3.0)?.add(&p.second.w.multiply(5.0)?)?.sum_all()
}

fn one(value: f32) -> Tensor<Stored> {
    Tensor::from_slice(&[value], &[1]).unwrap()
}

#[test]
fn two_tensors_have_two_names() {
    let mut tree = twice(one(1.0), one(2.0));
    refused(run(&tree, &(), weighted), "Trainable::new", "C21", &["two different tensors are called `x.w`"]);
    let trainable = Trainable::named(["x.w".to_owned()]);
    let mut session = Session::new().unwrap();
    let result = value_and_grad(&mut session, &tree, &trainable, &(), weighted);
    refused(result, "value_and_grad", "C21", &["called `x.w`"]);
    // The optimizer does not write one over the other either.
    let tied = twice(tree.first.w.clone(), tree.first.w.clone());
    let (gradients, _) = run(&tied, &(), weighted).unwrap();
    let result = AdamW::new(AdamWOptions::default()).update(&mut tree, &gradients, 0.1);
    refused(result, "AdamW::update", "C21", &["called `x.w`"]);
}

#[test]
fn a_tied_weight_is_one_tensor_under_one_name_and_stays_so() {
    let shared = one(1.0);
    let mut tree = twice(shared.clone(), shared);
    let mut optimizer = AdamW::new(AdamWOptions { weight_decay: 0.0, ..AdamWOptions::default() });
    for step in 1..4 {
        let (gradients, _) = run(&tree, &(), weighted).unwrap();
        assert_eq!(values(&gradients, "x.w"), [8.0]);
        optimizer.update(&mut tree, &gradients, 0.1).unwrap();
        let found = [&tree.first.w, &tree.second.w].map(|w| w.item::<f32>().unwrap());
        assert!(found.iter().all(|w| (w - (1.0 - 0.1 * step as f32)).abs() < 1e-5), "{found:?}");
    }
}

#[test]
fn a_tensor_trains_under_one_name() {
    let shared = one(2.0);
    let mut parameters = Pair { left: shared.clone(), right: shared.clone() };
    let words = ["one tensor trains as `left` and as `right`"];
    refused(run(&parameters, &(), square), "Trainable::new", "C21", &words);
    let both = Trainable::named(["left".to_owned(), "right".to_owned()]);
    let mut session = Session::new().unwrap();
    refused(value_and_grad(&mut session, &parameters, &both, &(), square), "value_and_grad", "C21", &words);
    // If one of the two is frozen, as a reference is, it keeps its value. A copy is a tensor of its own.
    let left = Trainable::new(&parameters, |name| name == "left").unwrap();
    let (_, gradients) = value_and_grad(&mut session, &parameters, &left, &(), square).unwrap();
    AdamW::new(AdamWOptions::default()).update(&mut parameters, &gradients, 0.1).unwrap();
    assert_eq!(parameters.right.item::<f32>().unwrap(), 2.0);
    assert!(parameters.left.item::<f32>().unwrap() < 2.0);
    run(&Pair { left: copy(&shared), right: shared }, &(), square).unwrap();
}

#[test]
fn gradients_accumulate_for_one_model_between_two_steps() {
    let (mut tower, other) = (Tower::new(2, 3, 4, 5), Tower::new(2, 3, 4, 5));
    let trainable = Trainable::new(&tower, |_| true).unwrap();
    let mut session = Session::new().unwrap();
    let mut train = |tower: &Tower, gradients: &mut Gradients| {
        train_stack(&mut session, tower, &trainable, &(), Keep::BlockInputs, gradients)
    };
    let mut gradients = Gradients::new();
    for _ in 0..3 {
        train(&tower, &mut gradients).unwrap();
    }
    refused(train(&other, &mut gradients), "train_stack", "C21", &["gradient of `table`", "of another model"]);
    // The other parameters have not changed.
    AdamW::new(AdamWOptions::default()).update(&mut tower, &gradients, 0.1).unwrap();
    refused(train(&tower, &mut gradients), "train_stack", "C21", &["before a step of the optimizer"]);
    train(&tower, &mut Gradients::new()).unwrap();
}

#[test]
fn half_of_a_steps_gradients_are_no_gradients() {
    let mut parameters = pair(&[1.0], &[2.0]);
    let (gradients, _) = run(&parameters, &(), square).unwrap();
    // These are the gradients that remain after a block fails in the backward pass.
    let (broken, error) = crate::tower::failing_in_the_backward_pass();
    assert!(error.to_string().contains("the second time"), "{error}");
    let mut tower = crate::tower::Rows::new();
    refused(
        AdamW::new(AdamWOptions::default()).update(&mut tower, &broken, 0.1),
        "AdamW::update",
        "C21",
        &["belong to no step"],
    );
    AdamW::new(AdamWOptions::default()).update(&mut parameters, &gradients, 0.1).unwrap();
}
