"""Calls the kernels of mlx-vlm that work on packed weights, packed caches and drafts, each at two sizes.

`record.py --drive calls_packed.py` runs it with the stand-in, as it does `calls.py`. Layers and caches are made by the
package's own classes, of the smallest sizes that its dispatch accepts; a call that the installed version does not take is
left out.
"""

import contextlib
import importlib
import itertools
import sys
import types

import mlx.core as mx
import mlx.nn as nn


def attempt(function, *arguments, **keywords):
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        print(f"calls: {type(error).__name__}: {error}", file=sys.stderr)


def module(name):
    return importlib.import_module(f"mlx_vlm.{name}")


def zeros(*shape, dtype=mx.bfloat16):
    return mx.zeros(shape, dtype=dtype)


def floats(*shape):
    return mx.zeros(shape, dtype=mx.float32)


def numbers(*shape, below, dtype=mx.int32):
    """Integers that count from zero up to a bound, again and again."""
    count = 1
    for length in shape:
        count *= length
    return (mx.arange(count) % below).reshape(shape).astype(dtype)


@contextlib.contextmanager
def without(owner, *names):
    """Makes the builders of faster kernels return nothing, so that the slower ones are called."""
    kept = {name: getattr(owner, name) for name in names}
    for name in names:
        setattr(owner, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(owner, name, value)


def half(layer):
    """A layer whose floats are bfloat16."""
    layer.set_dtype(mx.bfloat16)
    return layer


def packed(inputs, outputs, bits=4, mode="affine", group_size=64):
    return half(nn.QuantizedLinear(inputs, outputs, bias=False, group_size=group_size, bits=bits, mode=mode))


def packed_experts(inputs, outputs, experts=3, bits=4):
    switch = module("models.switch_layers").QuantizedSwitchLinear
    return half(switch(inputs, outputs, experts, bias=False, group_size=64, bits=bits))


def verified_layers():
    verifier = module("models.quantized_verifier")
    for (inputs, outputs), bits, length in itertools.product([(512, 16), (1024, 32)], [4, 8], [3, 6, 9]):
        layer, x = packed(inputs, outputs, bits), zeros(1, length, inputs)
        attempt(verifier.optimized_affine_linear, layer, x)
        attempt(verifier.optimized_affine_argmax, layer, x)
        attempt(verifier.optimized_affine_argmax, layer, x, mx.full((length, (outputs + 31) // 32), -1, dtype=mx.int32))
        attempt(verifier.optimized_affine_linears, [layer, packed(inputs, 8, bits)], x)
    for inputs, outputs in [(64, 16), (128, 32)]:
        attempt(verifier.optimized_nvfp4_argmax, packed(inputs, outputs, mode="nvfp4", group_size=16), zeros(1, 3, inputs))
    head = module("models.glm_moe_dsa.speculative_verifier")
    for inputs, outputs in [(512, 16), (1024, 32)]:
        attempt(head._quantized_head_logits, packed(inputs, outputs), zeros(1, 3, inputs))


def verified_experts():
    verifier, fast = module("models.quantized_verifier"), module("models.fast_ops")
    for inputs, outputs, length in [(512, 16, 2), (1024, 32, 3)]:
        indices, weights = numbers(1, length, 2, below=3), floats(1, length, 2)
        shared, residual = zeros(1, length, outputs), zeros(1, length, 4, outputs)
        post, comb = floats(1, length, 4), floats(1, length, 4, 4)
        down, x = packed_experts(inputs, outputs), zeros(1, length, 2, inputs)
        attempt(verifier.exact_quantized_moe_hc_expand, down, x, indices, weights, shared, residual, post, comb)
        attempt(verifier.exact_quantized_moe_hc_expand, down, x, indices, weights, shared, residual, post, comb,
                routed=zeros(1, length, 2, outputs))
        for bits in (4, 5):
            attempt(fast.exact_affine_moe_down, packed_experts(inputs, outputs, bits=bits), x, indices, weights, shared)
            gates = types.SimpleNamespace(up_proj=packed_experts(inputs, outputs, bits=bits),
                                          gate_proj=packed_experts(inputs, outputs, bits=bits))
            attempt(fast.exact_affine_switch_gate_up, gates, zeros(1, length, inputs), indices)


def connections():
    fast = module("models.fast_ops")
    for length, width in [(1, 64), (2, 256)]:
        connection = types.SimpleNamespace(fn=zeros(24, 4 * 4096), scale=floats(3), base=floats(24), sinkhorn_iters=2, hc_eps=1e-6)
        norm = types.SimpleNamespace(weight=zeros(width), eps=1e-6)
        attempt(fast.exact_hc_norm, connection, norm, zeros(1, length, 4, width), floats(1, length, 24))
        attempt(fast.exact_hc_expand, zeros(1, length, width), zeros(1, length, 4, width), floats(1, length, 4),
                floats(1, length, 4, 4))
        norm = types.SimpleNamespace(weight=zeros(4096), eps=1e-6)
        attempt(fast.exact_hc_normalized_norm, connection, norm, zeros(1, length, 4, 4096))


def inkling():
    language = module("models.inkling.language")
    for length, keys in [(2, 5), (3, 9)]:
        for carrier in (None, zeros(1, 2, keys, 8)):
            attempt(language.banded_additive_mask, floats(1, length, 2, 8), floats(8, 4), keys - length, keys, 3, 4,
                    shape_ref=carrier)
    for length, channels in [(1, 32), (3, 40)]:
        layer = half(language.InklingShortConvolution(channels, 4, 0))
        for residual in (None, zeros(1, length, channels)):
            attempt(layer, zeros(1, length, channels), cache=[None], residual=residual)
    for tokens, experts in [(1, 8), (3, 40)]:
        config = types.SimpleNamespace(n_routed_experts=experts, n_shared_experts=2, num_experts_per_tok=3, route_scale=1.0,
                                       intermediate_size=2048, hidden_size=64)
        layer = attempt(language.InklingSparseMoE, config)
        if layer is None:
            continue
        layer.set_dtype(mx.bfloat16)
        layer.e_score_correction_bias = floats(experts)
        layer.global_scale = mx.ones((1,))
        layer.switch_mlp.down_proj = packed_experts(2048, 64, experts)
        layer.switch_mlp.scales_trivial = lambda: True
        attempt(layer, zeros(1, tokens, 64))


def short_convolution():
    layer_of = module("models.kimi_k3.language").ShortConv1d
    for rows, channels in [(1, 32), (2, 48)]:
        layer = half(layer_of(channels, 4))
        layer.eval()
        attempt(layer, zeros(rows, 1, channels), zeros(rows, 3, channels), None, None)


def state_space():
    verifier = module("models.nemotron_h.speculative_verifier")
    for length, heads in [(2, 2), (3, 4)]:
        x, groups = zeros(1, length, heads, 8), zeros(1, length, 2, 32)
        found = attempt(verifier._mamba_update_exact, x, floats(heads), groups, groups, floats(heads),
                        zeros(1, length, heads), floats(heads), zeros(1, heads, 8, 32, dtype=mx.float32), (0.0, 100.0), None)
        if found is not None:
            attempt(verifier.replay_mamba_state, found[2], length - 1)


def small_rows():
    language = module("models.nemotron_labs_diffusion.language")
    for inputs, outputs, length in [(64, 8, 2), (160, 16, 3)]:
        linear, x = half(nn.Linear(inputs, outputs, bias=False)), zeros(1, length, inputs)
        attempt(language._small_row_linear, linear, x, 8)
        attempt(language._small_row_swiglu, linear, linear, x, 8)
        attempt(language._bm32_linear, half(nn.Linear(inputs, outputs * 8, bias=False)), zeros(1, 32, inputs))


def attention():
    sparse, ragged = module("models.qwen4_exp.qsa_kernel"), module("models.qwen3_5.language")
    for length, keys, heads in [(2, 16, 2), (3, 24, 4)]:
        attempt(sparse.qsa_sparse_attention, zeros(1, heads, length, 32), zeros(1, 2, keys, 32), zeros(1, 2, keys, 32),
                numbers(1, length, 2, below=keys // 4), mx.full((1, length), keys, dtype=mx.int32), scale=0.2, block_size=4)
    for heads, keys in [(2, 5), (4, 40), (2, 1030), (4, 1100)]:
        attempt(ragged._qwen3_5_ragged_decode_attention, zeros(1, heads, 1, 64), zeros(1, 2, keys, 64), zeros(1, 2, keys, 64),
                [1], 0.125)


def rotary():
    rope = module("models.rope_utils")
    for dimension, length in [(32, 3), (64, 5)]:
        frequencies, selector = floats(dimension // 2), numbers(dimension // 2, below=3)
        q, k = floats(1, 2, length, dimension + 8), floats(1, 1, length, dimension + 8)
        for (pairing, positions) in itertools.product([rope._HALF_SPLIT, rope._EVEN_ODD], [(1, length), (3, 1, length)]):
            apply = attempt(rope._compiled_mrope_apply, dimension, len(positions), pairing)
            if apply is not None:
                attempt(apply, q, k, numbers(*positions, below=7), frequencies, selector)


def images():
    blocks = module("models.bonsai.klein_fast.blocks")
    for heads, length, words in [(2, 3, 2), (3, 5, 4)]:
        spec = blocks.Flux2KleinBlockSpec(dim=heads * 64, num_heads=heads, head_dim=64)
        attempt(image_blocks, blocks, spec, length, words)


def image_blocks(blocks, spec, length, words):
    """Both kernels of an image model's blocks, launched as the blocks launch them."""
    heads, width, total = spec.num_heads, spec.head_dim, length + words
    outputs = {"template": [("T", mx.bfloat16)], "threadgroup": (32, 1, 1), "output_dtypes": [mx.bfloat16] * 3}
    norm = zeros(width)
    blocks._get_fused_single_norm_rope_kernel(spec, length)(
        inputs=[zeros(1, length, spec.qkv_mlp_out_dim), norm, norm, floats(length, width // 2), floats(length, width // 2)],
        grid=(length * heads * 32, 1, 1), output_shapes=[(1, heads, length, width)] * 3, **outputs)
    blocks._get_fused_double_norm_rope_kernel(spec, length, words)(
        inputs=[zeros(1, length, 3 * spec.dim), zeros(1, words, 3 * spec.dim), norm, norm, norm, norm,
                floats(total, width // 2), floats(total, width // 2)],
        grid=(total * heads * 32, 1, 1), output_shapes=[(1, heads, total, width)] * 3, **outputs)


def packed_caches():
    """The codecs and the attention of a packed cache: whole and half bits, both codecs, one and several queries."""
    turbo = module("turboquant")
    for (width, tokens), repeats in itertools.product([(32, 5), (96, 70), (160, 9)], [1, 2]):
        attempt(packed_cache, turbo, width, tokens, repeats)


def packed_cache(turbo, width, tokens, repeats):
    heads, bits = 2, 4
    vectors, one = mx.random.normal((1, heads, tokens, width)), mx.random.normal((1, heads, 1, width))
    queries = mx.random.normal((1, heads * repeats, 1, width))
    grouped = queries.reshape(1, heads, repeats, 1, width)
    mean, product = turbo._TurboQuantMSECodec(width, bits, 0), turbo._TurboQuantProdCodec(width, bits + 1, 0)
    values = turbo._TurboQuantMSECodec(width, bits, 1)
    with without(turbo, "_fused_norot_quantize_kernel"):
        mean.quantize(one)
    attempt(product.quantize, one)
    mean_state, product_state, value_state = mean.quantize(vectors), product.quantize(vectors), values.quantize(vectors)

    def cache(keys):
        made = turbo.TurboQuantKVCache(bits=bits)
        made.key_codec, made.value_codec = keys, values
        return made

    attempt(cache(mean)._try_fused_kv_quantize, one, one)
    attempt(turbo.BatchTurboQuantKVCache._try_fused_kv_quantize, cache(mean), one, one)
    # Scores.
    attempt(mean.score, grouped, mean_state)
    with without(turbo, "_mse_score_tiled_kernel"):
        attempt(mean.score, grouped, mean_state)
    attempt(product.score, grouped, product_state)
    with without(turbo, "_prod_score_repeat_kernel"):
        attempt(product.score, grouped, product_state)
    attempt(turbo._metal_qjl_score, grouped[:, :, :, 0], product_state, product.scale_array)
    # Weighted sums.
    scores = mx.zeros((1, heads, repeats, 1, tokens))
    attempt(values.weighted_sum, scores, value_state)
    attempt(values.weighted_sum_from_scores, scores, value_state)
    attempt(turbo._metal_mse_weighted_sum_from_scores, scores, value_state, bits, values.codebook, values.rotation)
    attempt(turbo._metal_mse_weighted_sum_sum_from_scores, scores, value_state, bits, values.codebook, values.rotation,
            mx.max(scores[:, :, :, 0], axis=-1))
    # Attention in one kernel or two, over short and long contexts.
    attempt(cache(mean).decode_attention, queries, mean_state, value_state)
    with without(turbo, "_fused_mse_decode_kernel"):
        attempt(cache(mean).decode_attention, queries, mean_state, value_state)
    attempt(cache(product).decode_attention, queries, product_state, value_state)
    attempt(cache(product)._compiled_integer_decode_attention, grouped, product_state, value_state)
    with without(turbo, "_fully_fused_decode_kernel"):
        attempt(cache(product)._compiled_integer_decode_attention, grouped, product_state, value_state)
        attempt(single_tile, turbo, cache(product), grouped, product_state, value_state)
    attempt(cache(product).prefill_attention, mx.concatenate([queries, queries], axis=2), product_state, value_state)
    attempt(halves, turbo, vectors, grouped)
    attempt(angles, turbo, width, vectors, grouped)


def single_tile(turbo, cache, grouped, keys, values):
    """The kernel for long contexts, launched as the cache launches it, over a short one."""
    heads, repeats, width, tokens = grouped.shape[1], grouped.shape[2], grouped.shape[-1], keys.norms.shape[2]
    lanes = (width + 31) // 32
    rotated, projected = cache.key_codec.prepare_queries(grouped)
    kernel = turbo._fused_integer_decode_single_tile_kernel(int(cache.value_codec.bits), repeats, lanes,
                                                            cache.key_codec.mse_codec.bits)
    kernel(inputs=[rotated.reshape(1, heads, repeats, width), projected.reshape(1, heads, repeats, width), keys.norms,
                   keys.mse_indices, keys.residual_norms, keys.qjl_signs, values.norms, values.indices,
                   cache.key_codec.mse_codec.codebook, cache.key_codec.scale_array, cache.value_codec.codebook],
           template=[("Dim", width), ("RepeatCount", repeats), ("TokTileSize", 1024), ("DimsPerLane", lanes),
                     ("KMsePackedWidth", keys.mse_indices.shape[-1]), ("KSignPackedWidth", keys.qjl_signs.shape[-1]),
                     ("VPackedWidth", values.indices.shape[-1])],
           grid=(32, 1, heads * ((tokens + 1023) // 1024)), threadgroup=(32, 1, 1),
           output_shapes=[(heads, repeats, width), (heads * repeats,), (heads * repeats,)], output_dtypes=[mx.float32] * 3)


def halves(turbo, vectors, grouped):
    """A cache of three and a half bits: two codecs, each for its columns."""
    keys, values = turbo._SplitCodec(vectors, 3.5, "prod", 0), turbo._SplitCodec(vectors, 3.5, "mse", 1)
    cache = turbo.TurboQuantKVCache(bits=3.5)
    cache.key_codec, cache.value_codec = keys, values
    cache._compiled_split_decode_attention(grouped, keys.quantize(vectors), values.quantize(vectors))


def angles(turbo, width, vectors, grouped):
    """The codec of angles, which needs a power of two."""
    if width & (width - 1):
        width, vectors, grouped = 64, vectors[..., :64], grouped[..., :64]
    codec = turbo._TurboQuantPolarProdCodec(width, 4, 0)
    state = codec.quantize(vectors)
    codec.score(grouped, state)
    with without(turbo, "_polar_turbo_score_repeat_kernel"):
        codec.score(grouped, state)


for drive in (verified_layers, verified_experts, connections, inkling, short_convolution, state_space, small_rows, attention, rotary,
              images, packed_caches):
    attempt(drive)
