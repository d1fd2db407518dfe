//! The quantized layer for a few rows.

use cotangent::{Backend, Dtype, Graph, Indices, Result, Tensor, differentiable, stage};

/// `y = x W^T` with `W = scale * code + bias`; a simdgroup has an output, and unpacks its weights once for eight rows.
#[differentiable(
    backward = fused_verify_quantised_linear_backward,
    fallback = verify_quantised_linear_by_operations,
    requires = [
        32 <= GROUP, GROUP <= 128, GROUP % 32 == 0, GROUP != 96, 2 <= BITS, BITS <= 8, BITS != 7, R <= 65535,
    ],
    grid = (256 * ceil_div(O, 8), ceil_div(R, 8), 1),
    threads = (256, 1, 1),
    cases = [
        (R = 1, O = 3, G = 1, GROUP = 32, BITS = 4),
        (R = 3, O = 5, G = 3, GROUP = 32, BITS = 5),
        (R = 9, O = 17, G = 1, GROUP = 64, BITS = 8),
        (R = 2, O = 3, G = 2, GROUP = 128, BITS = 4),
    ],
)]
pub fn fused_verify_quantised_linear<T: Float, const GROUP: usize, const BITS: usize>(
    x: In![T; R, GROUP * G],
    #[values(0..4294967296)] codes: In![u32; O, GROUP * G * BITS / 32],
    scales: In![T; O, G],
    biases: In![T; O, G],
    y: Out![T; R, O],
) {
    metal! {
        uint output = threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup;
        uint first = threadgroup_position_in_grid.y * 8u;
        uint lane = thread_index_in_simdgroup;
        if (output >= uint(O)) { return; }
        uint inputs = GROUP * G;
        ulong codes_row = ulong(output) * (inputs * BITS / 32u);
        float sums[8] = {};
        for (uint input = lane; input < inputs; input += 32u) {
            uint start = input * BITS;
            uint code = codes[codes_row + start / 32u] >> (start % 32u);
            if (start % 32u + BITS > 32u) { code |= codes[codes_row + start / 32u + 1u] << (32u - start % 32u); }
            code &= (1u << BITS) - 1u;
            uint group = output * G + input / GROUP;
            float factor = float(scales[group]) * float(code) + float(biases[group]);
            for (uint row = 0u; row < 8u; ++row) {
                if (first + row < uint(R)) { sums[row] += factor * float(x[ulong(first + row) * inputs + input]); }
            }
        }
        for (uint row = 0u; row < 8u; ++row) {
            float sum = simd_sum(sums[row]);
            if (lane == 0u && first + row < uint(R)) { y[ulong(first + row) * O + output] = T(sum); }
        }
    }
}

/// d_x = d_y W; for the group g of an output, d_bias = the sum of d_y x over its inputs and all rows, d_scale = that of
/// d_y x code.
#[differentiable(backward_of = fused_verify_quantised_linear, stages = [quantised_input_parts, quantised_group_gradients])]
pub fn fused_verify_quantised_linear_backward<T: Float, const GROUP: usize, const BITS: usize>(
    x: In![T; R, GROUP * G],
    codes: In![u32; O, GROUP * G * BITS / 32],
    scales: In![T; O, G],
    biases: In![T; O, G],
    d_y: In![T; R, O],
    d_x: Out![T; R, GROUP * G],
    d_scales: Out![T; O, G],
    d_biases: Out![T; O, G],
) {
    let d_x = if wants_d_x {
        let parts = quantised_input_parts(
            stages,
            QuantisedInputPartsInputs { codes, scales, biases, cotangent: d_y, group: GROUP, bits: BITS },
        )?;
        Some(parts.sum(&[0])?.cast(x.dtype())?)
    } else {
        None
    };
    if !wants_d_scales && !wants_d_biases {
        return Ok(Outputs { d_x, d_scales: None, d_biases: None });
    }
    let groups = quantised_group_gradients(stages, x, codes, d_y, G as usize, GROUP, BITS)?;
    Ok(Outputs { d_x, d_scales: Some(groups.scale_gradients), d_biases: Some(groups.bias_gradients) })
}

