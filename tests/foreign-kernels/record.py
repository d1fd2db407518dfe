"""Records what other people's Python gives to MLX's `metal_kernel`, without a GPU.

    python record.py OUT --package mlx_lm --package mlx_vlm [--page custom_metal_kernels.rst] [--tests FOLDER ...]

A stand-in takes the place of `mx.fast.metal_kernel` while every module of a package that mentions it is loaded, and
while the functions that make kernels are called. Where tests of the package are at hand, they run with the stand-in,
so that calls are recorded too: shapes, dtypes, template, grid. Results are zeros, so the tests fail; only the calls
count. `OUT/kernels.json` holds one entry for each distinct text, with the place that made it.

Needs `mlx` (its CPU build will do) and the packages; `pytest` for `--tests`. Nothing recorded belongs into this project.
"""

import argparse
import ast
import contextlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import io
import itertools
import json
import os
import pathlib
import re
import signal
import sys
import types

import mlx.core as mx

KERNELS = {}
TEMPLATES = {}


def place():
    """The file and line that calls `metal_kernel`."""
    for frame in inspect.stack()[2:]:
        path = frame.filename
        if "site-packages" in path:
            return path, f"{path.split('site-packages/')[-1]}:{frame.lineno}"
        if path.endswith("page.py"):
            return path, f"page:{frame.lineno}"
    return "", "elsewhere"


def describe(value):
    if isinstance(value, mx.array):
        return {"shape": list(value.shape), "dtype": str(value.dtype).split(".")[-1]}
    if isinstance(value, bool):
        return {"shape": [], "dtype": "bool", "value": value}
    if isinstance(value, int):
        return {"shape": [], "dtype": "int32", "value": value}
    return {"shape": [], "dtype": "float32", "value": float(value)}


def small_values(value):
    """The numbers of a small array of integers: they are lengths and offsets as often as data."""
    entry = describe(value)
    if isinstance(value, mx.array) and value.size <= 4096 and "float" not in entry["dtype"]:
        with contextlib.suppress(Exception):
            entry["values"] = [int(number) for number in value.flatten().tolist()]
    elif isinstance(value, mx.array) and value.size == 1:
        with contextlib.suppress(Exception):
            entry["values"] = [float(value.item())]
    elif not isinstance(value, mx.array):
        entry["values"] = [float(value) if isinstance(value, float) else int(value)]
    return entry


def template_value(value):
    if isinstance(value, mx.Dtype):
        return str(value).split(".")[-1]
    return bool(value) if isinstance(value, bool) else int(value)


def size_of(call):
    """The properties by which calls of one source differ: launch, shapes and template."""
    return json.dumps([call["grid"], [value["shape"] for value in call["inputs"]], call["template"]])


class Kernel:
    def __init__(self, entry):
        self.entry = entry

    def __call__(self, *, inputs, output_shapes, output_dtypes, grid, threadgroup, template=None, init_value=None, **_):
        if (len(inputs), len(output_shapes)) != (len(self.entry["inputs"]), len(self.entry["outputs"])):
            raise ValueError(f"{self.entry['name']} takes other arrays")
        call = {
            "inputs": [small_values(value) for value in inputs],
            "outputs": [
                {"shape": [int(length) for length in shape], "dtype": str(dtype).split(".")[-1]}
                for shape, dtype in zip(output_shapes, output_dtypes)
            ],
            "template": [[name, template_value(value)] for name, value in (template or [])],
            "grid": [int(extent) for extent in grid],
            "threadgroup": [int(extent) for extent in threadgroup],
            "init_value": init_value,
        }
        self.entry["calls"].setdefault(size_of(call), call)
        return [mx.zeros(shape, dtype=dtype) for shape, dtype in zip(output_shapes, output_dtypes)]


def template_names(path):
    """Names in the `template=[..]` lists of a file, with whether a dtype stands behind them."""
    if path not in TEMPLATES:
        found = {}
        with contextlib.suppress(Exception):
            for node in ast.walk(ast.parse(pathlib.Path(path).read_text())):
                if isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.elts[0], ast.Constant):
                    name, value = node.elts[0].value, ast.unparse(node.elts[1])
                    if isinstance(name, str) and name.isidentifier():
                        found[name] = "float32" if "dtype" in value or "mx." in value else 4
        TEMPLATES[path] = found
    return TEMPLATES[path]


def metal_kernel(name, input_names, output_names, source, header="", ensure_row_contiguous=True, atomic_outputs=False, **_):
    key = json.dumps([name, list(input_names), list(output_names), source, header])
    path, where = place()
    entry = KERNELS.setdefault(key, {
        "name": name,
        "places": [],
        "inputs": list(input_names),
        "outputs": list(output_names),
        "source": source,
        "header": header or "",
        "strided": not ensure_row_contiguous,
        "atomic": bool(atomic_outputs),
        "calls": {},
        # For sources that nothing calls: the values that the file gives to template arguments of these names.
        "templates": {name: kind for name, kind in template_names(path).items() if re.search(rf"\b{name}\b", source)},
    })
    if where not in entry["places"]:
        entry["places"].append(where)
    return Kernel(entry)


