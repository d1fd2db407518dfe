//! Inside a graph there are no values: no session runs, nothing that trains is read, and each cut says why.

use std::cell::RefCell;
use std::sync::Mutex;

use cotangent::{
    Constant, CutKind, Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable, evaluate, value_and_grad,
};

use crate::common::{Pair, pair};
use crate::{example, refused, run, values};

thread_local! {
    static OTHER: RefCell<Option<Session>> = const { RefCell::new(None) };
    static MODEL: RefCell<Option<Pair<Stored>>> = const { RefCell::new(None) };
}

static WEIGHT: Mutex<Option<Tensor<Stored>>> = Mutex::new(None);

fn plain(p: &Pair<Train>, (): &()) -> Result<Tensor<Train>> {
    p.left.multiply(&p.right)?.sum_all()
}

/// Runs something with another session, kept since before the graph.
fn elsewhere<T>(use_it: impl FnOnce(&mut Session, &Pair<Stored>) -> Result<T>) -> Result<T> {
    OTHER.with_borrow_mut(|session| {
        MODEL.with_borrow(|model| use_it(session.as_mut().expect("a session"), model.as_ref().expect("a model")))
    })
}

/// A batch that brings a session.
struct WithSession(RefCell<Session>);

#[test]
fn no_session_is_used_inside_a_graph() {
    OTHER.set(Some(Session::new().unwrap()));
    MODEL.set(Some(example()));
    type Loss = fn(&Pair<Train>, &()) -> Result<Tensor<Train>>;
    let losses: [(&str, Loss); 4] = [
        ("value_and_grad", |p, ()| {
            let all = |model: &Pair<Stored>| Trainable::new(model, |_| true);
            let (_, gradients) = elsewhere(|session, model| value_and_grad(session, model, &all(model)?, &(), plain))?;
            p.left.multiply(&Constant::from_stored(gradients.get("left").unwrap())?)?.sum_all()
        }),
        ("evaluate", |p, ()| {
            let loss: f32 = elsewhere(|session, model| evaluate(session, model, &(), plain)?.item())?;
            p.left.multiply(loss)?.sum_all()
        }),
        ("infer", |p, ()| {
            let square = elsewhere(|session, model| session.infer(model, model, &(), |p, _, ()| p.left.square()))?;
            p.left.multiply(&Constant::from_stored(&square)?)?.sum_all()
        }),
        ("Indices::to_stored", |p, ()| {
            let largest: i32 = elsewhere(|session, _| p.left.argmax(0)?.to_stored(session)?.item())?;
            p.left.slice(0, largest, largest + 1)?.sum_all()
        }),
    ];
    for (operation, loss) in losses {
        refused(run(&example(), &(), loss), operation, "C07", &["while a graph runs, that of `value_and_grad`"]);
    }
    let batch = WithSession(RefCell::new(Session::new().unwrap()));
    let result = run(&example(), &batch, |p, batch| {
        let largest: i32 = p.left.argmax(0)?.to_stored(&mut batch.0.borrow_mut())?.item()?;
        p.left.slice(0, largest, largest + 1)?.sum_all()
    });
    refused(result, "Indices::to_stored", "C07", &[]);
    let inferred = Session::new().unwrap().infer(&example(), &example(), &(), |p, _, ()| {
        elsewhere(|session, model| evaluate(session, model, &(), plain))?;
        Ok(p.left.clone())
    });
    refused(inferred, "evaluate", "C07", &["that of `infer`"]);
    // After a graph, even one that failed, sessions can be opened.
    elsewhere(|session, model| evaluate(session, model, &(), plain)).unwrap();
    let (found, _) = run(&example(), &(), plain).unwrap();
    assert_eq!(values(&found, "left"), [4.0, 5.0, 6.0]);
}

#[test]
fn what_trains_is_not_read_inside_its_graph() {
    let parameters = example();
    *WEIGHT.lock().unwrap() = Some(parameters.right.clone());
    type Loss = fn(&Pair<Train>, &Tensor<Stored>) -> Result<Tensor<Train>>;
    let losses: [(&str, Loss); 3] = [
        ("to_vec", |p, w| p.left.multiply(w.to_vec::<f32>()?[0])?.sum_all()),
        ("to_bytes", |p, w| p.left.multiply(f32::from(w.to_bytes()?[0]))?.sum_all()),
        ("to_vec", |p, _| {
            let weight = WEIGHT.lock().unwrap().as_ref().expect("a weight").to_vec::<f32>()?;
            p.left.multiply(&Constant::from_slice(&weight, &[3])?)?.sum_all()
        }),
    ];
    for (operation, loss) in losses {
        refused(run(&parameters, &parameters.right, loss), operation, "C07", &["the value of `right`"]);
    }
    // Host data that does not train may be read, and so may parameters that are frozen here.
    let lengths = Tensor::from_slice(&[2.0_f32], &[1]).unwrap();
    let (found, _) =
        run(&parameters, &lengths, |p, lengths| p.left.multiply(lengths.item::<f32>()?)?.sum_all()).unwrap();
    assert_eq!(values(&found, "left"), [2.0; 3]);
    let left = Trainable::new(&parameters, |name| name == "left").unwrap();
    let mut session = Session::new().unwrap();
    value_and_grad(&mut session, &parameters, &left, &parameters.right, |p, w| {
        p.left.multiply(w.to_vec::<f32>()?[0])?.sum_all()
    })
    .unwrap();
}

