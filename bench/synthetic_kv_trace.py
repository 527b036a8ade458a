#!/usr/bin/env python3
"""Writes a trace of a search of presets::landmark over random keys by queries that drift, as in
cuda_offload_bench: each step a query becomes sqrt(1 - p^2) of itself and p of a random one.

    bench/synthetic_kv_trace.py --length 1M --drift 0.05 --output 1M.trace.gz

For lengths that no model at hand has. Keys are not those of a model: neighbours are no more alike
than others, and no chunk is asked for more than others. Needs numpy. The search is that of
docs/guide/algorithm.md, in float32: landmarks of 64 tokens, from 256k on behind those of 256.
"""

import argparse

import kv_trace
import numpy as np

SINK, WINDOW, HEAD_DIM, QUERY_HEADS, SPREAD = 256, 1024, 128, 4, np.float32(0.5)
SEARCHED_EVERY, SELECTED_EVERY = 16, 8


def sizes(text):
    factor = {"k": 1 << 10, "M": 1 << 20}.get(text[-1])
    return int(text[:-1]) * factor if factor else int(text)


class Keys:
    """Of one KV head, with landmarks [chunks, {hi, lo}, HEAD_DIM] by chunk size."""

    def __init__(self, length, random):
        self.rows = np.empty((length // 64, 64, HEAD_DIM), np.float16)
        landmarks = np.empty((length // 64, 2, HEAD_DIM), np.float32)
        for i in range(0, length // 64, 1024):
            keys = random.standard_normal((min(1024, length // 64 - i), 64, HEAD_DIM), np.float32)
            self.rows[i : i + 1024] = keys
            mean = keys.mean(1)
            landmarks[i : i + 1024, 0] = mean + SPREAD * (keys.max(1) - mean)
            landmarks[i : i + 1024, 1] = mean + SPREAD * (keys.min(1) - mean)
        self.landmarks = {64: landmarks}
        if length > 4096 * 64:
            of_four = landmarks[: length // 256 * 4].reshape(-1, 4, 2, HEAD_DIM)
            self.landmarks[256] = np.stack([of_four[:, :, 0].max(1), of_four[:, :, 1].min(1)], 1)


def softmax_sum(logits):
    """The score of each chunk, of logits [query heads, chunks]."""
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return (weights / weights.sum(1, keepdims=True)).sum(0)


def best(numbers, scores, count):
    """The `count` of `numbers` with the highest scores, ascending."""
    if len(numbers) <= count:
        return numbers
    return np.sort(numbers[np.argsort(-scores, kind="stable")[:count]])


def landmark_stage(landmarks, queries, chunks, keep):
    if len(chunks) <= keep:
        return chunks
    rows = landmarks[chunks]
    logits = np.maximum(queries, 0) @ rows[:, 0].T + np.minimum(queries, 0) @ rows[:, 1].T
    return best(chunks, softmax_sum(logits / np.float32(np.sqrt(HEAD_DIM))), keep)


def find_chunks(keys, queries, w0):
    """First keys of the chunks of 64 that the last stage cuts."""
    chunks = np.arange(SINK // 64, -(-w0 // 64))
    if 256 in keys.landmarks:
        large = np.arange(SINK // 256, -(-w0 // 256))
        large = landmark_stage(keys.landmarks[256], queries, large, 256)
        chunks = (4 * large[:, None] + np.arange(4)).ravel()
        chunks = chunks[chunks * 64 < w0]
    return 64 * landmark_stage(keys.landmarks[64], queries, chunks, 128)


def find_blocks(keys, queries, chunks, w0):
    rows = keys.rows[chunks // 64].astype(np.float32).reshape(-1, HEAD_DIM)
    logits = queries @ rows.T / np.float32(np.sqrt(HEAD_DIM))
    blocks = (chunks[:, None] // 8 + np.arange(8)).ravel()
    of_block = np.logaddexp.reduce(logits.reshape(QUERY_HEADS, -1, 8), 2)
    inside = blocks * 8 < w0
    return best(blocks[inside], softmax_sum(of_block[:, inside]), 256)


def steps_of(length, num_steps, drift, random):
    keys = Keys(length, random)
    queries = random.standard_normal((QUERY_HEADS, HEAD_DIM), np.float32)
    steps = []
    for i in range(num_steps):
        new = random.standard_normal(queries.shape, np.float32)
        queries = np.float32(np.sqrt(1 - drift**2)) * queries + np.float32(drift) * new
        searched, selected = i % SEARCHED_EVERY == 0, i % SELECTED_EVERY == 0
        if searched:
            first_row = length - num_steps + i
            w0 = SINK + (first_row + 1 - WINDOW - SINK) // 8 * 8
            chunks = find_chunks(keys, queries, w0)
        if selected:
            blocks = find_blocks(keys, queries, chunks, w0)
        steps.append(
            kv_trace.Step(w0, 64, chunks.tolist(), blocks.tolist(), searched, selected)
        )
    return steps


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=sizes, required=True, help="tokens at the end: 64k, 1M")
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--drift", type=float, default=0.05)
    parser.add_argument("--kv-heads", type=int, default=4)
    parser.add_argument("--output", required=True)
    options = parser.parse_args()
    random = np.random.Generator(np.random.PCG64(5))
    header = {
        "format": "hip_attn selection trace 1",
        "run": f"random keys, drift {options.drift:g}",
        "prompt_tokens": options.length - options.steps,
        "layers": [0],
        "kv_heads": options.kv_heads,
        "head_dim": HEAD_DIM,
        "sink": SINK,
        "window": WINDOW,
        "block_tokens": 8,
    }
    units = {
        (0, head): steps_of(options.length, options.steps, options.drift, random)
        for head in range(options.kv_heads)
    }
    kv_trace.write(options.output, kv_trace.Trace(header, units))


if __name__ == "__main__":
    main()
