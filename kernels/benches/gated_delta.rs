//! The gated delta rule, forward and forward with backward: in chunks, and token by token, with a gate for each head and with
//! one for each channel of the keys.

use std::hint::black_box;
use std::time::Duration;

use cotangent::random::Key;
use cotangent::{Graph, Infer, Result, Session, Stored, Tensor, Train, Trainable, value_and_grad};
use cotangent_kernels::delta_rule::{GatedDeltaInOperationsInputs, gated_delta_in_operations};
use cotangent_kernels::{
    GatedDeltaByChannelStepInputs, GatedDeltaInputs, GatedDeltaStepInputs, chunk_length, gated_delta,
    gated_delta_by_channel_steps, gated_delta_steps, l2norm,
};
use criterion::{Criterion, criterion_group, criterion_main};

/// Batch, tokens, key heads, value heads, head dimension.
type Sizes = [i32; 5];

const SIZES: [(&str, Sizes); 3] = [
    ("1 x 512 tokens, 4 heads of 64", [1, 512, 4, 4, 64]),
    ("2 x 256 tokens, 4 and 8 heads of 32", [2, 256, 4, 8, 32]),
    ("1 x 512 tokens, 4 and 8 heads of 128", [1, 512, 4, 8, 128]),
];

/// Queries, keys, values, log gates of heads, betas, the state, log gates of channels.
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
        second.uniform(-1.0, 0.0, &[batch, time, value_heads, dim])?,
    ];
    Session::new()?.infer(&raw, &raw[..0].to_vec(), &(), |raw: &Inputs<Infer>, _, ()| {
        let mut inputs = raw.clone();
        inputs[0] = l2norm(&raw[0], (raw[0].dimension(-1) as f32).powf(-0.5), 1e-6)?;
        inputs[1] = l2norm(&raw[1], 1.0, 1e-6)?;
        Ok(inputs)
    })
}

/// `y` and the final state.
type Rule<M> = fn(&Inputs<M>) -> Result<Inputs<M>>;

fn of_heads<M: Graph>(inputs: &Inputs<M>) -> GatedDeltaStepInputs<'_, M> {
    let [queries, keys, values, log_decay, beta, state, _] = inputs.as_slice() else { panic!("seven inputs") };
    GatedDeltaStepInputs { queries, keys, values, log_decay, beta, state }
}

fn of_channels<M: Graph>(inputs: &Inputs<M>) -> GatedDeltaByChannelStepInputs<'_, M> {
    let [queries, keys, values, _, beta, state, log_decay] = inputs.as_slice() else { panic!("seven inputs") };
    GatedDeltaByChannelStepInputs { queries, keys, values, log_decay, beta, state }
}

fn chunked<M: Graph>(inputs: &Inputs<M>) -> Result<Inputs<M>> {
    let GatedDeltaStepInputs { queries, keys, values, log_decay, beta, state } = of_heads(inputs);
    let chunk = chunk_length(cotangent::backend()?);
    let outputs =
        gated_delta(GatedDeltaInputs { queries, keys, values, log_decay, beta, initial_state: state, chunk })?;
    Ok(vec![outputs.y, outputs.final_state])
}

fn stepwise<M: Graph>(inputs: &Inputs<M>) -> Result<Inputs<M>> {
    let outputs = gated_delta_steps(of_heads(inputs))?;
    Ok(vec![outputs.y, outputs.final_state])
}

fn chunked_by_channel<M: Graph>(inputs: &Inputs<M>) -> Result<Inputs<M>> {
    let GatedDeltaByChannelStepInputs { queries, keys, values, log_decay, beta, state } = of_channels(inputs);
    let chunk = chunk_length(cotangent::backend()?);
    let outputs = gated_delta_in_operations(GatedDeltaInOperationsInputs {
        queries,
        keys,
        values,
        log_decay,
        beta,
        initial_state: state,
        chunk,
    })?;
    Ok(vec![outputs.y, outputs.final_state])
}

fn stepwise_by_channel<M: Graph>(inputs: &Inputs<M>) -> Result<Inputs<M>> {
    let outputs = gated_delta_by_channel_steps(of_channels(inputs))?;
    Ok(vec![outputs.y, outputs.final_state])
}

/// Something cheap whose cotangents are neither zero nor constant.
fn loss(inputs: &Inputs<Train>, rule: &Rule<Train>) -> Result<Tensor<Train>> {
    let outputs = rule(inputs)?;
    outputs[0].square()?.sum_all()?.add(&outputs[1].square()?.sum_all()?)
}

fn forward(bench: &mut criterion::Bencher<'_>, inputs: &Inputs<Stored>, rule: Rule<Infer>) {
    let mut session = Session::new().expect("a session");
    let nothing = inputs[..0].to_vec();
    bench.iter(|| {
        let outputs = session.infer(inputs, &nothing, &rule, |inputs, _, rule| rule(inputs));
        black_box(outputs.expect("outputs"))
    });
}

fn backward(bench: &mut criterion::Bencher<'_>, inputs: &Inputs<Stored>, unused: &str, rule: Rule<Train>) {
    let mut session = Session::new().expect("a session");
    let trainable = Trainable::new(inputs, |name| name != unused).expect("floats");
    bench.iter(|| black_box(value_and_grad(&mut session, inputs, &trainable, &rule, loss).expect("gradients")));
}

/// The gates that the other rule reads.
const OF_HEADS: &str = "3";
const OF_CHANNELS: &str = "6";

fn benches(criterion: &mut Criterion) {
    for (name, sizes) in SIZES {
        let inputs = draw(sizes).expect("inputs");
        let mut group = criterion.benchmark_group(name);
        group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
        group.bench_function("chunks, forward", |bench| forward(bench, &inputs, chunked));
        group.bench_function("chunks, forward and backward", |bench| backward(bench, &inputs, OF_CHANNELS, chunked));
        group.bench_function("gates of channels, chunks, forward", |bench| forward(bench, &inputs, chunked_by_channel));
        group.bench_function("gates of channels, chunks, forward and backward", |bench| {
            backward(bench, &inputs, OF_HEADS, chunked_by_channel);
        });
        group.sample_size(10);
        group.bench_function("token by token, forward and backward", |bench| {
            backward(bench, &inputs, OF_CHANNELS, stepwise);
        });
        group.bench_function("gates of channels, token by token, forward", |bench| {
            forward(bench, &inputs, stepwise_by_channel);
        });
        group.bench_function("gates of channels, token by token, forward and backward", |bench| {
            backward(bench, &inputs, OF_HEADS, stepwise_by_channel);
        });
        group.finish();
    }
}

criterion_group!(gated_delta_benches, benches);
criterion_main!(gated_delta_benches);
