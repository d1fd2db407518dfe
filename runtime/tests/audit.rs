//! The audit finds what a model lost, and lists what it cut on purpose.

use cotangent::{
    Audit, Cut, CutKind, GradientState, Mode, Parameters, Result, Session, Stack, Stored, Tensor, Train, Trainable,
    audit_stack, checkpoint, differentiable, value_and_grad,
};

/// Two blocks between an embedding and a head; `orphan` is in the tree and in none of them.
#[derive(Parameters)]
struct Tower<M: Mode> {
    first: Tensor<M>,
    layers: Vec<Block<M>>,
    last: Tensor<M>,
    orphan: Option<Tensor<M>>,
}

#[derive(Parameters)]
struct Block<M: Mode> {
    gain: Tensor<M>,
    shift: Tensor<M>,
}

#[derive(Parameters)]
struct Embedding<M: Mode> {
    first: Tensor<M>,
}

#[derive(Parameters)]
struct Head<M: Mode> {
    last: Tensor<M>,
}

/// The fault of each block.
#[derive(Debug, Clone, Copy)]
enum Defect {
    None,
    ShiftCut,
    HiddenCut,
    HalfOfShiftCut,
    ShiftWithoutEffect,
    ShiftNotANumber,
}

impl Tower<Stored> {
    fn new() -> Self {
        let tensor = |value: f32| Tensor::from_slice(&[value; 3], &[3]).unwrap();
        let layers = [0.5, 2.0].map(|value| Block { gain: tensor(value), shift: tensor(value) });
        Tower { first: tensor(1.0), layers: layers.into(), last: tensor(3.0), orphan: None }
    }

    fn audit(&self, trains: fn(&str) -> bool, defect: Defect) -> Audit {
        let trainable = Trainable::new(self, trains).unwrap();
        audit_stack(&mut Session::new().unwrap(), self, &trainable, &defect).unwrap()
    }
}

impl Stack for Tower<Stored> {
    type Batch = Defect;
    type State = Tensor<Train>;
    type Embedding = Embedding<Stored>;
    type Block = Block<Stored>;
    type Head = Head<Stored>;

    const BLOCKS: &'static str = "layers";

    fn embedding(&self) -> Embedding<Stored> {
        Embedding { first: self.first.clone() }
    }

    fn blocks(&self) -> &[Block<Stored>] {
        &self.layers
    }

    fn head(&self) -> Head<Stored> {
        Head { last: self.last.clone() }
    }

    fn embed(embedding: &Embedding<Train>, _: &Defect) -> Result<Tensor<Train>> {
        embedding.first.multiply(2.0)
    }

    fn forward(block: &Block<Train>, hidden: &Tensor<Train>, defect: &Defect) -> Result<Tensor<Train>> {
        let gained = hidden.multiply(&block.gain)?;
        match defect {
            Defect::None => gained.add(&block.shift),
            Defect::ShiftCut => gained.add(&block.shift.detach("the test cuts it")),
            Defect::HiddenCut => {
                let hidden = hidden.detach("the test cuts it").to_tensor::<Train>();
                hidden.multiply(&block.gain)?.add(&block.shift)
            }
            Defect::HalfOfShiftCut => {
                let parts = block.shift.split(&[1, 2], 0)?;
                let cut = parts[0].detach("the test cuts a part").to_tensor::<Train>();
                gained.add(&Tensor::concatenate(&[&cut, &parts[1]], 0)?)
            }
            Defect::ShiftWithoutEffect => gained.add(&block.shift.multiply(0.0)?),
            Defect::ShiftNotANumber => gained.add(&block.shift.negative()?.sqrt()?),
        }
    }

    fn loss(head: &Head<Train>, hidden: &Tensor<Train>, _: &Defect) -> Result<Tensor<Train>> {
        hidden.multiply(&head.last)?.sum_all()
    }
}

fn failures(audit: &Audit) -> Vec<(&str, GradientState)> {
    audit.failures().map(|parameter| (parameter.name.as_str(), parameter.gradient)).collect()
}

#[test]
fn a_sound_model_passes_with_the_norms_of_its_gradients() {
    let audit = Tower::new().audit(|_| true, Defect::None);
    assert!(audit.passed());
    let names: Vec<_> = audit.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    assert_eq!(
        names,
        ["first", "layers.0.gain", "layers.0.shift", "layers.1.gain", "layers.1.shift", "last"],
        "the order of the tree"
    );
    // y = 3 (2 (2 0.5 x + 0.5) + 2) with x = 1, three times, so dy/dx = 6 and dy/d(last) = 5.
    for (name, derivative) in [("first", 6.0), ("layers.0.shift", 6.0), ("layers.1.shift", 3.0), ("last", 5.0)] {
        let parameter = audit.parameters.iter().find(|parameter| parameter.name == name).unwrap();
        let GradientState::Finite { norm, zeros } = parameter.gradient else { panic!("{parameter:?}") };
        assert!((norm - derivative * 3_f64.sqrt()).abs() < 1e-5, "{name}: {norm}");
        assert_eq!(zeros, 0.0);
    }
    assert_eq!((audit.loss, audit.frozen, audit.cuts.as_slice()), (45.0, 0, &[][..]));
}

