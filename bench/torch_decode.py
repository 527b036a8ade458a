#!/usr/bin/env python3
"""Dense decode through PyTorch's FlashAttention, on the shapes of cuda_decode_bench.

Times one step per layer from a CUDA graph over eight layers with a cache each, as
cuda_decode_bench does, so that the two can be compared when they run on the same machine one after
the other. Prints a table, or JSON with --json.

    python3 bench/torch_decode.py --shapes 1x32768 1x1048576 8x131072
"""

import argparse
import statistics

import torch
import torch.nn.functional as functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch_results import write_results

LAYERS = 8
REPLAYS = 50


def microseconds_per_step(batch, context, q_heads, kv_heads, head_dim):
    cache_bytes = 2 * batch * context * kv_heads * head_dim * 2
    layers = max(1, min(LAYERS, (torch.cuda.mem_get_info()[0] - 4 * 2**30) // cache_bytes))
    options = {"dtype": torch.bfloat16, "device": "cuda"}
    keys = [torch.randn(batch, kv_heads, context, head_dim, **options) for _ in range(layers)]
    values = [torch.randn(batch, kv_heads, context, head_dim, **options) for _ in range(layers)]
    query = torch.randn(batch, q_heads, 1, head_dim, **options)

    def step():
        for key, value in zip(keys, values):
            functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)

    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
    times = []
    for _ in range(REPLAYS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1e3 / layers)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", metavar="BATCHxCONTEXT",
                        default=["1x32768", "1x131072", "1x524288", "1x1048576", "8x131072"])
    parser.add_argument("--q-heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--json", metavar="FILE", help="also write the results here")
    arguments = parser.parse_args()
    results = {}
    for shape in arguments.shapes:
        batch, context = (int(number) for number in shape.split("x"))
        results[shape] = microseconds_per_step(batch, context, arguments.q_heads,
                                               arguments.kv_heads, arguments.head_dim)
        torch.cuda.empty_cache()
    for shape, microseconds in results.items():
        print(f"{shape:>12}  {microseconds:8.1f} us")
    if arguments.json:
        heads = f"q{arguments.q_heads}k{arguments.kv_heads}d{arguments.head_dim}"
        times = {f"decode/bfloat16/dense/flash/{shape}/{heads}": microseconds * 1e-6
                 for shape, microseconds in results.items()}
        write_results(arguments.json, times)


if __name__ == "__main__":
    main()
