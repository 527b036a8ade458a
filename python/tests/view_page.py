"""A page of the viewer that tests write, and what they read back of it."""

import base64
import json
import re

import numpy as np

from hip_attn import Config, Stage, viewer

TOKENS, Q_HEADS, KV_HEADS, DIM = 500, 4, 2, 64
LANDMARK = Config(
    sink=16,
    window=32,
    block_q=16,
    stages=(
        Stage(16, 128, 4, "landmark", "softmax_sum"),
        Stage(8, 48, 4, "every_key", "softmax_sum"),
    ),
)
LARGE_BLOCKS = Config(sink=32, window=40, block_q=64, stages=(Stage(32, 96),))
# Characters of several bytes, one that two tokens share, and what would end the page's elements.
TEXTS = ["a ", "\n", "é".encode()[:1], "é".encode()[1:], "</script>", "<!--", "永"]


def arrays(seed=3):
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((TOKENS, Q_HEADS, DIM)).astype(np.float32) * 2
    k = rng.standard_normal((TOKENS, KV_HEADS, DIM)).astype(np.float32) * 2
    return q, k


def tokens():
    return [f"t{i} " if i % 3 else TEXTS[i // 3 % len(TEXTS)] for i in range(TOKENS)]


def write(path, **changes):
    q, k = arrays()
    layers = [
        viewer.Layer(2, q, k, LANDMARK),
        viewer.Layer(5, k, q[:, :1], LARGE_BLOCKS, heads=[1]),
        viewer.Layer(6, q, k, Config.preset("dense"), heads=[0, 3]),
    ]
    marks = [viewer.Mark("</script> & é", 450, 100)]
    arguments = {"title": "a <b> title", "attention": "landmark", "marks": marks, **changes}
    return viewer.write_html(path, arguments.pop("tokens", tokens()), layers, **arguments)


_TYPES = {"u8": "u1", "i32": "<i4", "f16": "<f2", "f32": "<f4"}
_ARRAY = re.compile(
    r'<script type="text/plain" id="array-(\d+)" data-type="(\w+)">([^<]*)</script>'
)
_DATA = re.compile(r'<script type="application/json" id="view-data">(.*?)</script>')


def read(path):
    """The object of the page's comment, its arrays in the places of their numbers."""
    page = path.read_text(encoding="utf-8")
    arrays = [
        np.frombuffer(base64.b64decode(text, validate=True), _TYPES[kind])
        for _, kind, text in _ARRAY.findall(page)
    ]
    (text,) = _DATA.findall(page)
    data = json.loads(text)

    def place(entry, *names):
        for name in names:
            entry[name] = arrays[entry[name]]

    place(data["text"], "bytes", "ends")
    for layer in data["layers"]:
        for entry in layer["kv_heads"]:
            place(entry, "keys", "blocks", "block_ends", "window_start")
            entry["keys"] = entry["keys"].reshape(data["tokens"], data["head_dim"])
        for entry in layer["heads"]:
            place(entry, "queries", "lse", "covered", "cells", "attended")
            entry["queries"] = entry["queries"].reshape(data["tokens"], data["head_dim"])
    return data


def attended_keys(layer, kv_head, tokens):
    """[tokens, tokens]: whether the query attends to the key, by the page's selection."""
    mask = np.zeros((tokens, tokens), bool)
    (of,) = (entry for entry in layer["kv_heads"] if entry["kv_head"] == kv_head)
    block_starts = np.concatenate([[0], of["block_ends"]])
    for n, window_start in enumerate(of["window_start"]):
        rows = mask[n * layer["block_q"] : (n + 1) * layer["block_q"]]
        rows[:, : layer["sink"]] = True
        rows[:, window_start:] = True
        for block in of["blocks"][block_starts[n] : block_starts[n + 1]]:
            rows[:, block * layer["block_k"] : (block + 1) * layer["block_k"]] = True
    return np.tril(mask)


def true_mass(data, head, keys):
    """[tokens, tokens] attention of every query to every key, and [tokens] LSE, in float64."""
    logits = head["queries"].astype(np.float64) @ keys.astype(np.float64).T * data["scale"]
    logits[np.triu_indices(data["tokens"], 1)] = -np.inf
    lse = np.logaddexp.reduce(logits, axis=1)
    return np.exp(logits - lse[:, None]), lse
