"""FlashPrefill V2 (arXiv 2608.19758), from a checkout that was built and installed: times of prefill."""

import pathlib
import sys

import torch

from torch_results import median_seconds

# Its README's: pruned blocks of 128 keys enter the softmax as their means.
SETTINGS = dict(k_block_m=128, k_block_n=128, abs_threshold=0.1, attention_sink=2, window_size=4,
                last_n_blocks=8, use_mean_correction=True)


def load(folder):
    source = pathlib.Path(folder, "flashprefill_ops")
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is not there")
    # Behind what is installed: the package needs its compiled extension.
    if str(source) not in sys.path:
        sys.path.append(str(source))
    from flashprefill import FlashPrefill

    return FlashPrefill(**SETTINGS)


def prefill_seconds(folder, options, length):
    attention = load(folder)
    rows = lambda *sizes: torch.randn(*sizes, options.head_dim, device="cuda", dtype=torch.bfloat16)
    ints = lambda *values: torch.tensor(values, dtype=torch.int32, device="cuda")
    q = rows(length, options.q_heads)
    k, v = (rows(length, 1, options.kv_heads) for _ in range(2))  # pages of one token
    pages = torch.randperm(length, device="cuda", dtype=torch.int32)[None]
    call = lambda: attention(q, k, v, pages, ints(length), ints(0, length), q_lens=[length],
                             max_cache_seqlen=length)
    return median_seconds(call)
