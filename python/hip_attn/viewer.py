"""The mask viewer: a web page of what each head of a prompt selects, against its true attention.

    layers = [hip_attn.viewer.Layer(5, q, k, hip_attn.Config.preset("infinite_hip"))]
    hip_attn.viewer.write_html("view.html", tokens, layers)

One file that needs no network; docs/guide/viewer.md shows it. It takes numpy.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional, Union

try:
    import numpy as np
except ImportError as error:
    raise ImportError(f"hip_attn.viewer takes numpy: pip install numpy ({error})") from error

from ._config import Config
from ._core import (
    KvPages,
    LandmarkLevel,
    Landmarks,
    Selection,
    Workspace,
    prefill,
    update_landmarks,
)
from ._plan import plan_prefill

__all__ = ["Layer", "Mark", "Selected", "select", "write_html"]

_DATA_MARK = "<!-- hip_attn view data -->"
_CELL_KEYS = 8  # at most
_MOST_BYTES = 400_000_000  # a browser holds no longer text than about half a gigabyte


class Selected(NamedTuple):
    """What the query blocks of a prompt select, as hip_attn.Selection holds it for one request.

    blocks: [query blocks, Hk, n] block numbers, ascending. counts: [query blocks, Hk], how many of
    them. window_start: [query blocks, Hk], the first key that needs no selection.
    """

    blocks: Any
    counts: Any
    window_start: Any


@dataclass(frozen=True)
class Layer:
    """One layer of the model, over a whole prompt.

    number: of the layer in the model.
    q, k: [tokens, Hq, D] and [tokens, Hk, D], rotary embedding applied; arrays that numpy reads.
    config: what attention runs with.
    selection: what it selected; None: select(q, k, config).
    heads: the query heads whose queries and keys are in the page; None: all. The others are in its
    table of the mass covered alone.
    """

    number: int
    q: Any
    k: Any
    config: Config
    selection: Optional[Selected] = None
    heads: Optional[Iterable[int]] = None


class Mark(NamedTuple):
    """A place to go to: a query, and a key that it may look for."""

    label: str
    query: int
    key: int


def select(q: Any, k: Any, config: Config, *, scale: Optional[float] = None) -> Selected:
    """What a prefill of the whole prompt selects, searched on the CPU in float32.

    q, k: [tokens, Hq, D] and [tokens, Hk, D]; D is a head dim that the library was built with.
    """
    q, k = _rows("q", q), _rows("k", k)
    tokens, num_q_heads, head_dim = q.shape
    num_kv_heads = k.shape[1]
    plan = plan_prefill(
        config,
        num_q_heads=num_q_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_seq_len=tokens,
        total_q=tokens,
        dtype="float32",
    )
    chunks = config.landmark_chunk_sizes()
    # One page that holds whole chunks.
    largest = max(chunks, default=1)
    padded = np.zeros((1, -(-tokens // largest) * largest, num_kv_heads, head_dim), np.float32)
    padded[0, :tokens] = k
    pages = KvPages(padded, padded)
    seq_lens = np.array([tokens], np.int32)
    table = np.zeros((1, 1), np.int32)
    landmarks = None
    if chunks:
        levels = []
        for chunk in chunks:
            rows = np.zeros((1, padded.shape[1] // chunk, num_kv_heads, 2, head_dim), np.float32)
            levels.append(LandmarkLevel(chunk, rows, table))
        landmarks = Landmarks(levels)
        from_lens = np.zeros(1, np.int32)
        update_landmarks(landmarks, pages, block_table=table, from_lens=from_lens, to_lens=seq_lens)
    shape = plan.selection_rows, num_kv_heads
    selected = Selected(
        np.zeros((*shape, plan.max_selected_blocks), np.int32),
        np.zeros(shape, np.int32),
        np.zeros(shape, np.int32),
    )
    prefill(
        plan,
        Workspace(plan.workspace_bytes),
        q,
        pages,
        block_table=table,
        seq_lens=seq_lens,
        cu_seqlens_q=np.array([0, tokens], np.int32),
        out=np.empty_like(q),
        scale=scale,
        landmarks=landmarks,
        selection_out=None if not config.stages else Selection(*selected),
    )
    query_blocks = -(-tokens // config.block_q)
    return Selected(*(array[:query_blocks] for array in selected))


def write_html(
    path: Union[str, os.PathLike[str]],
    tokens: Sequence[Union[str, bytes]],
    layers: Iterable[Layer],
    *,
    title: str = "",
    attention: str = "",
    marks: Iterable[Mark] = (),
    scale: Optional[float] = None,
) -> int:
    """Writes the page and returns its bytes.

    tokens: the text of each. title, attention: what the page says of the run. scale: of the logits;
    None: 1 / sqrt(D). The time grows with the square of the tokens and with the heads: 8192 tokens
    take about a second a head.

    Raises ValueError for arrays that do not fit together, or make a page that no browser opens.
    """
    texts = [token.encode() if isinstance(token, str) else token for token in tokens]
    layers = list(layers)
    if not texts or not layers:
        raise ValueError(f"{'layers' if texts else 'tokens'} is empty; the page shows at least one")
    prepared = [_Prepared(layer, len(texts), scale) for layer in layers]
    dims = sorted({layer.q.shape[2] for layer in prepared})
    if len(dims) > 1:
        raise ValueError(f"layers have head dims {dims}; a page has layers of one")
    if scale is None:
        scale = dims[0] ** -0.5
    arrays = _Arrays()
    data: dict[str, Any] = {
        "format": 1,
        "title": title or f"{len(texts)} tokens",
        "attention": attention,
        "tokens": len(texts),
        "head_dim": dims[0],
        "scale": scale,
        "text": {
            "bytes": arrays.add(np.frombuffer(b"".join(texts), np.uint8)),
            "ends": arrays.add(np.cumsum([len(text) for text in texts]).astype(np.int32)),
        },
        "marks": [_mark(Mark(*mark), len(texts)) for mark in marks],
        "layers": [layer.entry(scale, arrays) for layer in prepared],
    }
    page = (pathlib.Path(__file__).parent / "viewer.html").read_text(encoding="utf-8")
    before, after = page.split(_DATA_MARK)
    text = json.dumps(data).replace("<", "\\u003c")  # so that no text ends the element
    data_element = f'<script type="application/json" id="view-data">{text}</script>\n'
    content = "".join([before, *arrays.elements, data_element, after]).encode()
    if len(content) > _MOST_BYTES:
        raise ValueError(
            f"the page has {len(content) / 1e6:.0f} MB; a browser opens {_MOST_BYTES // 10**6} at "
            "most: give fewer layers, heads or tokens"
        )
    pathlib.Path(path).write_bytes(content)
    return len(content)


class _Arrays:
    """Arrays as elements of the page, which the data names by number."""

    _TYPES = {np.uint8: "u8", np.int32: "i32", np.float16: "f16", np.float32: "f32"}

    def __init__(self) -> None:
        self.elements: list[str] = []

    def add(self, values: Any) -> int:
        number = len(self.elements)
        kind = self._TYPES[values.dtype.type]
        little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        text = base64.b64encode(little.tobytes()).decode()
        self.elements.append(
            f'<script type="text/plain" id="array-{number}" data-type="{kind}">{text}</script>\n'
        )
        return number


class _Prepared:
    """A layer whose arrays were looked at, with queries and keys as the page holds them."""

    def __init__(self, layer: Layer, tokens: int, scale: Optional[float]) -> None:
        name = f"layer {layer.number}"
        self.number = layer.number
        self.config = config = layer.config
        if config.stages and config.stages[-1].keep == 0:
            raise ValueError(f"{name} has a window alone: it selects no blocks to show")
        q, k = _rows(f"{name}: q", layer.q), _rows(f"{name}: k", layer.k)
        for of, rows in (("q", q), ("k", k)):
            if rows.shape[0] != tokens:
                raise ValueError(
                    f"{name}: {of} has {rows.shape[0]} rows; there are {tokens} tokens"
                )
        num_q_heads, head_dim = q.shape[1:]
        if k.shape[2] != head_dim or head_dim % 4 != 0:
            raise ValueError(
                f"{name}: q and k have head dims {head_dim} and {k.shape[2]}; they must be equal "
                "and a multiple of 4"
            )
        if num_q_heads % k.shape[1] != 0:
            raise ValueError(
                f"{name}: {num_q_heads} query heads do not share {k.shape[1]} KV heads"
            )
        self.q, self.k = _halves(f"{name}: q", q), _halves(f"{name}: k", k)
        self.group = num_q_heads // k.shape[1]
        self.heads = range(num_q_heads) if layer.heads is None else sorted(set(layer.heads))
        for head in self.heads:
            if not 0 <= head < num_q_heads:
                raise ValueError(f"{name}: heads has {head}; it has heads 0 to {num_q_heads - 1}")
        self.block_k = config.stages[-1].chunk_size if config.stages else _CELL_KEYS
        self.cell = min(self.block_k, _CELL_KEYS)
        self.sink = config.sink if config.stages else 0
        self._select(layer, q, k, scale)

    def _select(self, layer: Layer, q: Any, k: Any, scale: Optional[float]) -> None:
        tokens, kv_heads = k.shape[:2]
        query_blocks = -(-tokens // self.config.block_q)
        self.firsts = range(0, tokens, self.config.block_q)
        if not self.config.stages:  # every key is in the window
            self.blocks = [[np.zeros(0, np.int32)] * query_blocks] * kv_heads
            self.window_start = np.zeros((query_blocks, kv_heads), np.int32)
            return
        selected = layer.selection or select(q, k, layer.config, scale=scale)
        blocks, counts, starts = (np.asarray(array, np.int32) for array in selected)
        for of, array, dims in (
            ("blocks", blocks, 3),
            ("counts", counts, 2),
            ("window_start", starts, 2),
        ):
            if array.ndim != dims or array.shape[:2] != (query_blocks, kv_heads):
                raise ValueError(
                    f"layer {layer.number}: selection.{of} has shape {array.shape}; its first two "
                    f"sizes must be {query_blocks} query blocks and {kv_heads} KV heads"
                )
        self.window_start = starts
        self.blocks = [
            [blocks[n, head, : counts[n, head]] for n in range(query_blocks)]
            for head in range(kv_heads)
        ]
        for head in range(kv_heads):
            for n in range(query_blocks):
                self._check(layer.number, n, head)

    def _check(self, number: int, n: int, head: int) -> None:
        start, blocks = int(self.window_start[n, head]), self.blocks[head][n]
        fits = start >= self.sink and (start - self.sink) % self.block_k == 0
        if len(blocks):
            fits = fits and int(blocks[0]) * self.block_k >= self.sink
            fits = fits and (int(blocks[-1]) + 1) * self.block_k <= start
            fits = fits and bool((np.diff(blocks) > 0).all())
        if not fits:
            raise ValueError(
                f"layer {number}: selection of query block {n}, KV head {head}: blocks {blocks[:4]}"
                f"... and window_start {start}; expected ascending blocks of {self.block_k} keys "
                f"between the sink of {self.sink} and the window, whole blocks apart"
            )

    def ranges(self, n: int, kv_head: int) -> list[tuple[int, int]]:
        """The keys that a query block attends to, ascending: sink, blocks, window."""
        end = min(len(self.q), self.firsts[n] + self.config.block_q)
        bounds = [(0, self.sink)]
        bounds += [
            (int(b) * self.block_k, (int(b) + 1) * self.block_k) for b in self.blocks[kv_head][n]
        ]
        bounds.append((int(self.window_start[n, kv_head]), end))
        return [(first, min(last, end)) for first, last in bounds if first < min(last, end)]

    def entry(self, scale: float, arrays: _Arrays) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "layer": self.number,
            "block_q": self.config.block_q,
            "block_k": self.block_k,
            "cell_keys": self.cell,
            "sink": self.sink,
            "covered": [],
            "kv_heads": [],
            "heads": [],
        }
        for head in range(self.q.shape[1]):
            kv_head = head // self.group
            mass = self._mass(head, kv_head, scale)
            entry["covered"].append(float(mass["covered"].mean(dtype=np.float64)))
            if head not in self.heads:
                continue
            if not entry["kv_heads"] or entry["kv_heads"][-1]["kv_head"] != kv_head:
                entry["kv_heads"].append(self._kv_head(kv_head, arrays))
            numbers = {name: arrays.add(values) for name, values in mass.items()}
            queries = arrays.add(self.q[:, head])
            entry["heads"].append({"head": head, "kv_head": kv_head, "queries": queries, **numbers})
        return entry

    def _kv_head(self, kv_head: int, arrays: _Arrays) -> dict[str, int]:
        blocks = self.blocks[kv_head]
        return {
            "kv_head": kv_head,
            "keys": arrays.add(self.k[:, kv_head]),
            "blocks": arrays.add(np.concatenate(blocks).astype(np.int32)),
            "block_ends": arrays.add(np.cumsum([len(b) for b in blocks]).astype(np.int32)),
            "window_start": arrays.add(self.window_start[:, kv_head].astype(np.int32)),
        }

    def _mass(self, head: int, kv_head: int, scale: float) -> dict[str, Any]:
        """lse, covered, cells and attended, as the page's comment defines them."""
        tokens = len(self.q)
        keys = self.k[:, kv_head].astype(np.float32)
        lse, covered = np.empty((2, tokens), np.float32)
        cells, attended = [], []
        for n, first in enumerate(self.firsts):
            end = min(tokens, first + self.config.block_q)
            logits = self.q[first:end, head].astype(np.float32) @ keys[:end].T * np.float32(scale)
            rows = np.arange(first, end)
            logits[np.arange(end) > rows[:, None]] = -np.inf
            top = logits.max(axis=1, keepdims=True)
            mass = np.exp(logits - top)
            total = mass.sum(axis=1, keepdims=True, dtype=np.float64)
            lse[first:end] = (top + np.log(total))[:, 0]
            mass /= total
            bounds = np.arange(0, end, self.cell)
            cells.append(np.add.reduceat(mass.mean(axis=0, dtype=np.float64), bounds))
            at = np.concatenate([np.arange(*keys_of) for keys_of in self.ranges(n, kv_head)])
            seen = mass[:, at]
            share = seen.sum(axis=1, keepdims=True, dtype=np.float64)
            covered[first:end] = share[:, 0]
            # A cell begins where a range or a multiple of its size does.
            starts = np.flatnonzero((at % self.cell == 0) | (np.diff(at, prepend=-2) != 1))
            attended.append(np.add.reduceat((seen / share).mean(axis=0), starts))
        return {
            "lse": lse,
            "covered": covered,
            "cells": np.concatenate(cells).astype(np.float16),
            "attended": np.concatenate(attended).astype(np.float16),
        }


def _rows(name: str, array: Any) -> Any:
    rows = np.ascontiguousarray(np.asarray(array), np.float32)
    if rows.ndim != 3:
        raise ValueError(f"{name} has {rows.ndim} dimensions; it must be [tokens, heads, head dim]")
    return rows


def _halves(name: str, rows: Any) -> Any:
    with np.errstate(over="ignore"):
        halves = rows.astype(np.float16)
    if not np.isfinite(halves).all():
        raise ValueError(
            f"{name} has values beyond the range of float16, in which the page holds them"
        )
    return halves


def _mark(mark: Mark, tokens: int) -> dict[str, Any]:
    if not 0 <= mark.key <= mark.query < tokens:
        raise ValueError(
            f"{mark}; the key must be at or before the query, both from 0 to {tokens - 1}"
        )
    return {"label": mark.label, "query": int(mark.query), "key": int(mark.key)}
