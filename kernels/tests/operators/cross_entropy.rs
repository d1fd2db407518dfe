//! The loss over the vocabulary: the reference's values and gradients, in chunks of any size, and its memory.

use crate::cases::{
    Case, Cases, Operator, TOLERANCE, assert_close, assert_finite_differences, assert_same_in_the_emulator, gradients,
    gradients_of, outputs, random,
};
use cotangent::{CodeFormat, CodeMode, Dtype, Error, Frozen, Graph, Infer, Packed, Result, Session, Stored, Tensor};
use cotangent_kernels::cross_entropy::{
    IGNORED, Labels, cross_entropy, cross_entropy_adapted_in_chunks, cross_entropy_in_chunks,
    cross_entropy_packed_in_chunks, token_losses,
};

/// hidden, weight.
#[derive(Clone)]
struct CrossEntropy {
    labels: Labels,
    scale: f32,
    chunk_bytes: Option<usize>,
}

impl CrossEntropy {
    fn new(labels: &[i32], scale: f32) -> Self {
        CrossEntropy { labels: Labels::from_slice(labels).unwrap(), scale, chunk_bytes: None }
    }

    fn in_chunks_of(self, rows: usize, vocabulary: usize) -> Self {
        CrossEntropy { chunk_bytes: Some(rows * vocabulary * 4), ..self }
    }
}

impl Operator for CrossEntropy {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let [hidden, weight] = inputs else { unreachable!() };
        Ok(vec![match self.chunk_bytes {
            Some(bytes) => cross_entropy_in_chunks(hidden, weight, &self.labels, self.scale, bytes)?,
            None => cross_entropy(hidden, weight, &self.labels, self.scale)?,
        }])
    }
}

fn losses(hidden: &Tensor<Stored>, weight: &Tensor<Stored>, labels: &Labels) -> Tensor<Stored> {
    fn infer(inputs: &Vec<Tensor<Infer>>, _: &Vec<Tensor<Infer>>, labels: &Labels) -> Result<Tensor<Infer>> {
        token_losses(&inputs[0], &inputs[1], labels)
    }
    let inputs = vec![hidden.clone(), weight.clone()];
    Session::new().unwrap().infer(&inputs, &Vec::<Tensor<Stored>>::new(), labels, infer).unwrap()
}

/// Logits as hidden states, with a weight that passes them on.
fn of_logits(case: &Case<'_>) -> (Tensor<Stored>, Tensor<Stored>, Labels) {
    let logits = case.input("logits");
    let vocabulary = logits.dimension(-1);
    let rows = logits.size() as i32 / vocabulary;
    let hidden = Tensor::from_slice(&logits.to_vec::<f32>().unwrap(), &[rows, vocabulary]).unwrap();
    let identity: Vec<f32> =
        (0..vocabulary * vocabulary).map(|index| f32::from(index / vocabulary == index % vocabulary)).collect();
    let identity = Tensor::from_slice(&identity, &[vocabulary, vocabulary]).unwrap();
    (hidden, identity, Labels::from_slice(&case.integers("labels")).unwrap())
}

fn flat(tensor: &Tensor<Stored>, shape: &[i32]) -> Tensor<Stored> {
    Tensor::from_slice(&tensor.to_vec::<f32>().unwrap(), shape).unwrap()
}

