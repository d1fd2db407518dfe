//! What a function returns must come from its arguments, and a loss from a parameter that trains.

use std::cell::RefCell;

use cotangent::{
    Constant, CustomVjp, Dtype, Infer, Result, Session, Tensor, Train, Trainable, checkpoint, custom_vjp,
    differentiable, evaluate, value_and_grad,
};

use crate::common::Pair;
use crate::{example, refused, run, values};

type Loss = fn(&Pair<Train>, &()) -> Result<Tensor<Train>>;

thread_local! {
    static KEPT: RefCell<Option<Tensor<Train>>> = const { RefCell::new(None) };
    static INFERRED: RefCell<Option<Tensor<Infer>>> = const { RefCell::new(None) };
}

fn kept() -> Tensor<Train> {
    KEPT.with_borrow(|tensor| tensor.clone().expect("something was kept"))
}

fn inferred() -> Tensor<Infer> {
    INFERRED.with_borrow(|tensor| tensor.clone().expect("something was kept"))
}

#[test]
fn a_checkpointed_function_returns_what_it_computed() {
    let losses: [(Loss, &str); 4] = [
        // A result is returned as the surrounding graph computed it.
        (
            |p, ()| {
                KEPT.set(Some(p.right.square()?));
                let layer = |_: &Pair<Train>, inputs: &[Tensor<Train>]| Ok(vec![inputs[0].clone(), kept()]);
                let outputs = checkpoint(p, &[&p.left], layer)?;
                outputs[0].multiply(&outputs[1])?.sum_all()
            },
            "result 1 of the checkpointed function was computed from `right` in another graph",
        ),
        // A result is a parameter of the surrounding tree.
        (
            |p, ()| {
                KEPT.set(Some(p.right.clone()));
                checkpoint(&p.left, &[], |_, _| Ok(vec![kept()]))?[0].sum_all()
            },
            "result 0",
        ),
        // A result is computed only from the surrounding graph.
        (
            |p, ()| {
                KEPT.set(Some(p.right.clone()));
                checkpoint(&p.left, &[], |_, _| Ok(vec![kept().exp()?.multiply(2.0)?]))?[0].sum_all()
            },
            "result 0",
        ),
        // A result was kept when the function ran for another call.
        (
            |p, ()| {
                let layer = |x: &Tensor<Train>, _: &[Tensor<Train>]| {
                    KEPT.with_borrow_mut(|kept| kept.get_or_insert_with(|| x.clone()).clone()).square().map(|y| vec![y])
                };
                KEPT.take();
                let first = checkpoint(&p.left, &[], layer)?.remove(0);
                first.add(&checkpoint(&p.right, &[], layer)?[0])?.sum_all()
            },
            "result 0",
        ),
    ];
    for (loss, which) in losses {
        refused(run(&example(), &(), loss), "checkpoint", "C06", &[which, "pass it as an argument"]);
    }
}

#[test]
fn a_loss_is_of_the_graph_that_is_running() {
    let before: Loss = |p, ()| {
        let now = p.left.multiply(&p.right)?.sum_all()?;
        Ok(KEPT.replace(Some(now.clone())).unwrap_or(now))
    };
    KEPT.take();
    run(&example(), &(), before).unwrap();
    refused(run(&example(), &(), before), "value_and_grad", "C06", &["the loss", "`left`, `right`"]);
    refused(evaluate(&mut Session::new().unwrap(), &example(), &(), before), "evaluate", "C06", &["the loss"]);
    // A value computed from an earlier loss is refused too.
    refused(run(&example(), &(), |_, ()| kept().multiply(2.0)), "value_and_grad", "C06", &["the loss"]);
}

#[test]
fn a_staircase_is_no_way_to_a_parameter() {
    let loss: Loss = |p, ()| p.left.floor()?.multiply(&p.right.floor()?)?.sum_all();
    refused(run(&example(), &(), loss), "value_and_grad", "C20", &["`left`, `right`"]);
    let (found, _) = run(&example(), &(), |p, ()| p.left.floor()?.multiply(&p.right)?.sum_all()).unwrap();
    assert_eq!((values(&found, "left"), values(&found, "right")), (vec![0.0; 3], vec![1.0, 2.0, 3.0]));
}