/// The gradient of the inputs in parts, each of 64 outputs in order: their sum is the same in every run.
#[stage(
    requires = [GROUP * G * BITS % 32 == 0, BITS <= 8],
    grid = (128 * ceil_div(GROUP * G, 128), ceil_div(O, 64), R),
    threads = (128, 1, 1),
    cases = [(R = 3, O = 5, G = 3, GROUP = 32, BITS = 5), (R = 1, O = 67, G = 5, GROUP = 32, BITS = 4)],
)]
fn quantised_input_parts<T: Float, const GROUP: usize, const BITS: usize>(
    #[values(0..4294967296)] codes: In![u32; O, GROUP * G * BITS / 32],
    scales: In![T; O, G],
    biases: In![T; O, G],
    cotangent: In![T; R, O],
    parts: Out![f32; ceil_div(O, 64), R, GROUP * G],
) {
    metal! {
        uint input = thread_position_in_grid.x;
        uint part = threadgroup_position_in_grid.y;
        uint row = threadgroup_position_in_grid.z;
        uint inputs = GROUP * G;
        if (input >= inputs) { return; }
        uint start = input * BITS;
        float sum = 0.0f;
        for (uint output = part * 64u; output < min(part * 64u + 64u, uint(O)); ++output) {
            ulong codes_row = ulong(output) * (inputs * BITS / 32u);
            uint code = codes[codes_row + start / 32u] >> (start % 32u);
            if (start % 32u + BITS > 32u) { code |= codes[codes_row + start / 32u + 1u] << (32u - start % 32u); }
            code &= (1u << BITS) - 1u;
            uint group = output * G + input / GROUP;
            float factor = float(scales[group]) * float(code) + float(biases[group]);
            sum += float(cotangent[ulong(row) * O + output]) * factor;
        }
        parts[(ulong(part) * R + row) * inputs + input] = sum;
    }
}

/// The gradients of scales and biases; a simdgroup has a group of one output.
#[stage(
    requires = [GROUP * G * BITS % 32 == 0, BITS <= 8],
    grid = (256 * ceil_div(O * G, 8), 1, 1),
    threads = (256, 1, 1),
    cases = [(R = 3, O = 5, G = 3, GROUP = 32, BITS = 5), (R = 1, O = 7, G = 1, GROUP = 64, BITS = 8)],
)]
fn quantised_group_gradients<T: Float, const G: usize, const GROUP: usize, const BITS: usize>(
    x: In![T; R, GROUP * G],
    #[values(0..4294967296)] codes: In![u32; O, GROUP * G * BITS / 32],
    cotangent: In![T; R, O],
    scale_gradients: Out![T; O, G],
    bias_gradients: Out![T; O, G],
) {
    metal! {
        uint group = threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup;
        uint lane = thread_index_in_simdgroup;
        if (group >= uint(O * G)) { return; }
        uint output = group / G;
        uint inputs = GROUP * G;
        ulong codes_row = ulong(output) * (inputs * BITS / 32u);
        float scale_sum = 0.0f;
        float bias_sum = 0.0f;
        for (uint member = lane; member < uint(GROUP); member += 32u) {
            uint input = group % G * GROUP + member;
            uint start = input * BITS;
            uint code = codes[codes_row + start / 32u] >> (start % 32u);
            if (start % 32u + BITS > 32u) { code |= codes[codes_row + start / 32u + 1u] << (32u - start % 32u); }
            code &= (1u << BITS) - 1u;
            float sum = 0.0f;
            for (uint row = 0u; row < uint(R); ++row) {
                sum += float(cotangent[ulong(row) * O + output]) * float(x[ulong(row) * inputs + input]);
            }
            bias_sum += sum;
            scale_sum += sum * float(code);
        }
        scale_sum = simd_sum(scale_sum);
        bias_sum = simd_sum(bias_sum);
        if (lane == 0u) {
            scale_gradients[group] = T(scale_sum);
            bias_gradients[group] = T(bias_sum);
        }
    }
}