#[test]
fn a_lost_gradient_is_found_and_named() {
    use GradientState::{NotFinite, Zero};
    let both = |state| vec![("layers.0.shift", state), ("layers.1.shift", state)];
    for (defect, expected) in [
        (Defect::ShiftCut, both(Zero)),
        (Defect::ShiftWithoutEffect, both(Zero)),
        (Defect::HiddenCut, vec![("first", Zero), ("layers.0.gain", Zero), ("layers.0.shift", Zero)]),
    ] {
        let audit = Tower::new().audit(|_| true, defect);
        assert_eq!(failures(&audit), expected, "{defect:?}");
        assert!(!audit.passed(), "{defect:?}");
    }
    // The loss is not a number, so neither are the gradients that depend on its value.
    let audit = Tower::new().audit(|_| true, Defect::ShiftNotANumber);
    assert!(failures(&audit).contains(&("layers.0.shift", NotFinite)), "{audit:?}");
    assert!(audit.loss.is_nan());
}

#[test]
fn a_parameter_that_is_cut_in_part_shows_its_zeros() {
    let audit = Tower::new().audit(|_| true, Defect::HalfOfShiftCut);
    let zeros: Vec<_> = audit
        .parameters
        .iter()
        .map(|parameter| match parameter.gradient {
            GradientState::Finite { zeros, .. } => (parameter.name.as_str(), (zeros * 3.0).round() as usize),
            other => panic!("{other:?}"),
        })
        .filter(|(_, zeros)| *zeros > 0)
        .collect();
    assert_eq!(zeros, [("layers.0.shift", 1), ("layers.1.shift", 1)]);
}

#[test]
fn a_parameter_of_no_part_is_missing() {
    let mut tower = Tower::new();
    tower.orphan = Some(Tensor::from_slice(&[3.0_f32; 3], &[3]).unwrap());
    assert_eq!(failures(&tower.audit(|_| true, Defect::None)), [("orphan", GradientState::Missing)]);
    assert!(tower.audit(|name| name != "orphan", Defect::None).passed());
}

#[test]
fn what_is_frozen_is_counted_and_not_blamed() {
    let audit = Tower::new().audit(|name| name.ends_with("gain"), Defect::ShiftCut);
    assert_eq!((audit.passed(), audit.parameters.len(), audit.frozen), (true, 2, 4));
}

#[test]
fn a_cut_is_listed_once_for_each_part_with_its_reason_and_place() {
    let cuts = Tower::new().audit(|_| true, Defect::ShiftCut).cuts;
    let parts: Vec<_> = cuts.iter().map(|cut| cut.part.as_str()).collect();
    assert_eq!(parts, ["layers.0", "layers.1"]);
    for cut in &cuts {
        assert_eq!((cut.kind, cut.reason.as_str(), cut.needed_gradient), (CutKind::Detach, "the test cuts it", true));
        assert!(cut.place.0.ends_with("runtime/tests/audit.rs"), "{cut:?}");
        assert_eq!(cut.shape, [3]);
    }
    let frozen = Tower::new().audit(|name| name.ends_with("gain"), Defect::ShiftCut).cuts;
    assert!(frozen.iter().all(|cut| !cut.needed_gradient), "{frozen:?}");
}

/// Cuts of a loss over one parameter.
fn cuts(loss: fn(&Tensor<Train>, &()) -> Result<Tensor<Train>>) -> Vec<Cut> {
    let parameter = Tensor::from_slice(&[1.5_f32, -0.5, 2.5], &[3]).unwrap();
    let trainable = Trainable::new(&parameter, |_| true).unwrap();
    let mut session = Session::new().unwrap();
    let (result, cuts) =
        session.record_cuts(|session| value_and_grad(session, &parameter, &trainable, &(), loss).map(drop));
    result.unwrap();
    cuts
}

/// `y = x + sum(x)`, whose backward does not care for the sum.
#[differentiable(
    backward = with_total_backward,
    untested = "an audit lists it",
    cases = [(N = 3), (N = 130)])]
fn with_total(x: In![f32; N], y: Out![f32; N], total: Out![f32;]) {
    // Nothing differentiates through a body, so this cuts nothing.
    let seen = x.detach("inside a body").to_tensor::<cotangent::Infer>();
    Ok(Outputs { y: x.multiply(1.0)?, total: seen.sum_all()? })
}

#[differentiable(backward_of = with_total, ignores(total))]
fn with_total_backward(d_y: In![f32; N], d_x: Out![f32; N]) {
    Ok(Outputs { d_x: Some(d_y.multiply(1.0)?) })
}

