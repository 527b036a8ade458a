"""The authors' package (hip-attention, v1_2), from a checkout: times of its prefill and decode.

Called through its public function on contiguous keys and values, with its own defaults, which are
those of presets::infinite_hip with a window of 512. Statistics of its cache are off.
"""

import pathlib
import sys

import torch

from torch_results import median_seconds

ROWS = 32768  # of a call of prefill, as its serving engine gives it a prompt


def load(folder):
    """Its function and its arguments' type. The package has the name of ours: only one is imported."""
    source = pathlib.Path(folder, "src")
    if not (source / "hip_attn/v1_2").is_dir():
        raise FileNotFoundError(f"{source / 'hip_attn/v1_2'} is not there")
    if "hip_attn" in sys.modules and str(source) not in str(sys.modules["hip_attn"].__path__):
        raise ImportError("another package of the name hip_attn is imported already")
    if str(source) not in sys.path:
        sys.path.insert(0, str(source))
    from hip_attn.v1_2.attention_extend import dual_stage_quadratic_hip_attention
    from hip_attn.v1_2.attention_metadata import HiPAttentionArgs

    return dual_stage_quadratic_hip_attention, HiPAttentionArgs


def rows(options, batch, length, heads):
    return torch.randn(batch, length, heads, options.head_dim, device="cuda", dtype=torch.bfloat16)


def prefill_seconds(folder, options, length):
    attention, arguments = load(folder)
    q = rows(options, 1, length, options.q_heads) * options.head_dim**-0.5
    k, v = (rows(options, 1, length, options.kv_heads) for _ in range(2))

    def call():
        for first in range(0, length, ROWS):
            end = min(length, first + ROWS)
            attention(q[:, first:end], k[:, :end], v[:, :end],
                      arguments(require_cache_statistics=False, require_stage_caches=False))

    return median_seconds(call, most=5)


def decode_seconds(folder, options, state, batch, context):
    attention, arguments = load(folder)
    q = rows(options, batch, 1, options.q_heads) * options.head_dim**-0.5
    k, v = (rows(options, batch, context, options.kv_heads) for _ in range(2))
    position = torch.full((batch, 1), context - 1, device="cuda")
    args = arguments(position_ids=position, require_cache_statistics=False,
                     require_stage_caches=False)
    _, metadata = attention(q, k, v, args)
    selected = metadata if state == "reused" else None

    def step():
        attention(q, k, v, args, cached_metadata=selected)

    step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return median_seconds(graph.replay)