#[derive(Parameters)]
struct Single<M: Mode> {
    w: Tensor<M>,
}

#[test]
fn an_evaluated_tensor_in_a_loss_is_a_cut() {
    type Loss = fn(&Single<Train>, &Tensor<Stored>) -> Result<Tensor<Train>>;
    let single = || Single { w: pair(&[1.0, 2.0], &[]).left };
    let losses: [Loss; 2] = [
        |p, w| p.w.multiply(&Constant::from_stored(w)?)?.sum_all(),
        |p, w| p.w.add(&Constant::from_stored(w)?.to_tensor())?.sum_all(),
    ];
    for loss in losses {
        for weight_of_the_model in [false, true] {
            let model = single();
            let weight = if weight_of_the_model { model.w.clone() } else { single().w };
            let (_, cuts) = run(&model, &weight, loss).unwrap();
            assert_eq!(cuts[0].kind, CutKind::StoredAsData, "{cuts:?}");
            assert!(cuts[0].reason.contains("`Constant::from_stored`"), "{cuts:?}");
            assert!(cuts[0].place.0.ends_with("running.rs"), "{cuts:?}");
            assert!(cuts.iter().all(|cut| cut.needed_gradient == weight_of_the_model), "{cuts:?}");
        }
    }
    // A constant that was made before the graph is a cut if its tensor trains, and host data if not.
    let model = single();
    type Brought = fn(&Single<Train>, &Constant) -> Result<Tensor<Train>>;
    let brought: [Brought; 2] =
        [|p, c| p.w.multiply(c)?.sum_all(), |p, c| p.w.add(&c.cast(cotangent::Dtype::F32)?.to_tensor())?.sum_all()];
    for loss in brought {
        let (_, cuts) = run(&model, &Constant::from_stored(&model.w).unwrap(), loss).unwrap();
        let found: Vec<_> = cuts.iter().map(|cut| (cut.kind, cut.needed_gradient)).collect();
        assert_eq!(found, [(CutKind::StoredAsData, true)]);
        let (_, cuts) = run(&model, &Constant::from_stored(&single().w).unwrap(), loss).unwrap();
        assert_eq!(cuts, []);
    }
}

#[test]
fn a_comparison_with_what_trains_is_a_cut_on_either_side() {
    let (_, cuts) = run(&example(), &(), |p, ()| {
        let ones = Constant::full(&[3], 1.0, cotangent::Dtype::F32)?.to_tensor::<Train>();
        p.left.select(&ones.greater(&p.right)?, 0.0)?.sum_all()
    })
    .unwrap();
    assert_eq!(cuts.iter().map(|cut| (cut.kind, cut.needed_gradient)).collect::<Vec<_>>(), [(CutKind::Discrete, true)]);
}

#[test]
fn a_recording_inside_another_hides_nothing() {
    let parameters = example();
    let trainable = Trainable::new(&parameters, |_| true).unwrap();
    let mut session = Session::new().unwrap();
    let (inner, outer) = session.record_cuts(|session| {
        let loss: fn(&Pair<Train>, &()) -> _ = |p, ()| p.left.multiply(&p.right.detach("said"))?.sum_all();
        session.record_cuts(|session| value_and_grad(session, &parameters, &trainable, &(), loss).unwrap()).1
    });
    assert_eq!((inner.len(), &inner), (1, &outer));
}

#[test]
fn a_cut_without_a_reason_is_refused() {
    for reason in ["", "  ", "\n"] {
        thread_local! {
            static REASON: RefCell<&'static str> = const { RefCell::new("") };
        }
        REASON.set(reason);
        let detached = run(&example(), &(), |p, ()| p.left.multiply(&p.right.detach(REASON.take()))?.sum_all());
        refused(detached, "detach", "C09", &["found an empty reason at", "running.rs:"]);
        REASON.set(reason);
        let data =
            run(&example(), &(), |p, ()| p.left.multiply(&p.right.argmax(0)?.to_constant(REASON.take())?)?.sum_all());
        refused(data, "to_constant", "C09", &["running.rs:"]);
        REASON.set(reason);
        let inferred = Session::new()
            .unwrap()
            .infer(&example(), &example(), &(), |p, _, ()| Ok(p.left.detach(REASON.take()).to_tensor()));
        refused::<Tensor<Stored>>(inferred, "detach", "C09", &[]);
    }
}
