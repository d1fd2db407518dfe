"""The converters of mlx-lm and mlx-vlm, run on a folder of weights without a tokenizer."""

import importlib
from pathlib import Path


class NoTokenizer:
    def save_pretrained(self, *_args, **_kwargs):
        pass


def run_converter(tool, source, target, **options):
    """The `convert` of the tool, with a model loaded by its own loader and no tokenizer."""
    package = tool.replace("-", "_")
    module = importlib.import_module(package + ".convert")
    utils = importlib.import_module(package + ".utils")
    if tool == "mlx-lm":

        def load(path, **_):
            model, config = utils.load_model(Path(path), lazy=True)
            return model, NoTokenizer(), config

        module.load = load
    else:
        module.get_model_path = lambda path, revision=None: Path(path)
        module.fetch_from_hub = lambda path, **_: (
            utils.load_model(Path(path), lazy=True, trust_remote_code=False), utils.load_config(Path(path)), NoTokenizer()
        )
    module.convert(str(source), str(target), quantize=True, **options)
    (Path(target) / "README.md").unlink(missing_ok=True)


def loaded(tool, path):
    """The model in a folder, loaded by the tool."""
    utils = importlib.import_module(tool.replace("-", "_") + ".utils")
    return utils.load_model(Path(path))[0] if tool == "mlx-lm" else utils.load_model(Path(path), lazy=False)