class CustomFunction:
    """A function that is called as it is."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments, **keywords):
        return self.function(*arguments, **keywords)

    def vjp(self, function):
        return function

    jvp = vmap = vjp


def pretend():
    """Makes the packages believe that this is a Mac."""
    mx.fast.metal_kernel = metal_kernel
    mx.metal.is_available = lambda: True
    mx.compile = lambda function=None, **_: function if function else (lambda inner: inner)
    mx.custom_function = CustomFunction
    mx.default_device = lambda: mx.gpu
    mx.device_info = lambda *_: {"architecture": "applegpu_g16s", "max_recommended_working_set_size": 1 << 34,
                                 "memory_size": 1 << 34, "device_name": "Apple M4"}
    mx.metal.device_info = mx.device_info


def absent(attribute):
    if attribute.startswith("__"):
        raise AttributeError(attribute)
    return type(attribute, (), {})


class Missing:
    """A substitute for modules that are not installed, whose content never runs."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = absent
        return module

    def exec_module(self, module):
        pass


ABSENT = {name for name in ["mlx_audio", "llguidance", "cv2", "datasets", "miniaudio"] if importlib.util.find_spec(name) is None}


def modules(package):
    root = pathlib.Path(importlib.import_module(package).__file__).parent
    for path in sorted(root.rglob("*.py")):
        if "metal_kernel(" in path.read_text():
            parts = path.relative_to(root.parent).with_suffix("").parts
            yield ".".join(parts), path


def build(module):
    """Calls the functions of a module that make kernels, with whatever arguments they accept."""
    for name, function in list(vars(module).items()):
        function = inspect.unwrap(function) if callable(function) else None
        if not inspect.isfunction(function) or function.__module__ != module.__name__:
            continue
        source = inspect.getsource(function)
        if "metal_kernel(" not in source or name.startswith("__"):
            continue
        required = [p for p in inspect.signature(function).parameters.values() if p.kind != p.VAR_KEYWORD]
        flags = [p.name for p in required if isinstance(p.default, bool) or p.annotation is bool]
        for chosen in itertools.product([False, True], repeat=min(len(flags), 4)):
            keywords = dict(zip(flags, chosen))
            for parameter in required:
                if parameter.name in keywords or parameter.default is not inspect.Parameter.empty:
                    continue
                keywords[parameter.name] = guess(parameter.name)
            with contextlib.suppress(Exception):
                function(**keywords)


def guess(name):
    if name.endswith("sizes"):
        return (64, 32)
    if "bits" in name:
        return 4
    if "group" in name:
        return 64
    if "dtype" in name or name == "T":
        return mx.float32
    if "name" in name or "mode" in name:
        return "affine"
    return 128 if "dim" in name or name.startswith("D") else 4


def load(package):
    for name, path in modules(package):
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                module = importlib.import_module(name)
            build(module)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)


def page(path, out):
    """Runs the Python of MLX's page on custom kernels."""
    text = pathlib.Path(path).read_text()
    blocks, current = [], None
    for line in text.splitlines():
        if line.startswith(".. code-block:: python"):
            current = []
        elif current is not None and line and not line.startswith(" "):
            blocks.append("\n".join(current))
            current = None
        elif current is not None:
            current.append(line[2:] if line.startswith("  ") else line)
    if current:
        blocks.append("\n".join(current))
    file = pathlib.Path(out) / "page.py"
    scope = {"mx": mx}
    for block in blocks:
        block = "\n".join(line for line in block.splitlines() if not line.startswith(":"))
        try:
            exec(compile(block, str(file), "exec"), scope)
        except Exception as error:
            print(f"page: {type(error).__name__}: {error}", file=sys.stderr)
        # A block that compares the kernel's results fails behind the call, which was recorded.
        if isinstance(scope.get("kernel"), Kernel):
            scope.setdefault("kernels", {})[scope["kernel"].entry["name"]] = scope["kernel"]
    return scope


def run_tests(folders):
    import pytest

    for folder in folders:
        pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", "-W", "ignore", folder])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="the folder for what is recorded, outside this project")
    parser.add_argument("--package", action="append", default=[])
    parser.add_argument("--page", help="custom_metal_kernels.rst of MLX's documentation")
    parser.add_argument("--tests", action="append", default=[], help="tests of a package, run to record their calls")
    parser.add_argument("--drive", action="append", default=[], help="a Python file that calls more kernels")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    sys.meta_path.append(Missing())
    pretend()
    for package in options.package:
        load(package)
    scope = {"__name__": "drive"}
    if options.page:
        scope["PAGE"] = page(options.page, options.out)
    for file in options.drive:
        exec(compile(pathlib.Path(file).read_text(), file, "exec"), scope)
    # If tests take too long, the records are kept: `timeout 600 python record.py ..`
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    try:
        run_tests(options.tests)
    finally:
        write(options.out)


def keep(earlier):
    """Adds the calls that an earlier run recorded of the same text."""
    key = json.dumps([earlier["name"], earlier["inputs"], earlier["outputs"], earlier["source"], earlier["header"]])
    entry = KERNELS.setdefault(key, {**earlier, "calls": {}})
    entry["places"] += [place for place in earlier["places"] if place not in entry["places"]]
    for call in earlier["calls"]:
        entry["calls"].setdefault(size_of(call), call)


def write(out):
    known = pathlib.Path(out, "kernels.json")
    for earlier in json.loads(known.read_text()) if known.exists() else []:
        keep(earlier)
    kernels = [{**entry, "calls": list(entry["calls"].values())} for entry in KERNELS.values()]
    pathlib.Path(out, "kernels.json").write_text(json.dumps(kernels, indent=1))
    places = sorted({place for kernel in kernels for place in kernel["places"]})
    called = [kernel for kernel in kernels if kernel["calls"]]
    print(f"{len(kernels)} texts of {len(places)} places, {len(called)} of them called")


if __name__ == "__main__":
    main()
