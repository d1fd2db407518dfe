#!/usr/bin/env python3
"""Checkpoints as mlx-lm and mlx-vlm quantize them, for `cotangent convert`.

    python make_converted.py golden OUTPUT_DIR      the file that the tests compare with (tests/reference/converted)
    python make_converted.py compare PROGRAM        every format and both layouts, on all small checkpoints in floats: the
                                                    tensors of PROGRAM (a `cotangent`) against theirs, bit by bit; and
                                                    both load what PROGRAM wrote

The packages are mlx, mlx-lm and mlx-vlm of requirements.txt.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIXTURES = HERE / "fixtures"

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
from converters import loaded, run_converter  # noqa: E402

mx.set_default_device(mx.cpu)

GOLDEN = dict(source="vlm", tool="mlx-lm", q_group_size=32, quant_predicate="mixed_3_6")


def prepared(source, dtype, folder, nested):
    """A copy of a checkpoint whose configuration names `dtype`; with a `text_config`, as mlx-lm expects it, if `nested`."""
    shutil.copytree(FIXTURES / source, folder)
    for name in ("reference.safetensors", "lora.safetensors", "tolerances.json"):
        (folder / name).unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    for place in (config, config.get("text_config", {})):
        if "dtype" in place:
            place["dtype"] = dtype
    if nested and "text_config" not in config:
        kind = config["model_type"].removesuffix("_text")
        config = {"model_type": kind, "text_config": config, "tie_word_embeddings": config["tie_word_embeddings"]}
    if nested:  # where mlx-lm looks for it
        config["text_config"].setdefault("tie_word_embeddings", config["tie_word_embeddings"])
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def golden(out):
    out.mkdir(parents=True)
    options = dict(GOLDEN)
    with tempfile.TemporaryDirectory() as work:
        source = prepared(options.pop("source"), "bfloat16", Path(work) / "source", True)
        run_converter(options.pop("tool"), source, Path(work) / "theirs", **options)
        for name in ("config.json", "model.safetensors", "model.safetensors.index.json"):
            shutil.copy(Path(work) / "theirs" / name, out / name)


def tensors(folder):
    out = {}
    for file in sorted(folder.glob("model*.safetensors")):
        out |= mx.load(str(file))
    return out


def bits(array):
    kind = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32}[array.dtype.size]
    return str(array.dtype), tuple(array.shape), np.array(array.view(kind)).tobytes()


def differences(ours, theirs):
    ours, theirs = tensors(ours), tensors(theirs)
    text = {name for name in ours if not name.startswith("vision_tower.")}
    expected = set(theirs)
    found = set(ours) if any(name.startswith("vision_tower.") for name in expected) else text
    out = [f"only {side}: {name}" for side, names in (("ours", found - expected), ("theirs", expected - found)) for name in names]
    return out + [name for name in sorted(found & expected) if bits(ours[name]) != bits(theirs[name])]


def settings(folder):
    """The quantization of each module, defaults filled in."""
    quantization = json.loads((folder / "config.json").read_text())["quantization"]
    whole = lambda entry: (entry.get("mode", "affine"), entry["group_size"] or 64, entry["bits"])
    top = {key: quantization[key] for key in ("group_size", "bits", "mode")}
    return {name: whole(entry) for name, entry in quantization.items() if isinstance(entry, dict)}, whole(top)


def compare(program):
    environment = dict(os.environ, COTANGENT_BACKEND="cpu", OPENBLAS_NUM_THREADS="1")
    formats = [dict(q_bits=b, q_group_size=g) for b, g in ((2, 32), (3, 64), (4, 32), (4, 64), (5, 32), (6, 128), (8, 32))]
    formats += [dict(q_mode=mode) for mode in ("mxfp4", "mxfp8", "nvfp4")]
    formats += [dict(quant_predicate=name, q_group_size=32) for name in ("mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6")]
    failures = 0
    cases = [(s, d, f) for s, d in (("dense-tied", "bfloat16"), ("dense-untied", "float32")) for f in formats]
    cases += [(s, "bfloat16", f) for s in ("vlm", "qwen3-vl") for f in formats if f.get("q_bits") in (4, 8) or "q_mode" in f]
    for source, dtype, options in cases:
        with tempfile.TemporaryDirectory() as work:
            work = Path(work)
            origin = prepared(source, dtype, work / "origin", False)
            arguments = [part for key, value in options.items() for part in ("--" + key.replace("_", "-"), str(value))]
            command = [program, "convert", "--model", origin, "--output", work / "ours", *arguments]
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
            for tool in ["mlx-lm"] + ["mlx-vlm"] * ("vision_config" in json.loads((origin / "config.json").read_text())):
                theirs = work / f"theirs-{tool}"
                given = dict(options)
                if tool == "mlx-vlm" and "q_mode" in given:
                    given |= dict(q_bits=None, q_group_size=None)
                run_converter(tool, prepared(source, dtype, work / tool, True), theirs, **given)
                wrong = differences(work / "ours", theirs)
                if settings(work / "ours") != settings(theirs):
                    wrong.append("quantization of config.json")
                scores = loaded(tool, work / "ours")(mx.array([[1, 2, 3, 4]]))
                scores = scores.logits if hasattr(scores, "logits") else scores
                if not mx.isfinite(scores.astype(mx.float32)).all():
                    wrong.append("scores")
                failures += bool(wrong)
                print("differs" if wrong else "equal  ", source, dtype, tool, options, *wrong[:4], flush=True)
    sys.exit(bool(failures))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["golden", out]:
            golden(Path(out))
        case ["compare", program]:
            compare(Path(program).resolve())
        case _:
            sys.exit(__doc__)
