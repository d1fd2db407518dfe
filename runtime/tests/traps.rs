//! Mistakes that MLX accepts silently, and this crate must not. Each test is named after its trap.

mod common;

use std::cell::RefCell;

use common::{Pair, pair};
use cotangent::{
    CustomVjp, Dtype, Error, Gradients, Infer, Parameters, Result, Session, Stored, Tensor, Train, Trainable, VjpCase,
    checkpoint, custom_vjp, value_and_grad,
};

fn all(parameters: &Pair<Stored>) -> Trainable {
    Trainable::new(parameters, |_| true).unwrap()
}

fn gradients(loss: fn(&Pair<Train>, &()) -> Result<Tensor<Train>>) -> Result<Gradients> {
    let parameters = pair(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]);
    let mut session = Session::new()?;
    Ok(value_and_grad(&mut session, &parameters, &all(&parameters), &(), loss)?.1)
}

fn values(gradients: &Gradients, name: &str) -> Vec<f32> {
    gradients.get(name).unwrap().to_vec().unwrap()
}

/// `left * right`, with a backward that is tenfold on purpose: so that a test sees whose gradient it got.
fn tenfold(parameters: &Pair<Train>, backward: cotangent::Backward<()>) -> Result<Tensor<Train>> {
    let forward = |inputs: &[Tensor<Infer>], (): &()| Ok(vec![inputs[0].multiply(&inputs[1])?]);
    // It is declared without its test, which would find the mistake.
    let function =
        CustomVjp::declared("tenfold", (&["left", "right"], 2), &["product"], forward, backward, || Ok(Vec::new()));
    let mut outputs = custom_vjp(&function, &[&parameters.left, &parameters.right], &())?;
    outputs.swap_remove(0).sum_all()
}

fn right_backward(
    p: &[Tensor<Infer>],
    c: &[Tensor<Infer>],
    _: &[Tensor<Infer>],
    (): &(),
) -> Result<Vec<Tensor<Infer>>> {
    Ok(vec![c[0].multiply(&p[1])?.multiply(10.0)?, c[0].multiply(&p[0])?.multiply(10.0)?])
}

#[test]
fn a_custom_backward_is_what_the_driver_gets() {
    let found = gradients(|parameters, ()| tenfold(parameters, right_backward)).unwrap();
    assert_eq!(values(&found, "left"), [40.0, 50.0, 60.0]);
    assert_eq!(values(&found, "right"), [10.0, 20.0, 30.0]);
}

#[test]
fn a_missing_gradient_does_not_become_the_cotangent() {
    let error = gradients(|parameters, ()| {
        tenfold(parameters, |p, c, o, ()| Ok(right_backward(p, c, o, &())?.into_iter().take(1).collect()))
    })
    .unwrap_err();
    assert_eq!(error.to_string(), "backward of `tenfold`: found 1 gradients, expected one for each of `left`, `right`");
}

#[test]
fn a_gradient_of_another_shape_is_refused() {
    let error = gradients(|parameters, ()| {
        tenfold(parameters, |p, c, o, ()| {
            let mut found = right_backward(p, c, o, &())?;
            found[1] = found[1].reshape(&[3, 1])?;
            Ok(found)
        })
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "backward of `tenfold`: gradient of `right` is float32 [3, 1], expected float32 [3] as its primal"
    );
}

#[test]
fn a_gradient_of_another_dtype_is_refused() {
    let error = gradients(|parameters, ()| {
        tenfold(parameters, |p, c, o, ()| {
            let mut found = right_backward(p, c, o, &())?;
            found[0] = found[0].cast(Dtype::BF16)?;
            Ok(found)
        })
    })
    .unwrap_err();
    assert!(error.to_string().contains("gradient of `left` is bfloat16 [3], expected float32 [3]"), "{error}");
}

custom_vjp! {
    static TWO: () = "two" {
        inputs: [x],
        outputs: [twice, thrice],
        forward: |[x], ()| Ok(vec![x.multiply(2.0)?, x.multiply(3.0)?]),
        backward: |_, [d_twice, d_thrice], _, ()| Ok(vec![d_twice.multiply(2.0)?.add(&d_thrice.multiply(3.0)?)?]),
        cases: [VjpCase::new(&[&[5]], ())],
    }
}

#[test]
fn an_unused_output_has_a_zero_cotangent() {
    let found = gradients(|parameters, ()| {
        let outputs = custom_vjp(&TWO, &[&parameters.left], &())?;
        outputs[0].sum_all()
    })
    .unwrap();
    assert_eq!(values(&found, "left"), [2.0; 3]);
}

#[test]
fn an_error_in_a_backward_arrives_as_itself() {
    let error =
        gradients(|parameters, ()| tenfold(parameters, |_, _, _, ()| Err(Error::Other("the kernel says why".into()))))
            .unwrap_err();
    assert_eq!(error, Error::Other("the kernel says why".into()));
}

#[test]
fn an_error_in_a_forward_arrives_as_itself() {
    let error = gradients(|parameters, ()| parameters.left.reshape(&[2, 2])?.sum_all()).unwrap_err();
    assert!(matches!(&error, Error::Mlx { operation: "reshape", .. }), "{error}");
    assert!(!error.to_string().contains(" at /"), "{error}");
}

#[test]
fn a_panic_in_a_backward_does_not_cross_cpp_and_leaves_the_library_usable() {
    let panicked = std::panic::catch_unwind(|| {
        gradients(|parameters, ()| tenfold(parameters, |_, _, _, ()| panic!("in the backward")))
    });
    assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"in the backward"));
    let found = gradients(|parameters, ()| tenfold(parameters, right_backward)).unwrap();
    assert_eq!(values(&found, "left"), [40.0, 50.0, 60.0]);
}