#[test]
fn agrees_with_the_reference_in_chunks_of_any_size() {
    for case in Cases::operators().all("cross_entropy") {
        let (hidden, identity, labels) = of_logits(&case);
        let rows = hidden.dimension(0);
        let found = losses(&hidden, &identity, &labels);
        assert_close(&case.name, &found, &flat(&case.output("per_token"), &[rows]), TOLERANCE);

        let scale = 1.0 / labels.count().max(1) as f32;
        for rows_of_chunk in [1, 2, 5, 100] {
            let operator = CrossEntropy { labels: labels.clone(), scale, chunk_bytes: None };
            let operator = operator.in_chunks_of(rows_of_chunk, 50);
            let inputs = [hidden.clone(), identity.clone()];
            assert_close(&case.name, &outputs(&operator, &inputs)[0], &case.output("loss"), TOLERANCE);
            let (loss, gradients) = gradients_of(&operator, &inputs, &[case.cotangent("loss")], |index| index == 0);
            assert_close(&case.name, &Tensor::from_slice(&[loss], &[]).unwrap(), &case.output("loss"), TOLERANCE);
            let expected = flat(&case.gradient("logits"), hidden.shape());
            assert_close(&case.name, gradients[0].as_ref().unwrap(), &expected, TOLERANCE);
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let (hidden, weight) = (random(1, &[6, 5], 1.0), random(2, &[11, 5], 1.0));
    let labels = [3, IGNORED, 0, 10, 3, IGNORED];
    for rows in [1, 3, 100] {
        let operator = CrossEntropy::new(&labels, 0.3).in_chunks_of(rows, 11);
        assert_finite_differences(&operator, &[hidden.clone(), weight.clone()], 2e-3);
    }
}

#[test]
fn gradients_follow_the_cotangent() {
    let inputs = [random(1, &[6, 5], 1.0), random(2, &[11, 5], 1.0)];
    let operator = CrossEntropy::new(&[3, 1, 0, 10, 3, IGNORED], 0.3);
    let with = |cotangent: f32| {
        let cotangent = Tensor::from_slice(&[cotangent], &[]).unwrap();
        gradients(&operator, &inputs, &[cotangent])
    };
    for (once, scaled) in with(1.0).iter().zip(with(-2.5)) {
        let expected: Vec<f32> = once.to_vec::<f32>().unwrap().iter().map(|value| -2.5 * value).collect();
        assert_close("scaled", &scaled, &Tensor::from_slice(&expected, once.shape()).unwrap(), 1e-6);
    }
}

#[test]
fn only_what_trains_has_a_gradient() {
    let inputs = [random(1, &[6, 5], 1.0), random(2, &[11, 5], 1.0)];
    let operator = CrossEntropy::new(&[3, 1, 0, 10, 3, IGNORED], 0.3).in_chunks_of(2, 11);
    let one = [Tensor::from_slice(&[1.0_f32], &[]).unwrap()];
    let (_, both) = gradients_of(&operator, &inputs, &one, |_| true);
    for only in 0..2 {
        let (_, found) = gradients_of(&operator, &inputs, &one, |index| index == only);
        assert!(found[1 - only].is_none());
        assert_close("alone", found[only].as_ref().unwrap(), both[only].as_ref().unwrap(), 0.0);
    }
}

#[test]
fn nothing_that_counts_means_no_loss_and_no_gradient() {
    let inputs = [random(1, &[4, 5], 1.0), random(2, &[11, 5], 1.0)];
    let operator = CrossEntropy::new(&[IGNORED; 4], 1.0);
    let (loss, gradients) = gradients_of(&operator, &inputs, &[Tensor::from_slice(&[1.0_f32], &[]).unwrap()], |_| true);
    assert!(loss == 0.0);
    for gradient in gradients.into_iter().flatten() {
        assert!(gradient.to_vec::<f32>().unwrap().iter().all(|&value| value == 0.0));
    }
    assert!(losses(&inputs[0], &inputs[1], &operator.labels).to_vec::<f32>().unwrap() == [0.0; 4]);
}

#[test]
fn bfloat16_logits_are_not_rounded() {
    // Chunks have two rows, and the blocks of the weight do not divide it.
    let (vocabulary, width) = (1_001, 64);
    let hidden = random(1, &[3, width], 1.0).cast(Dtype::BF16).unwrap();
    let weight = random(2, &[vocabulary, width], 0.1).cast(Dtype::BF16).unwrap();
    let wide = [hidden.cast(Dtype::F32).unwrap(), weight.cast(Dtype::F32).unwrap()];
    let operator = CrossEntropy::new(&[1_000, 0, 123], 1.0).in_chunks_of(2, vocabulary as usize);
    let narrow = [hidden, weight];
    assert_close("loss", &outputs(&operator, &narrow)[0], &outputs(&operator, &wide)[0], 1e-6);
    let one = [Tensor::from_slice(&[1.0_f32], &[]).unwrap()];
    let found = gradients(&operator, &narrow, &one);
    for (found, expected) in found.iter().zip(gradients(&operator, &wide, &one)) {
        assert_eq!(found.dtype(), Dtype::BF16);
        // The bound is half a unit in the last of 8 bits, and a little for other orders of float32 sums. Off the CPU,
        // the gradient of hidden states is computed from rounded slopes.
        assert_close("gradient", found, &expected, 1.0 / 256.0);
    }
}

/// On a GPU, slopes are rounded to sixteen bits for the gradient of hidden states where these and the head have as many.
#[test]
fn hidden_states_of_sixteen_bits_have_the_gradient_of_float32() {
    let (vocabulary, width) = (1_001, 64);
    let labels = [1_000, 0, 123, IGNORED, 7];
    for (dtype, half_unit) in [(Dtype::BF16, 1.0 / 512.0), (Dtype::F16, 1.0 / 4096.0)] {
        let hidden = random(1, &[5, width], 1.0).cast(dtype).unwrap();
        let weight = random(2, &[vocabulary, width], 0.1).cast(dtype).unwrap();
        let wide = [hidden.cast(Dtype::F32).unwrap(), weight.cast(Dtype::F32).unwrap()];
        let narrow = [hidden, weight];
        // The second scale is so small that sixteen bits would lose slopes that are scaled before they are rounded.
        for scale in [1.0, 1e-6] {
            let operator = CrossEntropy::new(&labels, scale).in_chunks_of(2, vocabulary as usize);
            let cotangent = [Tensor::from_slice(&[1.0 / scale], &[]).unwrap()];
            let (expected_loss, expected) = gradients_of(&operator, &wide, &cotangent, |index| index == 0);
            let (loss, found) = gradients_of(&operator, &narrow, &cotangent, |index| index == 0);
            assert_close(
                "loss",
                &Tensor::from_slice(&[loss], &[]).unwrap(),
                &Tensor::from_slice(&[expected_loss], &[]).unwrap(),
                1e-6,
            );
            let found = found[0].as_ref().unwrap();
            assert_eq!(found.dtype(), dtype);
            // The slopes, their product and the result are rounded once each.
            assert_close("gradient", found, expected[0].as_ref().unwrap(), 3.0 * half_unit);
            let (_, beside_a_trained_head) = gradients_of(&operator, &narrow, &cotangent, |_| true);
            assert_close("both", beside_a_trained_head[0].as_ref().unwrap(), found, 0.0);
        }
    }
}

#[test]
fn labels_outside_the_vocabulary_are_refused() {
    let labels = Labels::from_slice(&[0, 11]).unwrap();
    fn infer(inputs: &Vec<Tensor<Infer>>, _: &Vec<Tensor<Infer>>, labels: &Labels) -> Result<Tensor<Infer>> {
        cross_entropy(&inputs[0], &inputs[1], labels, 1.0)
    }
    let inputs = vec![random(1, &[2, 5], 1.0), random(2, &[11, 5], 1.0)];
    let result = Session::new().unwrap().infer(&inputs, &Vec::<Tensor<Stored>>::new(), &labels, infer);
    assert_eq!(result.err(), Some(Error::IndexOutOfRange { operation: "cross_entropy", index: 11, length: 11 }));
}

/// hidden, weight, A, B: in chunks, or with the adapter's product formed as a whole.
#[derive(Clone)]
struct Adapted {
    labels: Labels,
    rows: Option<usize>,
}

impl Operator for Adapted {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let [hidden, weight, a, b] = inputs else { unreachable!() };
        Ok(vec![match self.rows {
            Some(rows) => {
                let bytes = rows * 4 * weight.dimension(0) as usize;
                cross_entropy_adapted_in_chunks(hidden, weight, [a, b], 1.5, &self.labels, 0.3, bytes)?
            }
            None => {
                let whole = weight.add(&a.matmul(b)?.multiply(1.5)?.swap_axes(0, 1)?)?;
                cross_entropy(hidden, &whole, &self.labels, 0.3)?
            }
        }])
    }
}

#[test]
fn an_adapted_head_is_the_head_with_its_adapter_merged() {
    let labels = Labels::from_slice(&[3, IGNORED, 0, 10, 3, 7]).unwrap();
    let inputs = [random(1, &[6, 5], 1.0), random(2, &[11, 5], 1.0), random(3, &[5, 2], 1.0), random(4, &[2, 11], 1.0)];
    let cotangent = [Tensor::from_slice(&[-2.5_f32], &[]).unwrap()];
    let merged = Adapted { labels: labels.clone(), rows: None };
    for rows in [1, 2, 100] {
        let adapted = Adapted { labels: labels.clone(), rows: Some(rows) };
        crate::cases::assert_gradients(&adapted, &merged, &inputs, &cotangent, 2e-6);
        // An adapter trains beside a frozen head.
        let (_, expected) = gradients_of(&merged, &inputs, &cotangent, |_| true);
        let (_, found) = gradients_of(&adapted, &inputs, &cotangent, |index| index >= 2);
        for index in 2..4 {
            assert_close("alone", found[index].as_ref().unwrap(), expected[index].as_ref().unwrap(), 2e-6);
        }
    }
}

#[test]
fn an_adapted_head_where_nothing_counts_has_no_gradient() {
    let inputs = [random(1, &[2, 5], 1.0), random(2, &[7, 5], 1.0), random(3, &[5, 2], 1.0), random(4, &[2, 7], 1.0)];
    let adapted = Adapted { labels: Labels::from_slice(&[IGNORED; 2]).unwrap(), rows: Some(1) };
    let gradients = gradients(&adapted, &inputs, &[Tensor::from_slice(&[1.0_f32], &[]).unwrap()]);
    assert!(gradients.iter().all(|gradient| gradient.to_vec::<f32>().unwrap().iter().all(|value| *value == 0.0)));
}

/// hidden, and an adapter's two matrices.
#[derive(Clone)]
struct Coded {
    labels: Labels,
    head: Packed,
    /// Rows of a chunk; `None` for the dense head.
    rows: Option<usize>,
}

impl Operator for Coded {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let [hidden, a, b] = inputs else { unreachable!() };
        let Some(rows) = self.rows else {
            let weight = self.head.decode(Dtype::F32)?.to_tensor::<M>();
            let weight = weight.add(&b.swap_axes(0, 1)?.matmul(&a.swap_axes(0, 1)?)?.multiply(0.7)?)?;
            return Ok(vec![cross_entropy(hidden, &weight, &self.labels, 0.3)?]);
        };
        let bytes = rows * 4 * self.head.rows() as usize;
        let adapter = Some(([a, b], 0.7));
        Ok(vec![cross_entropy_packed_in_chunks(hidden, &self.head, adapter, &self.labels, 0.3, bytes)?])
    }
}

