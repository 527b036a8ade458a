#!/usr/bin/env python3
"""Loads model folders with Transformers and with the engine and compares the likelihoods.

usage: transformers_test.py LLAMA MODEL_FOLDER DATA_FOLDER

The first folder is the bundled model as it is. The others are made from it: their files leave to a
reader what counts, and the engine has to decide as Transformers does. Prints "skipped: " and a
reason where Transformers 5 or PyTorch is missing.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
try:
    import torch
    import transformers
    from safetensors.torch import load_file, save_file
    from transformers import LlamaForCausalLM
except (ImportError, OSError) as error:  # OSError: a library that PyTorch needs
    print(f"skipped: {error}")
    sys.exit()
if int(transformers.__version__.split(".")[0]) < 5:
    print(f"skipped: Transformers is {transformers.__version__}; the engine follows 5")
    sys.exit()

TOKENS = 512
VARIANT_TOKENS = 128  # enough to tell one way of reading from another
TOLERANCE = 1e-4  # both compute in float32
INDEX = "model.safetensors.index.json"
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
# What config.json says instead; None removes a field.
CONFIGS = {
    "rope_theta beside rope_parameters without it": {"rope_parameters": {"rope_type": "default"}},
    "rope_theta in rope_parameters alone": {
        "rope_theta": None,
        "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"},
    },
    "rope_theta in rope_scaling alone": {"rope_theta": None, "rope_scaling": {"rope_theta": 5e5}},
    "two values of rope_theta": {"rope_parameters": {"rope_theta": 1e4}},
    "no rope_theta": {"rope_theta": None},
    "empty rope_scaling and rope_parameters": {"rope_scaling": {}, "rope_parameters": {}},
    "rope_scaling and rope_parameters": {
        "rope_scaling": LLAMA3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    },
    "rope_parameters beside an empty rope_scaling": {"rope_scaling": {}, "rope_parameters": LLAMA3},
    "llama3 by its old name": {
        "rope_scaling": {"type" if k == "rope_type" else k: v for k, v in LLAMA3.items()}
    },
    "the original length by default": {
        "max_position_embeddings": 512,
        "rope_scaling": {k: v for k, v in LLAMA3.items() if not k.startswith("original")},
    },
    "the original length at the top": {
        "rope_scaling": {**LLAMA3, "original_max_position_embeddings": 4096},
        "original_max_position_embeddings": 256,
    },
    "no rms_norm_eps": {"rms_norm_eps": None},
    "fewer layers than the checkpoint": {"num_hidden_layers": 5},
}


class Comparison:
    def __init__(self, llama, model, data):
        self.llama = llama
        self.model = model
        self.haystack = data / "haystack.txt"
        reference = json.loads((data / "reference.json").read_text())
        self.ids = reference["haystack_ids_first_4097"]
        self.failures = 0

    def by_transformers(self, folder, tokens):
        model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
        ids = torch.tensor([self.ids[: tokens + 1]])
        with torch.no_grad():
            logits = model(ids).logits[0, :-1]
        return torch.nn.functional.cross_entropy(logits, ids[0, 1:]).item()

    def by_engine(self, folder, tokens):
        command = [self.llama, "nll", "--model", folder, "--file", self.haystack]
        command += ["--tokens", str(tokens), "--attention", "dense", "--device", "cpu"]
        result = subprocess.run(command, capture_output=True, text=True)
        found = re.search(rf"mean of {tokens} tokens: ([0-9.]+)", result.stdout)
        return float(found.group(1)) if found else result.stderr.strip()

    def compare(self, name, folder, tokens):
        expected = self.by_transformers(folder, tokens)
        found = self.by_engine(folder, tokens)
        passed = isinstance(found, float) and abs(found - expected) < TOLERANCE
        self.failures += not passed
        print(f"{'ok' if passed else 'WRONG':<6} {name:<46} {expected:.5f} {found}", flush=True)

    def compare_variant(self, name, config={}, write=lambda folder: None):
        """A folder with another config.json, and with what `write` does to it."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for file in self.model.iterdir():
                if file.name != "config.json":
                    (folder / file.name).symlink_to(file)
            fields = {**json.loads((self.model / "config.json").read_text()), **config}
            fields = {key: value for key, value in fields.items() if value is not None}
            (folder / "config.json").write_text(json.dumps(fields))
            write(folder)
            self.compare(name, folder, VARIANT_TOKENS)

    def tensors(self):
        tensors = {}
        for file in self.model.glob("*.safetensors"):
            tensors.update(load_file(file))
        return tensors


def overlay(folder, tensors):
    """Adds a file to the folder and sends the index there."""
    save_file(tensors, folder / "overlay.safetensors", metadata={"format": "pt"})
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"].update({name: "overlay.safetensors" for name in tensors})
    (folder / INDEX).unlink()
    (folder / INDEX).write_text(json.dumps(index))


def single_file(folder, tensors):
    """Adds the file that counts before any index."""
    (folder / "model.safetensors").unlink(missing_ok=True)  # a link to the bundled file
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def main():
    comparison = Comparison(sys.argv[1], *(Path(folder).resolve() for folder in sys.argv[2:4]))
    comparison.compare("the bundled model", comparison.model, TOKENS)
    for name, config in CONFIGS.items():
        comparison.compare_variant(name, config)

    tensors = comparison.tensors()
    embedding = tensors["model.embed_tokens.weight"]
    body = {name: t for name, t in tensors.items() if t is not embedding}
    other_norm = {"model.norm.weight": 2 * tensors["model.norm.weight"]}
    tensors_of = {
        "an output that differs from the tied embedding": {"lm_head.weight": 0.5 * embedding},
        "an output that equals the tied embedding": {"lm_head.weight": embedding.clone()},
        "an overlay of the index": other_norm,
        "a type of no interest": {"extra": torch.ones(3, dtype=torch.float8_e4m3fn)},
    }
    for name, extra in tensors_of.items():
        comparison.compare_variant(name, write=lambda folder: overlay(folder, extra))
    single = {
        "a single file beside an index": {**tensors, **other_norm},
        "the tied weight by the output's name": {**body, "lm_head.weight": embedding},
        "the names of the model without output": {
            name.removeprefix("model."): tensor for name, tensor in tensors.items()
        },
    }
    for name, all_tensors in single.items():
        comparison.compare_variant(name, write=lambda folder: single_file(folder, all_tensors))
    sys.exit(1 if comparison.failures else 0)


main()
