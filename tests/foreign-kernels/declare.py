"""Writes declarations, and launches for the emulator, of what `record.py` recorded.

    python declare.py OUT

For each text of `OUT/kernels.json`: `kN.metal`, a module in `OUT/declarations.rs` that has nothing but a signature around
it, and `kN_M.toml`, which `cotangent-emulator kN.metal kN_M.toml` runs, for each of at most `--calls` recorded calls.
"""

import argparse
import json
import keyword
import pathlib
import re

DTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "bool": "bool", "uint8": "u8", "int8": "i8",
          "uint16": "u16", "int16": "i16", "uint32": "u32", "int32": "i32", "uint64": "u64", "int64": "i64"}
RUST_WORDS = {"in", "type", "ref", "move", "match", "mod", "use", "loop", "fn", "impl", "box", "mut", "where", "as"}


def port(kind, name, shape, dtype):
    name = f"r#{name}" if name in RUST_WORDS else name
    return f"{name}: {kind}![{DTYPES[dtype]}; {', '.join(map(str, shape))}]"


def declares(source, name):
    """Whether a text defines a name itself."""
    return re.search(rf"(const|constexpr|int|uint|float|using|define)\s+(\w+\s+)?{name}\b\s*(=|\s\d)", source) is not None


def guessed(entry):
    """A call that was not recorded: vectors of floats."""
    return {"inputs": [{"shape": [64], "dtype": "float32"} for _ in entry["inputs"]],
            "outputs": [{"shape": [64], "dtype": "float32"} for _ in entry["outputs"]],
            "template": [[name, kind] for name, kind in entry["templates"].items()
                         if name not in entry["inputs"] + entry["outputs"] and not declares(entry["source"], name)], "grid": [64, 1, 1], "threadgroup": [32, 1, 1], "init_value": 0 if entry["atomic"] else None}


def declaration(number, entry, call):
    constants = [(name, value) for name, value in call["template"] if not isinstance(value, str)]
    generics = [f"{name}: {DTYPES[value].upper()}" for name, value in call["template"] if isinstance(value, str)]
    generics += [f"const {name}: {'bool' if isinstance(value, bool) else 'i32'}" for name, value in constants]
    numbers = [(name, value) for name, value in constants if not isinstance(value, bool)]
    case = ", ".join(f"{name} = {str(value).lower()}" for name, value in constants)
    options = ['inference_only = "measured"',
               f"grid = ({', '.join(str(extent) for extent in call['grid'])})",
               f"threads = ({', '.join(str(extent) for extent in call['threadgroup'])})",
               f"cases = [({case})]"]
    if constants:
        # The kernel requires exactly the recorded sizes.
        requires = [f"{name} == {value}" for name, value in numbers] or []
        if requires:
            options.append(f"requires = [{', '.join(requires)}]")
    if call["init_value"] is not None:
        options.append(f"init = {float(call['init_value'])}")
    if entry["atomic"]:
        options += ["atomic", "nondeterministic"]
    if entry["strided"]:
        options.append("strided")
    if entry["header"].strip():
        options.append("headers = [HEADER]")
    ports = [port("In", name, value["shape"], value["dtype"]) for name, value in zip(entry["inputs"], call["inputs"])]
    ports += [port("Out", name, value["shape"], value["dtype"]) for name, value in zip(entry["outputs"], call["outputs"])]
    function = re.sub(r"\W", "_", entry["name"])
    lines = [f"/// {', '.join(entry['places'])}", f"pub mod k{number} {{"]
    if entry["header"].strip():
        lines.append(f'    const HEADER: &str = include_str!("k{number}.header.metal");')
    lines.append(f"    #[cotangent::differentiable({', '.join(options)})]")
    generics = f"<{', '.join(generics)}>" if generics else ""
    lines.append(f"    pub fn {function}{generics}({', '.join(ports)}) {{ metal_file!(\"k{number}.metal\") }}")
    return "\n".join(lines + ["}"])


def launch(number, entry, call):
    lines = [f"grid = {call['grid']}", f"threadgroup = {call['threadgroup']}"]
    if call["init_value"] is not None:
        lines.append(f"init_value = {float(call['init_value'])}")
    if entry["atomic"]:
        lines.append("atomic_outputs = true")
    if entry["header"].strip():
        lines.append(f'header = "k{number}.header.metal"')
    for name, value in zip(entry["inputs"], call["inputs"]):
        dtype = DTYPES[value["dtype"]]
        values = value.get("values")
        if values is None:
            values = '"random"' if dtype in ("f32", "f16", "bf16") else ('"count"' if dtype.startswith("u") else "0")
        lines.append(f'[[inputs]]\nname = "{name}"\ndtype = "{dtype}"\nshape = {value["shape"]}\nvalues = {values}')
    for name, value in zip(entry["outputs"], call["outputs"]):
        lines.append(f'[[outputs]]\nname = "{name}"\ndtype = "{DTYPES[value["dtype"]]}"\nshape = {value["shape"]}')
    lines.append("[template]")
    for name, value in call["template"]:
        lines.append(f"{name} = " + (f'"{DTYPES[value]}"' if isinstance(value, str) else str(value).lower()))
    return "\n".join(lines) + "\n"


def size(call):
    return sum(product(value["shape"]) for value in call["inputs"] + call["outputs"])


def product(shape):
    result = 1
    for length in shape:
        result *= length
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--calls", type=int, default=2)
    options = parser.parse_args()
    out = pathlib.Path(options.out)
    for earlier in [*out.glob("k*.metal"), *out.glob("k*.toml")]:
        earlier.unlink()
    declarations = ["#![allow(unused)]"]
    for number, entry in enumerate(json.loads((out / "kernels.json").read_text())):
        calls = sorted(entry["calls"], key=size)[: options.calls]
        (out / f"k{number}.metal").write_text(entry["source"])
        if entry["header"].strip():
            (out / f"k{number}.header.metal").write_text(entry["header"])
        declarations.append(declaration(number, entry, calls[0] if calls else guessed(entry)))
        for position, call in enumerate(calls):
            (out / f"k{number}_{position}.toml").write_text(launch(number, entry, call))
    (out / "declarations.rs").write_text("\n\n".join(declarations + ["fn main() {}"]) + "\n")


if __name__ == "__main__":
    main()
