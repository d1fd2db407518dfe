"""Calls kernels of mlx-lm, mlx-vlm and MLX's page that no test of theirs calls, each at two sizes.

`record.py --drive calls.py` runs it with the stand-in. A call that the installed version does not take is left out.
"""

import importlib
import itertools
import sys
import types

import mlx.core as mx


def attempt(function, *arguments, **keywords):
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        print(f"calls: {type(error).__name__}: {error}", file=sys.stderr)


def of(module, name):
    return getattr(importlib.import_module(module), name)


def normal(*shape, dtype=mx.float32):
    return mx.zeros(shape, dtype=dtype)


def both(path):
    for package in ("mlx_lm", "mlx_vlm"):
        yield f"{package}.{path}"


def rotary():
    for module, (batch, length) in itertools.product(both("kernels.qk_norm_rope"), [(1, 3), (2, 5)]):
        attempt(of(module, "qk_norm_rope"), normal(batch, length, 960), n_heads=4, n_kv_heads=2, head_dim=80, eps=1e-6,
                query_scale=1.0, rope_base=10000.0, offset=3)


def small_fusions():
    """Second sizes of what mlx-lm's tests call at one."""
    for batch, length in [(1, 3), (2, 7)]:
        for module in both("kernels.qk_norm"):
            attempt(of(module, "qk_norm"), normal(batch, length, 960), n_heads=4, n_kv_heads=2, head_dim=80, eps=1e-6,
                    query_scale=1.0)
        for module in both("kernels.expert_routing"):
            attempt(of(module, "expert_routing"), normal(batch, length, 48), normal(48), top_k=5, multiplier=1.0,
                    score_eps=1e-9, route_scale=1.0)
        for module in both("kernels.post_expert_norm_combine"):
            attempt(of(module, "post_expert_norm_combine"), normal(batch, length, 4, 320), normal(batch, length, 4),
                    norm_weight=normal(320), eps=1e-6)
        for module in both("kernels.rms_norm_sigmoid_gate"):
            attempt(of(module, "rms_norm_sigmoid_gate"), normal(batch, 4, length, 64), normal(batch, length, 256), eps=1e-6)
        for module in both("kernels.norm_add_norm"):
            for norm in (None, types.SimpleNamespace(weight=normal(512), eps=1e-6)):
                attempt(of(module, "norm_add_norm"), normal(batch, length, 512), normal(batch, length, 512),
                        alpha=normal(512), beta=normal(512), post_weight=normal(512), post_eps=1e-6, next_norm=norm)


def losses():
    module = importlib.import_module("mlx_lm.tuner.losses")
    for rows, words in [(2, 4100), (3, 9000)]:
        logits, row = normal(rows, words), normal(rows)
        for name, inputs, outputs in [
            ("_kl_forward_kernel", [logits, logits], [row]),
            ("_kl_backward_kernel", [logits, logits, row], [logits]),
            ("_js_forward_kernel", [logits, logits], [row, row]),
            ("_js_backward_kernel", [logits, logits, row, row], [logits]),
        ]:
            attempt(getattr(module, name), inputs=inputs, template=[("T", mx.float32), ("V", words)],
                    grid=(1024, rows, 1), threadgroup=(1024, 1, 1), output_shapes=[value.shape for value in outputs],
                    output_dtypes=[mx.float32] * len(outputs))


def residuals():
    for module in ("mlx_lm.models.kimi_k3", "mlx_vlm.models.kimi_k3.language"):
        for blocks, tokens, width in [(2, 3, 512), (3, 5, 1024)]:
            kept = of(module, "ResidualBlocks")(1e-6)
            for _ in range(blocks):
                attempt(kept.append, normal(1, tokens, width))
            attempt(of(module, "_attn_res_mix"), kept, normal(1, tokens, width), normal(width), 1e-6)


def masks():
    for batch, words in [(1, 3), (2, 32)]:
        attempt(of("mlx_vlm.structured", "_LLGUIDANCE_MASK_KERNEL"),
                inputs=[normal(batch, words * 32 - 5), mx.zeros((batch, words), dtype=mx.int32)],
                template=[("T", mx.float32)], grid=(words * 32 - 5, batch, 1), threadgroup=(256, 1, 1),
                output_shapes=[(batch, words * 32 - 5)], output_dtypes=[mx.float32])


def rounding():
    for rows in (3, 8):
        attempt(of("mlx_vlm.models.deepseek_v41.fakequant", "fake_quant_fp8_ue8m0"), normal(rows, 64))


def hyper_connections():
    module = "mlx_vlm.models.deepseek_v4.hyper_connection"
    for length, width in [(3, 64), (5, 256)]:
        mixes, scale, base = normal(1, length, 24), normal(3), normal(24)
        attempt(of(module, "hc_split_sinkhorn"), mixes, scale, base, 4, 3, 1e-6)
        x = normal(1, length, 4, width, dtype=mx.bfloat16)
        attempt(of(module, "_hc_kernel"), x, x, mixes, scale, base, 4, 3, 1e-6)


def gated_delta():
    for (module, name), (batch, length), vector, masked, steps in itertools.product(
        [("mlx_vlm.models.gated_delta", "gated_delta_kernel")], [(1, 3), (2, 5)], [False, True], [False, True], [None, 2]
    ):
        q = normal(batch, length, 2, 128)
        v = normal(batch, length, 4, 64)
        g = normal(batch, length, 4, 128) if vector else normal(batch, length, 4)
        mask = mx.ones((batch, length), dtype=mx.bool_) if masked else None
        attempt(of(module, name), q, q, v, g, normal(batch, length, 4), normal(batch, 4, 64, 128), mask, steps)