#[test]
fn functions_with_their_own_gradient_return_what_they_computed() {
    fn own(
        p: &Pair<Train>,
        forward: cotangent::Forward<()>,
        backward: cotangent::Backward<()>,
    ) -> Result<Tensor<Train>> {
        let function = CustomVjp::declared("own", (&["x"], 1), &["y"], forward, backward, || Ok(Vec::new()));
        custom_vjp(&function, &[&p.left], &())?[0].sum_all()
    }
    let (found, _) = run(&example(), &(), |p, ()| {
        own(p, |x, ()| Ok(vec![x[0].square()?]), |p, c, _, ()| Ok(vec![c[0].multiply(&p[0])?.multiply(2.0)?]))
    })
    .unwrap();
    assert_eq!(values(&found, "left"), [2.0, 4.0, 6.0]);

    // Results of a graph without gradients, and of another call of a forward, are refused.
    let infer = |session: &mut Session| {
        session.infer(&example(), &example().left, &(), |p, _, ()| {
            INFERRED.set(Some(p.right.square()?));
            Ok(p.left.clone())
        })
    };
    infer(&mut Session::new().unwrap()).unwrap();
    let forward: Loss = |p, ()| own(p, |_, ()| Ok(vec![inferred()]), |_, c, _, ()| Ok(vec![c[0].clone()]));
    refused(run(&example(), &(), forward), "own", "C06", &["result `y`"]);
    let mixed: Loss =
        |p, ()| own(p, |x, ()| Ok(vec![x[0].multiply(&inferred())?]), |_, c, _, ()| Ok(vec![c[0].clone()]));
    refused(run(&example(), &(), mixed), "multiply", "C06", &[]);
    let backward: Loss = |p, ()| own(p, |x, ()| Ok(vec![x[0].square()?]), |_, _, _, ()| Ok(vec![inferred()]));
    refused(run(&example(), &(), backward), "own", "C06", &["gradient of `x`"]);
    let session = &mut Session::new().unwrap();
    let stale = session.infer(&example(), &example().left, &(), |_, _, ()| Ok(inferred()));
    refused(stale, "infer", "C06", &["the result"]);
}

/// Returns what another graph computed.
#[differentiable(untested = "it is wrong on purpose", backward = kept_output_backward, cases = [(N = 3)])]
fn kept_output(x: In![f32; N], y: Out![f32; N]) {
    let _ = x;
    Ok(Outputs { y: inferred() })
}

#[differentiable(backward_of = kept_output)]
fn kept_output_backward(d_y: In![f32; N], d_x: Out![f32; N]) {
    Ok(Outputs { d_x: Some(d_y.clone()) })
}

/// A kernel whose gradient is what another graph computed.
#[differentiable(untested = "it is wrong on purpose", backward = kept_gradient_backward, cases = [(N = 3)])]
fn kept_gradient(x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: x.square()? })
}

#[differentiable(backward_of = kept_gradient)]
fn kept_gradient_backward(d_y: In![f32; N], d_x: Out![f32; N]) {
    Ok(Outputs { d_x: Some(d_y.multiply(&inferred())?) })
}

#[test]
fn bodies_of_kernels_return_what_they_computed() {
    let inferred = Session::new().unwrap().infer(&example(), &example().left, &(), |p, _, ()| {
        INFERRED.set(Some(p.right.square()?));
        Ok(p.left.clone())
    });
    inferred.unwrap();
    let loss: Loss = |p, ()| kept_output(&p.left)?.sum_all();
    refused(run(&example(), &(), loss), "kept_output", "C06", &["an output"]);
    // They are refused even if no gradient is asked for.
    refused(evaluate(&mut Session::new().unwrap(), &example(), &(), loss), "kept_output", "C06", &[]);
    let loss: Loss = |p, ()| kept_gradient(&p.left)?.sum_all();
    refused(run(&example(), &(), loss), "kept_gradient_backward", "C06", &["an output"]);
}

