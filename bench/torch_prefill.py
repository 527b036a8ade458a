#!/usr/bin/env python3
"""Causal prefill by others, the peers of cuda_prefill_bench: whole prompts of one request, bfloat16.

Dense: cuDNN and FlashAttention-2 through PyTorch. Sparse: PyTorch's FlexAttention with hip_attn's
selection as its block mask, whose search is not counted (torch_flex.py); the authors' package, with
--hip-authors; FlashPrefill V2, with --flashprefill. Median times of CUDA events. Keys and values are
contiguous, and repeated to all query heads beforehand where a backend takes no grouped heads, which
is not timed. What cannot run is listed with its reason. Writes JSON like Google Benchmark's with
--json.

    python3 bench/torch_prefill.py --selections-by build/bench/cuda_prefill_bench
"""

import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

import torch_authors
import torch_flashprefill
import torch_flex
from torch_results import Results, heads_of, median_seconds, parser_of

DENSE = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
LENGTHS = [8192, 16384, 32768, 65536, 131072, 262144]
FLEX_LENGTHS = [32768, 131072]  # each is compiled, which takes longer than its calls


def rows(options, heads, length):
    return torch.randn(1, heads, length, options.head_dim, device="cuda", dtype=torch.bfloat16)


def dense_seconds(backend, options, length):
    q = rows(options, options.q_heads, length)
    k, v = (rows(options, options.kv_heads, length) for _ in range(2))
    if options.q_heads != options.kv_heads:
        group = options.q_heads // options.kv_heads
        k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    with sdpa_kernel(backend):
        return median_seconds(lambda: scaled_dot_product_attention(q, k, v, is_causal=True))


def flex_seconds(selections, preset, options, length):
    q = rows(options, options.q_heads, length)
    k, v = (rows(options, options.kv_heads, length) for _ in range(2))
    return torch_flex.seconds(selections.of(preset, q, k, v), q, k, v)


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--flashprefill", metavar="DIR", help="a checkout of FlashPrefill V2, installed")
    parser.add_argument("--selections", metavar="DIR",
                        help="of FlexAttention, as cuda_prefill_bench --selection_out writes them")
    parser.add_argument("--selections-by", metavar="PROGRAM", help="cuda_prefill_bench, to write them")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch_prefill.py: PyTorch finds no GPU")

    results = Results(options.filter)
    heads = heads_of(options)

    def each(peer, lengths, seconds):
        for length in lengths:
            results.run(f"prefill/bfloat16/{peer}/1x{length}/{heads}", lambda: seconds(length))

    for name, backend in DENSE.items():
        each(f"dense/{name}", options.lengths,
             lambda length: dense_seconds(backend, options, length))
    with torch_flex.Selections(options.selections, options.selections_by, heads) as selections:
        each("infinite_hip/flex", [n for n in options.lengths if n in FLEX_LENGTHS],
             lambda length: flex_seconds(selections, "infinite_hip", options, length))
    for peer, module, folder, option in (
        ("hip_authors", torch_authors, options.hip_authors, "--hip-authors"),
        ("flashprefill_v2", torch_flashprefill, options.flashprefill, "--flashprefill"),
    ):
        if folder is None:
            if results.wants(f"prefill/bfloat16/{peer}/"):
                results.skip(f"prefill/bfloat16/{peer}", f"no checkout was given with {option}")
            continue
        each(peer, options.lengths,
             lambda length: module.prefill_seconds(folder, options, length))
    if options.json:
        results.write(options.json)


if __name__ == "__main__":
    main()
