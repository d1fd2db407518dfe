//! The gated delta rule, forward and forward with backward: in chunks, and token by token.

use std::hint::black_box;
use std::time::Duration;

use cotangent::random::Key;
use cotangent::{Graph, Infer, Result, Session, Stored, Tensor, Train, Trainable, value_and_grad};
use cotangent_kernels::{GatedDeltaOutputs, chunk_length, gated_delta, gated_delta_steps, l2norm};
use criterion::{Criterion, criterion_group, criterion_main};

/// Batch, tokens, key heads, value heads, head dimension.
type Sizes = [i32; 5];

const SIZES: [(&str, Sizes); 3] = [
    ("1 x 512 tokens, 4 heads of 64", [1, 512, 4, 4, 64]),
    ("2 x 256 tokens, 4 and 8 heads of 32", [2, 256, 4, 8, 32]),
    ("1 x 512 tokens, 4 and 8 heads of 128", [1, 512, 4, 8, 128]),
];

type Inputs<M> = Vec<Tensor<M>>;

fn draw([batch, time, key_heads, value_heads, dim]: Sizes) -> Result<Inputs<Stored>> {
    let (first, second) = Key::new(1)?.split()?;
    let of_keys = [batch, time, key_heads, dim];
    let of_gates = [batch, time, value_heads];
    let raw = vec![
        first.normal(&of_keys)?,
        second.normal(&of_keys)?,
        first.normal(&[batch, time, value_heads, dim])?,
        first.uniform(-1.0, 0.0, &of_gates)?,
        second.uniform(0.0, 1.0, &of_gates)?,
        first.normal(&[batch, value_heads, dim, dim])?,
    ];
    Session::new()?.infer(&raw, &raw[..0].to_vec(), &(), |raw: &Inputs<Infer>, _, ()| {
        let mut inputs = raw.clone();
        inputs[0] = l2norm(&raw[0], (raw[0].dimension(-1) as f32).powf(-0.5), 1e-6)?;
        inputs[1] = l2norm(&raw[1], 1.0, 1e-6)?;
        Ok(inputs)
    })
}

fn chunked<M: Graph>(inputs: &Inputs<M>) -> Result<GatedDeltaOutputs<M>> {
    let chunk = chunk_length(cotangent::backend()?);
    gated_delta(&inputs[0], &inputs[1], &inputs[2], &inputs[3], &inputs[4], &inputs[5], chunk)
}

fn stepwise<M: Graph>(inputs: &Inputs<M>) -> Result<GatedDeltaOutputs<M>> {
    gated_delta_steps(&inputs[0], &inputs[1], &inputs[2], &inputs[3], &inputs[4], &inputs[5])
}

/// Something cheap whose cotangents are neither zero nor constant.
fn loss<M: Graph>(outputs: GatedDeltaOutputs<M>) -> Result<Tensor<M>> {
    outputs.y.square()?.sum_all()?.add(&outputs.final_state.square()?.sum_all()?)
}

fn forward(
    bench: &mut criterion::Bencher<'_>,
    inputs: &Inputs<Stored>,
    rule: fn(&Inputs<Infer>) -> Result<Inputs<Infer>>,
) {
    let mut session = Session::new().expect("a session");
    let nothing = inputs[..0].to_vec();
    bench.iter(|| {
        let outputs = session.infer(inputs, &nothing, &rule, |inputs, _, rule| rule(inputs));
        black_box(outputs.expect("outputs"))
    });
}

fn backward(
    bench: &mut criterion::Bencher<'_>,
    inputs: &Inputs<Stored>,
    loss: fn(&Inputs<Train>, &()) -> Result<Tensor<Train>>,
) {
    let mut session = Session::new().expect("a session");
    let trainable = Trainable::of(inputs, |_| true).expect("floats");
    bench.iter(|| black_box(value_and_grad(&mut session, inputs, &trainable, &(), loss).expect("gradients")));
}

fn benches(criterion: &mut Criterion) {
    for (name, sizes) in SIZES {
        let inputs = draw(sizes).expect("inputs");
        let mut group = criterion.benchmark_group(name);
        group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
        group.bench_function("chunks, forward", |bench| {
            forward(bench, &inputs, |inputs| chunked(inputs).map(|outputs| vec![outputs.y, outputs.final_state]));
        });
        group.bench_function("chunks, forward and backward", |bench| {
            backward(bench, &inputs, |inputs, ()| loss(chunked(inputs)?));
        });
        group.sample_size(10);
        group.bench_function("token by token, forward and backward", |bench| {
            backward(bench, &inputs, |inputs, ()| loss(stepwise(inputs)?));
        });
        group.finish();
    }
}

criterion_group!(gated_delta_benches, benches);
criterion_main!(gated_delta_benches);
