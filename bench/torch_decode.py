#!/usr/bin/env python3
"""Decode by others, on the shapes of cuda_decode_bench: time of one step per layer, bfloat16.

Dense: FlashAttention and cuDNN through PyTorch, from a CUDA graph over eight layers (fewer where
memory is short) with a cache each, as cuda_decode_bench does. Sparse: the authors' package, with
--hip-authors, whose keys and values are the same for all layers. What cannot run is listed with its
reason. Writes JSON like Google Benchmark's with --json.

    python3 bench/torch_decode.py --shapes 1x32768 1x1048576 8x131072
"""

import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

import torch_authors
from torch_results import Results, heads_of, median_seconds, parser_of

LAYERS = 8
DENSE = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
SHAPES = [f"1x{8192 << i}" for i in range(10)] + ["8x131072"]


def dense_seconds(backend, options, batch, context):
    heads, head_dim = options.kv_heads, options.head_dim
    cache_bytes = 2 * batch * context * heads * head_dim * 2
    layers = max(1, min(LAYERS, (torch.cuda.mem_get_info()[0] - 4 * 2**30) // cache_bytes))
    tensor = {"dtype": torch.bfloat16, "device": "cuda"}
    keys, values = (
        [torch.randn(batch, heads, context, head_dim, **tensor) for _ in range(layers)]
        for _ in range(2)
    )
    query = torch.randn(batch, options.q_heads, 1, head_dim, **tensor)

    def step():
        for key, value in zip(keys, values):
            scaled_dot_product_attention(query, key, value, enable_gqa=True)

    with sdpa_kernel(backend):
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
    return median_seconds(graph.replay) / layers


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--shapes", nargs="+", metavar="BATCHxCONTEXT", default=SHAPES)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch_decode.py: PyTorch finds no GPU")

    results = Results(options.filter)
    heads = heads_of(options)
    shapes = {shape: [int(number) for number in shape.split("x")] for shape in options.shapes}
    for name, backend in DENSE.items():
        for shape, sizes in shapes.items():
            results.run(f"decode/bfloat16/dense/{name}/{shape}/{heads}",
                        lambda: dense_seconds(backend, options, *sizes))
    if options.hip_authors is None:
        if results.wants("decode/bfloat16/hip_authors/"):
            results.skip("decode/bfloat16/hip_authors", "no checkout was given with --hip-authors")
    else:
        for state in ("refreshed", "reused"):
            for shape, sizes in shapes.items():
                results.run(f"decode/bfloat16/hip_authors/{state}/{shape}/{heads}",
                            lambda: torch_authors.decode_seconds(
                                options.hip_authors, options, state, *sizes))
    if options.json:
        results.write(options.json)


if __name__ == "__main__":
    main()
