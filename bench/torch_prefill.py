#!/usr/bin/env python3
"""Dense causal prefill with PyTorch's cuDNN and FlashAttention-2, the peers of cuda_prefill_bench.

Whole prompts of one request, bfloat16, 32 query heads, 8 KV heads, head dim 128 unless said: median
time of CUDA events. Keys and values are contiguous and repeated to all query heads beforehand
where a backend takes no grouped heads, which is not timed. Writes JSON like Google Benchmark's with
--json.
"""

import argparse
import statistics
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch_results import write_results

BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def time_ms(call, repetitions):
    for _ in range(2):
        call()
    times = []
    for _ in range(repetitions):
        start = torch.cuda.Event(enable_timing=True)
        stop = torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times)


def measure(backend, length, heads, kv_heads, head_dim, batch, repetitions):
    make = lambda h: torch.randn(batch, h, length, head_dim, device="cuda", dtype=torch.bfloat16)
    q, k, v = make(heads), make(kv_heads), make(kv_heads)
    if heads != kv_heads:
        k, v = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
    with sdpa_kernel(BACKENDS[backend]):
        ms = time_ms(lambda: scaled_dot_product_attention(q, k, v, is_causal=True), repetitions)
    flop = 2 * batch * heads * head_dim * length * length  # causal: half of 4 T^2 D
    return {"backend": backend, "length": length, "heads": heads, "kv_heads": kv_heads,
            "head_dim": head_dim, "batch": batch, "ms": ms, "tflops": flop / ms * 1e-9}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192, 16384, 32768, 131072])
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="also write the results here")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch_prefill.py: PyTorch finds no GPU")

    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, "
          f"cuDNN {torch.backends.cudnn.version()}")
    results = []
    for backend in options.backends:
        for length in options.lengths:
            result = measure(backend, length, options.heads, options.kv_heads, options.head_dim,
                             options.batch, options.repetitions)
            results.append(result)
            print(f"{backend:6} {length:8} tokens  {result['ms']:10.3f} ms  "
                  f"{result['tflops']:6.0f} TFLOP/s", flush=True)
    if options.json:
        heads = f"q{options.heads}k{options.kv_heads}d{options.head_dim}"
        write_results(options.json, {
            f"prefill/bfloat16/dense/{r['backend']}/{r['batch']}x{r['length']}/{heads}":
                r["ms"] * 1e-3 for r in results})


if __name__ == "__main__":
    main()
