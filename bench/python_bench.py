#!/usr/bin/env python3
"""What a call from Python takes: the decode step of bench/c_api_bench, which computes next to nothing.

PYTHONPATH=build/cpu/python bench/python_bench.py

Prints µs per call: with every optional argument, as c_api_bench makes it, and with those that every
call needs; arrays of numpy, and of torch where it is installed.
"""

import time

import numpy as np

import hip_attn

REPETITIONS = 9
CALLS = 20_000


def best(function):
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        for _ in range(CALLS):
            function()
        times.append((time.perf_counter() - start) / CALLS * 1e6)
    return min(times)


def steps(of_numpy):
    """Calls on the arrays that of_numpy makes of numpy's: with all arguments and with few."""
    keys, head_dim = 16, hip_attn.built_head_dims()[0]
    config = hip_attn.Config(window=4, stages=(hip_attn.Stage(4, 4),))
    plan = hip_attn.plan_decode(
        config, num_q_heads=1, num_kv_heads=1, head_dim=head_dim, max_seq_len=keys,
        dtype="float32", num_threads=1,
    )
    ones = lambda *sizes: of_numpy(np.ones(sizes, np.float32))  # noqa: E731
    ints = lambda *values: of_numpy(np.array(values, np.int32))  # noqa: E731
    zeros = lambda *sizes: of_numpy(np.zeros(sizes, np.int32))  # noqa: E731
    q, out, lse = ones(1, 1, head_dim), ones(1, 1, head_dim), ones(1, 1)
    pages = hip_attn.KvPages(ones(1, keys, 1, head_dim), ones(1, keys, 1, head_dim))
    workspace = hip_attn.Workspace(plan.workspace_bytes)
    table, seq_lens, starts, refresh = zeros(1, 1), ints(keys), ints(0, 1), ints(0)
    counters = of_numpy(np.zeros(3, np.int64))
    selection = hip_attn.Selection(
        zeros(1, 1, plan.max_selected_blocks), zeros(1, 1), zeros(1, 1))
    cache = hip_attn.SelectionCache(plan, 1)
    few = dict(block_table=table, seq_lens=seq_lens, cu_seqlens_q=starts, out=out)
    every = dict(few, lse=lse, selection_out=selection, cache=cache, refresh_from=refresh,
                 counters=counters)
    decode = hip_attn.decode
    return {
        "every argument": lambda: decode(plan, workspace, q, pages, **every),
        "few arguments": lambda: decode(plan, workspace, q, pages, **few),
    }


def main():
    frameworks = {"numpy": lambda array: array}
    try:
        import torch

        frameworks["torch"] = torch.from_numpy
    except ImportError:
        pass
    for framework, of_numpy in frameworks.items():
        for name, step in steps(of_numpy).items():
            print(f"{framework}, {name}: {best(step):.2f} µs")


if __name__ == "__main__":
    main()