#[test]
fn a_raw_failure_does_not_end_the_process() {
    let left = Tensor::from_slice(&[1.0_f32; 6], &[2, 3]).unwrap();
    let mut session = Session::new().unwrap();
    let outcome = session.infer(&left, &left, &(), |left, right, ()| {
        left.slice(0, 0, 2)?.reshape(&[6])?.reshape(&[2, 3])?.transpose(&[0, 0])?.matmul(right)
    });
    assert!(outcome.is_err());
}

thread_local! {
    static SMUGGLED: RefCell<Option<Tensor<Train>>> = const { RefCell::new(None) };
}

#[track_caller]
fn assert_mixed(error: &Error, named: &str) {
    assert!(matches!(error, Error::MixedTraces { operation: "multiply", .. }), "{error}");
    assert!(error.to_string().contains(named), "{error}");
}

#[test]
fn a_captured_tensor_is_an_error_not_a_zero_gradient() {
    let error = gradients(|parameters, ()| {
        SMUGGLED.set(Some(parameters.right.clone()));
        let layer = |parameters: &Pair<Train>, _: &[Tensor<Train>]| {
            let smuggled = SMUGGLED.with_borrow(|tensor| tensor.clone().unwrap());
            Ok(vec![parameters.left.multiply(&smuggled)?])
        };
        checkpoint(parameters, &[], layer)?[0].sum_all()
    })
    .unwrap_err();
    SMUGGLED.take();
    assert_mixed(&error, "(one was computed from `left`, the other from `right`)");
}

#[test]
fn a_tensor_of_an_earlier_step_is_an_error() {
    gradients(|parameters, ()| {
        SMUGGLED.set(Some(parameters.right.clone()));
        parameters.left.sum_all()
    })
    .unwrap();
    let error = gradients(|parameters, ()| {
        parameters.left.multiply(&SMUGGLED.with_borrow(|tensor| tensor.clone().unwrap()))?.sum_all()
    })
    .unwrap_err();
    SMUGGLED.take();
    assert_mixed(&error, "`left`, the other from `right`");
}

#[test]
fn checkpoint_passes_parameters_so_that_they_get_their_gradients() {
    fn product(parameters: &Pair<Train>, inputs: &[Tensor<Train>]) -> Result<Vec<Tensor<Train>>> {
        Ok(vec![parameters.left.multiply(&parameters.right)?.multiply(&inputs[0])?])
    }
    let found = gradients(|parameters, ()| {
        let input = parameters.left.multiply(1.0)?;
        checkpoint(parameters, &[&input], product)?[0].sum_all()
    })
    .unwrap();
    // d/dl l^2 r = 2 l r, d/dr l^2 r = l^2
    assert_eq!(values(&found, "left"), [8.0, 20.0, 36.0]);
    assert_eq!(values(&found, "right"), [1.0, 4.0, 9.0]);
}

#[test]
fn a_broadcast_gradient_can_be_read() {
    let found = gradients(|parameters, ()| parameters.left.sum_all()).unwrap();
    assert_eq!(values(&found, "left"), [1.0; 3]);
    assert_eq!(found.get("left").unwrap().to_bytes().unwrap().len(), 12);
    assert_eq!(values(&found, "right"), [0.0; 3]);
}

#[test]
fn integers_cannot_train() {
    let tokens = Tensor::from_slice(&[1_i32, 2], &[2]).unwrap();
    let error = Trainable::new(&tokens, |_| true).unwrap_err();
    assert!(error.to_string().contains("found int32, expected a float type"), "{error}");
}

#[test]
fn a_loss_is_a_scalar() {
    let error = gradients(|parameters, ()| parameters.left.multiply(2.0)).unwrap_err();
    assert!(error.to_string().contains("expected a scalar of float32"), "{error}");
}

#[test]
fn what_is_frozen_has_no_gradient_and_needs_none() {
    let parameters = pair(&[1.0], &[2.0]);
    let trainable = Trainable::new(&parameters, |name| name == "right").unwrap();
    let mut session = Session::new().unwrap();
    let (_, found) = value_and_grad(&mut session, &parameters, &trainable, &(), |parameters, ()| {
        assert!(!parameters.left.needs_gradient());
        assert!(parameters.right.needs_gradient());
        let product = parameters.left.multiply(&parameters.right)?;
        assert!(product.needs_gradient());
        product.sum_all()
    })
    .unwrap();
    assert_eq!(found.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["right"]);
}

