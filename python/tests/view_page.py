"""Reads the data of a viewer's page back."""

import base64
import json
import re

import numpy as np

_TYPES = {"u8": "u1", "i32": "<i4", "f16": "<f2", "f32": "<f4"}
_ARRAY = re.compile(r'<script type="text/plain" id="array-(\d+)" data-type="(\w+)">([^<]*)</script>')
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