#[test]
fn a_loss_that_no_parameter_reaches_is_refused() {
    let losses: [Loss; 7] = [
        |_, ()| Ok(Constant::full(&[], 3.0, Dtype::F32)?.to_tensor()),
        |p, ()| Ok(p.left.multiply(&p.right)?.sum_all()?.detach("the test cuts all").to_tensor()),
        |p, ()| p.left.detach("the test cuts it").to_tensor::<Train>().square()?.sum_all(),
        |p, ()| {
            let place = p.left.argmax(0)?.to_constant("the test reads a place")?;
            place.to_tensor::<Train>().multiply(2.0)?.sum_all()
        },
        |p, ()| {
            let ones = Constant::full(&[3], 1.0, Dtype::F32)?.to_tensor::<Train>();
            ones.select(&p.left.greater(&p.right)?, 0.0)?.sum_all()
        },
        // A checkpoint's result has a gradient only if something inside it has one.
        |p, ()| {
            let layer = |p: &Pair<Train>, _: &[Tensor<Train>]| {
                Ok(vec![p.left.square()?, p.left.detach("the test cuts one").to_tensor()])
            };
            checkpoint(p, &[], layer)?[1].sum_all()
        },
        |_, ()| Constant::from_slice(&[1.0, 2.0], &[2])?.to_tensor::<Train>().sum_all(),
    ];
    for loss in losses {
        refused(run(&example(), &(), loss), "value_and_grad", "C20", &["`left`, `right`"]);
    }
    // Only frozen parameters reach this loss.
    let parameters = example();
    let trainable = Trainable::new(&parameters, |name| name == "left").unwrap();
    let frozen: Loss = |p, ()| p.right.square()?.sum_all();
    let result = value_and_grad(&mut Session::new().unwrap(), &parameters, &trainable, &(), frozen);
    refused(result, "value_and_grad", "C20", &["`left`"]);
    // Without gradients it is a loss like any other.
    let loss = evaluate(&mut Session::new().unwrap(), &parameters, &(), frozen).unwrap();
    assert_eq!(loss.item::<f32>().unwrap(), 77.0);
}

#[test]
fn results_that_need_no_gradient_are_right() {
    let losses: [(Loss, [f32; 3]); 5] = [
        // A detached metric stands beside the loss, inside and outside a checkpoint.
        (
            |p, ()| {
                let layer = |p: &Pair<Train>, _: &[Tensor<Train>]| {
                    Ok(vec![p.left.square()?, p.left.detach("a metric").to_tensor()])
                };
                let outputs = checkpoint(p, &[], layer)?;
                outputs[0].add(&outputs[1].detach("a metric").to_tensor::<Train>())?.sum_all()
            },
            [2.0, 4.0, 6.0],
        ),
        // A target may be held fixed.
        (|p, ()| p.left.multiply(&p.left.detach("a target"))?.sum_all(), [1.0, 2.0, 3.0]),
        // A constant may stand beside it.
        (|p, ()| p.left.add(&Constant::full(&[3], 1.0, Dtype::F32)?.to_tensor())?.square()?.sum_all(), [4.0, 6.0, 8.0]),
        // A checkpoint may take only host data, and its parameters may be unread.
        (
            |p, ()| {
                let ones = Constant::full(&[3], 1.0, Dtype::F32)?.to_tensor();
                let layer = |_: &Pair<Train>, inputs: &[Tensor<Train>]| Ok(vec![inputs[0].multiply(2.0)?]);
                p.left.multiply(&checkpoint(p, &[&ones], layer)?[0])?.sum_all()
            },
            [2.0; 3],
        ),
        // A part may be unused in this step.
        (|p, ()| p.left.square()?.sum_all(), [2.0, 4.0, 6.0]),
    ];
    for (loss, expected) in losses {
        let (found, _) = run(&example(), &(), loss).unwrap();
        assert_eq!(values(&found, "left"), expected);
        assert_eq!(values(&found, "right"), [0.0; 3]);
    }
}