#[test]
fn a_head_of_codes_is_the_head_it_stands_for() {
    let (vocabulary, width) = (300, 64);
    let labels = Labels::from_slice(&[3, IGNORED, 0, 299, 17]).unwrap();
    let inputs = [random(1, &[5, width], 1.0), random(2, &[width, 2], 1.0), random(3, &[2, vocabulary], 1.0)];
    let cotangent = [Tensor::from_slice(&[-2.5_f32], &[]).unwrap()];
    for mode in CodeMode::ALL {
        let format = CodeFormat::new(mode, None, None).unwrap();
        let mut parts = random(4, &[vocabulary, width], 1.0).quantize(format).unwrap().into_iter().map(Frozen::new);
        let (words, scales, biases) = (parts.next().unwrap(), parts.next().unwrap(), parts.next());
        let head = Packed::new(&words, &scales, biases.as_ref(), format, Dtype::F32).unwrap();
        // For one row the head is decoded in blocks, or not at all. For a hundred rows it is decoded once.
        let of = |rows| Coded { labels: labels.clone(), head: head.clone(), rows };
        for rows in [1, 100] {
            crate::cases::assert_gradients(&of(Some(rows)), &of(None), &inputs, &cotangent, 3e-6);
        }
    }
}

/// A process has one backend, so this is another process: there a chunk's softmax is a kernel.
#[test]
fn the_same_holds_in_the_emulator() {
    assert_same_in_the_emulator(module_path!(), &[]);
}