def gated_delta_states():
    module = importlib.import_module("mlx_vlm.models.qwen3_5.gated_delta")
    for masked, (batch, length) in itertools.product([False, True], [(1, 3), (2, 5)]):
        kernel = attempt(module._make_gated_delta_with_states_kernel, masked)
        q, v = normal(batch, length, 2, 128), normal(batch, length, 4, 64)
        inputs = [q, q, v, normal(batch, length, 4), normal(batch, length, 4), normal(batch, 4, 64, 128), length]
        inputs += [mx.ones((batch, length), dtype=mx.bool_)] if masked else []
        attempt(kernel, inputs=inputs,
                template=[("InT", mx.float32), ("StT", mx.float32), ("Dk", 128), ("Dv", 64), ("Hk", 2), ("Hv", 4),
                          ("StateT", length)],
                grid=(32, 64, batch * 4), threadgroup=(32, 4, 1),
                output_shapes=[v.shape, (batch, 4, 64, 128), (batch, length, 4, 64, 128)],
                output_dtypes=[mx.float32] * 3)


def packed_linear():
    kernel = of("mlx_vlm.models.bitnet.bitlinear", "_bitlinear_kernel")
    for rows, inputs, outputs in [(1, 512, 64), (3, 1024, 128)]:
        attempt(kernel, inputs=[normal(rows, inputs), mx.zeros((outputs // 4, inputs), dtype=mx.uint8), normal(1)],
                template=[("T", mx.float32), ("invert_weight_scales", False), ("in_features", inputs),
                          ("out_features", outputs)],
                grid=(32, rows * outputs // 4, 1), threadgroup=(32, 1, 1), output_shapes=[(rows, outputs)],
                output_dtypes=[mx.float32])


def verification():
    module = "mlx_vlm.models.exact_speculative_verify"
    for length, width, outputs in [(3, 256, 64), (5, 512, 128)]:
        x = normal(1, length, width, dtype=mx.bfloat16)
        attempt(of(module, "exact_speculative_verify_weight"), normal(outputs, width, dtype=mx.bfloat16), x)
        attempt(of(module, "exact_speculative_verify_switch_weight"), normal(4, outputs, width, dtype=mx.bfloat16), x,
                mx.zeros((1, length, 2), dtype=mx.uint32))


def sparse_attention():
    for length, keys, chosen in [(3, 64, 16), (2, 33, 8)]:
        q = normal(1, 4, length, 64, dtype=mx.bfloat16)
        kv = normal(1, 2, keys, 64, dtype=mx.bfloat16)
        attempt(of("mlx_vlm.models.sparse_attention", "indexed_sparse_attention"), q, kv, kv,
                mx.zeros((1, length, chosen), dtype=mx.int32), 0.125)
    for length, pooled in [(3, 5), (5, 300)]:
        attempt(of("mlx_vlm.models.longcat_flash_sparse.indexer_kernel", "indexer_dense_scores"),
                normal(1, 4, length, 64), normal(1, pooled, 64), normal(1, length, 4), 0.125)


def rotations():
    """The rotary kernels, as the tests of `rope_utils` call them."""
    module = importlib.import_module("mlx_vlm.models.rope_utils")
    for length in (3, 7):
        x = normal(1, 4, length, 128)
        positions = mx.zeros((3, 1, length), dtype=mx.int32)
        for name in ("apply_multimodal_rotary", "apply_mrope", "mrope_apply"):
            if hasattr(module, name):
                attempt(getattr(module, name), x, positions)


def images():
    module = "mlx_vlm.models.kernels"
    for size in (5, 8):
        x = normal(1, 3, size, size + 1)
        attempt(of(module, "nearest_interpolate"), x, size=(7, 9))
        attempt(of(module, "bicubic_interpolate"), x, size=(7, 9))
        attempt(of(module, "bicubic_interpolate"), x, size=(3, 3), antialias=True)
        attempt(of(module, "grid_sample"), normal(1, size, size + 1, 3), normal(1, 4, 4, 2))
        indices, weights = mx.zeros((7, 4), dtype=mx.int32), normal(7, 4)
        attempt(of(module, "separable_interpolate"), normal(1, size, size + 1, 3), indices, weights, indices, weights)


def video():
    for height, width in [(4, 6), (8, 32)]:
        planes = [mx.zeros((height, width), dtype=mx.uint8)] + [mx.zeros((height // 2, width // 2), dtype=mx.uint8)] * 2
        meta = {"colorspace": 2, "format": "yuv420p", "depth": 8, "log2_chroma_w": 1, "log2_chroma_h": 1}
        attempt(of("mlx_vlm.models.embedding_gemma2._video_kernel", "yuv_to_rgb"), planes, meta)


def page(scope):
    """The functions of MLX's page."""
    import numpy

    scope["np"] = numpy
    for batch, size in [(1, 4), (2, 7)]:
        x, grid = normal(batch, size, size, 8), normal(batch, 3, 3, 2)
        # Each block of the page calls its kernel `kernel`.
        for name in ("myexp", "myexp_strided"):
            scope["kernel"] = scope["kernels"][name]
            attempt(scope["exp_elementwise"], x)
        scope["kernel"] = scope["kernels"]["grid_sample"]
        attempt(scope["grid_sample"], x, grid)
        scope["kernel"] = scope["kernels"]["grid_sample_grad"]
        attempt(scope["grid_sample_vjp"], (x, grid), normal(batch, 3, 3, 8), None)


if "PAGE" in globals():
    attempt(page, PAGE)
for drive in (rotary, small_fusions, losses, residuals, masks, rounding, hyper_connections, gated_delta, gated_delta_states, packed_linear,
              verification, sparse_attention, rotations, images, video):
    attempt(drive)