/// The place at which `x` is largest, beside `x` itself.
#[differentiable(backward = with_place_backward, cases = [(N = 3), (N = 131)])]
fn with_place(x: In![f32; N], y: Out![f32; N], #[values(0..N)] place: Out![u32;]) {
    Ok(Outputs { y: x.multiply(1.0)?, place: x.argmax(0)? })
}

#[differentiable(backward_of = with_place)]
fn with_place_backward(d_y: In![f32; N], d_x: Out![f32; N]) {
    Ok(Outputs { d_x: Some(d_y.multiply(1.0)?) })
}

#[test]
fn integers_from_a_kernel_are_a_cut_where_they_come_from_what_trains() {
    let found = cuts(|x, ()| {
        let outputs = with_place(x)?;
        outputs.y.take_rows(&outputs.place.reshape(&[1])?)?.sum_all()
    });
    let kinds: Vec<_> = found.iter().map(|cut| (cut.kind, cut.reason.as_str())).collect();
    assert_eq!(kinds, [(CutKind::Discrete, "kernel `with_place`: integers and bools have no gradient")]);
}

#[test]
fn every_kind_of_cut_is_listed() {
    let found = cuts(|x, ()| {
        let largest = x.argmax(0)?.to_constant("the test reads a place")?;
        let positive = x.greater(0.0)?;
        let shifted = x.floor()?.add(x)?.select(&positive, &x.detach("the test cuts it"))?;
        let y = with_total(&shifted)?.y;
        y.multiply(&largest)?.sum_all()
    });
    let kinds: Vec<_> = found.iter().map(|cut| (cut.kind, cut.reason.as_str())).collect();
    assert_eq!(
        kinds,
        [
            (CutKind::Discrete, "`argmax`: indices have no gradient"),
            (CutKind::IndicesAsData, "the test reads a place"),
            (CutKind::Discrete, "`greater`: a comparison has no gradient"),
            (CutKind::Discrete, "`floor`: a staircase has gradient zero"),
            (CutKind::Detach, "the test cuts it"),
            (CutKind::IgnoredOutput, "`with_total_backward` declares `ignores(total)`"),
            (CutKind::Untested, "`with_total` declares `untested = \"an audit lists it\"`"),
        ]
    );
}

/// A step of a quantizer, whose gradient passes straight through; a rate is never drawn beyond its range.
#[differentiable(backward = rounded_backward, untested = "an audit lists it", cases = [(N = 3), (N = 130)])]
fn rounded(x: In![f32; N], #[values(0.0..1.0, only = "a rate")] rate: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: x.floor()?.multiply(rate)? })
}

#[differentiable(backward_of = rounded)]
fn rounded_backward(
    x: In![f32; N],
    rate: In![f32; N],
    d_y: In![f32; N],
    #[differs("it passes straight through")] d_x: Out![f32; N],
    d_rate: Out![f32; N],
) {
    Ok(Outputs { d_x: Some(d_y.multiply(rate)?), d_rate: Some(d_y.multiply(&x.floor()?)?) })
}

#[test]
fn what_checks_take_on_trust_is_listed_with_its_reason() {
    let found = cuts(|x, ()| rounded(x, &x.multiply(0.5)?)?.sum_all());
    let found: Vec<_> = found.iter().map(|cut| (cut.kind, cut.reason.as_str(), cut.needed_gradient)).collect();
    assert_eq!(
        found,
        [
            (CutKind::Untested, "`rounded` declares `untested = \"an audit lists it\"`", true),
            (CutKind::DifferingGradient, "`d_x` is not the derivative: it passes straight through", true),
            (CutKind::Domain, "`rate` is checked between 0 and 1 only: a rate", true),
        ]
    );
}

#[test]
fn recomputation_cuts_nothing_anew() {
    let found = cuts(|x, ()| {
        let layer = |x: &Tensor<Train>, _: &[Tensor<Train>]| Ok(vec![x.multiply(&x.detach("once"))?]);
        checkpoint(x, &[], layer)?[0].sum_all()
    });
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn recordings_of_threads_do_not_mix_and_end_with_their_run() {
    let record = |reason: &'static str, rounds: usize| {
        let found: Vec<_> = (0..rounds)
            .flat_map(|_| match reason {
                "left" => cuts(|x, ()| x.multiply(&x.detach("left"))?.sum_all()),
                _ => cuts(|x, ()| x.multiply(&x.detach("right"))?.sum_all()),
            })
            .map(|cut| cut.reason)
            .collect();
        assert_eq!(found, vec![reason; rounds]);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| record("left", 20));
        scope.spawn(|| record("right", 20));
    });
    // Nothing is kept outside a recording, and a recording starts empty.
    let parameter = Tensor::from_slice(&[1.0_f32], &[1]).unwrap();
    let mut session = Session::new().unwrap();
    let trainable = Trainable::new(&parameter, |_| true).unwrap();
    value_and_grad(&mut session, &parameter, &trainable, &(), |x, ()| x.multiply(&x.detach("unheard"))?.sum_all())
        .unwrap();
    assert_eq!(session.record_cuts(|_| ()).1, []);
}
