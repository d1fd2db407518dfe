#!/usr/bin/env python3
"""Time one layer of the gated delta rule in other implementations on the CPU, forward and backward, row by row of a table.

    python peer_layer.py --peer mlx-lm 256 512 1024
    python peer_layer.py --peer transformers 256 512 1024 2048 4096

Batch 1, 16 key and 32 value heads of 128, float32, as `cargo bench -p cotangent-kernels --bench gated_delta_layers` has them.
mlx-lm differentiates its loop over tokens, transformers its chunks of 64.  Each length runs in a process of its own.  Printed:
tokens, fastest and median of the runs in milliseconds, and the peak in MB: of MLX's memory, or of the process beyond what it
had before.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

KEY_HEADS, VALUE_HEADS, DIM = 16, 32, 128


def inputs(tokens):
    rng = np.random.default_rng(1)

    def unit(*shape):
        x = rng.standard_normal(shape).astype(np.float32)
        return x / np.sqrt((x * x).sum(-1, keepdims=True) + 1e-6)

    return {
        "q": unit(1, tokens, KEY_HEADS, DIM) * DIM**-0.5,
        "k": unit(1, tokens, KEY_HEADS, DIM),
        "v": rng.standard_normal((1, tokens, VALUE_HEADS, DIM)).astype(np.float32),
        "log_decay": -rng.random((1, tokens, VALUE_HEADS)).astype(np.float32),
        "beta": rng.random((1, tokens, VALUE_HEADS)).astype(np.float32),
        "state": rng.standard_normal((1, VALUE_HEADS, DIM, DIM)).astype(np.float32),
    }


def mlx_lm(tokens):
    import mlx.core as mx
    from mlx_lm.models.gated_delta import gated_delta_ops

    mx.set_default_device(mx.cpu)
    arrays = {name: mx.array(value) for name, value in inputs(tokens).items()}
    mx.eval(arrays)

    def loss(a):
        y, state = gated_delta_ops(a["q"], a["k"], a["v"], mx.exp(a["log_decay"]), a["beta"], a["state"])
        return mx.square(y).sum() + mx.square(state).sum()

    gradient = mx.grad(loss)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    return lambda: mx.eval(gradient(arrays)), lambda: mx.get_peak_memory() - before


def transformers(tokens):
    import torch
    from transformers.models.qwen3_5.modeling_qwen3_5 import torch_chunk_gated_delta_rule

    arrays = {name: torch.from_numpy(value).requires_grad_() for name, value in inputs(tokens).items()}
    state = arrays["state"].detach().transpose(-1, -2).contiguous().requires_grad_()
    repeat = VALUE_HEADS // KEY_HEADS

    def run():
        q, k = (arrays[name].repeat_interleave(repeat, dim=2) for name in "qk")
        y, last = torch_chunk_gated_delta_rule(
            q, k, arrays["v"], arrays["log_decay"], arrays["beta"], initial_state=state, output_final_state=True
        )
        loss = y.square().sum() + last.square().sum()
        torch.autograd.grad(loss, [*(arrays[n] for n in ("q", "k", "v", "log_decay", "beta")), state])

    def resident():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

    before = resident()
    return run, lambda: resident() - before


def measure(peer, tokens, runs):
    run, peak = {"mlx-lm": mlx_lm, "transformers": transformers}[peer](tokens)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    # The first run of a process is slower; if there is only one run, it counts.
    timed = times[1:] or times
    print(f"{tokens:6} {min(timed):10.1f} {statistics.median(timed):10.1f} {peak() / 1e6:10.0f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=["mlx-lm", "transformers"], required=True)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("tokens", type=int, nargs="+")
    arguments = parser.parse_args()
    if len(arguments.tokens) == 1:
        return measure(arguments.peer, arguments.tokens[0], arguments.runs)
    for tokens in arguments.tokens:
        command = [sys.executable, __file__, "--peer", arguments.peer, "--runs", str(arguments.runs), str(tokens)]
        if subprocess.run(command).returncode:
            sys.exit(f"{arguments.peer} did not finish {tokens} tokens")


if __name__ == "__main__":
    main()