#[test]
fn detach_cuts_the_gradient_where_it_is_said() {
    let found = gradients(|parameters, ()| {
        let constant = parameters.left.detach("the test asks for it");
        parameters.left.multiply(&constant)?.sum_all()
    })
    .unwrap();
    assert_eq!(values(&found, "left"), [1.0, 2.0, 3.0]);
}

#[test]
fn a_session_inside_a_graph_is_an_error() {
    let found = gradients(|parameters, ()| {
        Session::new()?;
        parameters.left.sum_all()
    });
    assert!(found.unwrap_err().to_string().contains("opened while a graph runs"));
    let tensor = Tensor::from_slice(&[1.0_f32], &[1]).unwrap();
    let found = Session::new().unwrap().infer(&tensor, &tensor, &(), |tensor, _, ()| {
        Session::new()?;
        Ok(tensor.clone())
    });
    assert!(found.is_err());
    // After a graph, even one that failed or panicked, a session may be opened.
    let panicked = std::panic::catch_unwind(|| gradients(|_, ()| panic!("in the graph")));
    assert!(panicked.is_err() && Session::new().is_ok());
}

#[test]
fn an_index_out_of_range_is_not_read() {
    let table = Tensor::from_slice(&[1.0_f32, 2.0, 3.0], &[3, 1]).unwrap();
    let mut session = Session::new().unwrap();
    let take = |session: &mut Session, index: i32| {
        let indices = cotangent::Indices::from_slice(&[index], &[1]).unwrap();
        session.infer(&table, &table, &indices, |table, _, indices| table.take_rows(indices))
    };
    assert_eq!(take(&mut session, 2).unwrap().to_vec::<f32>().unwrap(), [3.0]);
    assert_eq!(take(&mut session, 3).unwrap_err(), Error::IndexOutOfRange { operation: "take", index: 3, length: 3 });
}

#[test]
fn a_scalar_does_not_change_the_dtype() {
    let x = Tensor::from_slice(&[1.0_f32, 2.0], &[2]).unwrap().cast(Dtype::BF16).unwrap();
    let mut session = Session::new().unwrap();
    let y = session.infer(&x, &x, &(), |x, _, ()| x.multiply(2.0)?.add(1.0)?.softplus()).unwrap();
    assert_eq!(y.dtype(), Dtype::BF16);
    let mixed = session.infer(&x, &x, &(), |x, _, ()| x.cast(Dtype::F32)?.add(x));
    assert!(matches!(mixed.unwrap_err(), Error::Dtype { operation: "add", .. }));
}

#[test]
fn evaluated_tensors_may_cross_threads() {
    let tensor = Tensor::from_slice(&[1.0_f32, 2.0], &[2]).unwrap();
    let doubled = std::thread::spawn(move || {
        let mut session = Session::new().unwrap();
        session.infer(&tensor, &tensor, &(), |x, _, ()| x.multiply(2.0)).unwrap()
    })
    .join()
    .unwrap();
    assert_eq!(doubled.to_vec::<f32>().unwrap(), [2.0, 4.0]);
}

#[test]
fn three_thousand_rounds_leak_nothing() {
    let parameters = pair(&[1.0; 64], &[2.0; 64]);
    let trainable = all(&parameters);
    let mut session = Session::new().unwrap();
    let mut round = |backward: cotangent::Backward<()>| match backward(&[], &[], &[], &()) {
        Err(_) => value_and_grad(&mut session, &parameters, &trainable, &(), |p, ()| {
            tenfold(p, |_, _, _, ()| Err(Error::Other("no".into())))
        })
        .is_err(),
        Ok(_) => value_and_grad(&mut session, &parameters, &trainable, &(), |p, ()| tenfold(p, right_backward)).is_ok(),
    };
    for _ in 0..10 {
        assert!(round(|_, _, _, ()| Ok(vec![])));
    }
    let before = live_bytes();
    for _ in 0..1500 {
        assert!(round(|_, _, _, ()| Ok(vec![])));
        assert!(round(|_, _, _, ()| Err(Error::Other(String::new()))));
    }
    let grown = live_bytes().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} bytes more after 3000 rounds");
}

fn live_bytes() -> usize {
    cotangent::memory::active().unwrap()
}

#[test]
fn names_come_from_the_tree() {
    let parameters = vec![pair(&[1.0], &[2.0]), pair(&[3.0], &[4.0])];
    let mut names = Vec::new();
    parameters.visit(&mut cotangent::parameters::Path::root(), &mut |path, _| names.push(path.to_string()));
    assert_eq!(names, ["0.left", "0.right", "1.left", "1.right"]);
}