/// Computes the same products with MLX's own product of a quantized matrix. On CUDA, where MLX has none for some sizes,
/// the matrix is unpacked.
fn verify_quantised_linear_by_operations<M: Graph>(
    inputs: FusedVerifyQuantisedLinearInputs<'_, M>,
) -> Result<Tensor<M>> {
    let FusedVerifyQuantisedLinearInputs { x, codes, scales, biases, group, bits } = inputs;
    let (group, bits) = (group as i32, bits as i32);
    match cotangent::backend()? {
        Backend::Cuda => unpacked_linear(x, codes, scales, biases, group, bits),
        Backend::Metal | Backend::Cpu | Backend::Emulated => x.quantised_linear(codes, scales, biases, group, bits),
    }
}

/// Computes the same products with the matrix unpacked.
fn unpacked_linear<M: Graph>(
    x: &Tensor<M>,
    codes: &Indices,
    scales: &Tensor<M>,
    biases: &Tensor<M>,
    group: i32,
    bits: i32,
) -> Result<Tensor<M>> {
    let [outputs, groups] = [scales.dimension(0), scales.dimension(1)];
    let grouped = codes.unpack(group, bits)?.to_tensor::<M>().reshape(&[outputs, groups, group])?;
    let wide = |values: &Tensor<M>| values.cast(Dtype::F32)?.expand_dims(-1);
    let weight = grouped.multiply(&wide(scales)?)?.add(&wide(biases)?)?.reshape(&[outputs, groups * group])?;
    x.cast(Dtype::F32)?.linear(&weight)?.cast(x.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotangent::{Session, Stored, Train, Trainable, value_and_grad};

    /// The gradients of a sum of squares, and the sum.
    fn differentiate(bits: i32, unpacked: bool) -> Vec<f32> {
        let values = |count: usize, step: f32| (0..count).map(|index| (index as f32 * step).sin()).collect::<Vec<_>>();
        let words: Vec<u32> = (0..3 * 2 * bits as u32).map(|index| index.wrapping_mul(2_654_435_761)).collect();
        let codes = Indices::from_words(&words, &[3, 2 * bits]).unwrap();
        let inputs: Vec<Tensor<Stored>> = vec![
            Tensor::from_slice(&values(5 * 64, 0.7), &[5, 64]).unwrap(),
            Tensor::from_slice(&values(6, 1.3), &[3, 2]).unwrap(),
            Tensor::from_slice(&values(6, 2.1), &[3, 2]).unwrap(),
        ];
        let loss = |inputs: &Vec<Tensor<Train>>, (codes, unpacked): &(Indices, bool)| {
            let [x, scales, biases] = inputs.as_slice() else { unreachable!("three inputs") };
            let bits = codes.shape()[1] / 2;
            let y = if *unpacked {
                unpacked_linear(x, codes, scales, biases, 32, bits)?
            } else {
                x.quantised_linear(codes, scales, biases, 32, bits)?
            };
            y.square()?.sum_all()
        };
        let trainable = Trainable::new(&inputs, |_| true).unwrap();
        let mut session = Session::new().unwrap();
        let (value, gradients) = value_and_grad(&mut session, &inputs, &trainable, &(codes, unpacked), loss).unwrap();
        let mut all = vec![value.item::<f32>().unwrap()];
        all.extend(gradients.iter().flat_map(|(_, gradient)| gradient.to_vec::<f32>().unwrap()));
        all
    }

    #[test]
    fn unpacked_and_packed_weights_give_the_same_values_and_gradients() {
        for bits in [4, 5, 8] {
            let (found, expected) = (differentiate(bits, true), differentiate(bits, false));
            let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            assert_eq!(found.len(), 1 + 5 * 64 + 6 + 6);
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() <= 1e-5 * largest, "{bits} bits: {found} and {expected}");
            }
        }
    }
}
