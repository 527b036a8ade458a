"""Problems of attention, and dense attention in float64."""

import dataclasses

import numpy as np

import hip_attn


@dataclasses.dataclass
class Problem:
    """Requests over a paged cache; a call's arguments under the names that it takes."""

    q: np.ndarray
    k: np.ndarray  # [num_pages, page_size, Hk, D], any strides
    v: np.ndarray
    block_table: np.ndarray
    seq_lens: np.ndarray
    cu_seqlens_q: np.ndarray

    def shape(self, **changes):
        """The shape of a plan for this problem."""
        shape = {
            "num_q_heads": self.q.shape[1],
            "num_kv_heads": self.k.shape[2],
            "head_dim": self.q.shape[2],
            "max_seq_len": int(self.seq_lens.max()),
            "batch": len(self.seq_lens),
            "total_q": len(self.q),
            "dtype": self.q.dtype.name,
            "cache_dtype": self.k.dtype.name,
        }
        return {**shape, **changes}

    def plan(self, config, decode=False, **changes):
        plan = hip_attn.plan_decode if decode else hip_attn.plan_prefill
        return plan(config, **self.shape(**changes))

    def pages(self):
        return hip_attn.KvPages(self.k, self.v)

    def arrays(self):
        return {
            "block_table": self.block_table,
            "seq_lens": self.seq_lens,
            "cu_seqlens_q": self.cu_seqlens_q,
        }

    def run(self, config, decode=False, num_threads=0, **arguments):
        """out of one call."""
        plan = self.plan(config, decode, num_threads=num_threads)
        out = nan_like(self.q)
        call = hip_attn.decode if decode else hip_attn.prefill
        workspace = hip_attn.Workspace(plan.workspace_bytes)
        call(plan, workspace, self.q, self.pages(), out=out, **{**self.arrays(), **arguments})
        return out

    def keys_of(self, b):
        """k and v of request b, [seq_len, Hk, D]."""
        pages = self.block_table[b]
        return (x[pages].reshape(-1, *x.shape[2:])[: self.seq_lens[b]] for x in (self.k, self.v))


def nan_like(array):
    return np.full(array.shape, np.nan, array.dtype)


def problem(q_lens, seq_lens, dtype="float32", cache_dtype=None, heads=(4, 2), head_dim=64,
            page_size=16, hnd=False, seed=1):
    rng = np.random.default_rng(seed)
    num_q_heads, num_kv_heads = heads
    pages_of = [-(-n // page_size) for n in seq_lens]
    block_table = np.full((len(seq_lens), max(pages_of)), -1, np.int32)
    pages = iter(rng.permutation(sum(pages_of)))
    for b, count in enumerate(pages_of):
        block_table[b, :count] = [next(pages) for _ in range(count)]
    sizes = (sum(pages_of), page_size, num_kv_heads, head_dim)
    if hnd:
        sizes = (sizes[0], sizes[2], sizes[1], sizes[3])
    cache = rng.standard_normal((2, *sizes)).astype(cache_dtype or dtype)
    k, v = cache.swapaxes(2, 3) if hnd else cache
    return Problem(
        rng.standard_normal((sum(q_lens), num_q_heads, head_dim)).astype(dtype),
        k,
        v,
        block_table,
        np.array(seq_lens, np.int32),
        np.cumsum([0, *q_lens]).astype(np.int32),
    )


def dense_attention(p, admits=None, sinks=None):
    """out and lse of causal attention in float64.

    admits: of a request b, which keys its rows see, bool [rows, Hq, seq_len]; None: every key.
    sinks: [Hq], logits that have no value; None: none.
    """
    out = np.zeros(p.q.shape)
    lse = np.zeros(p.q.shape[:2])
    group = p.q.shape[1] // p.k.shape[2]
    for b, seq_len in enumerate(p.seq_lens):
        k, v = (x.astype(np.float64).repeat(group, axis=1) for x in p.keys_of(b))
        first, last = p.cu_seqlens_q[b : b + 2]
        q = p.q[first:last].astype(np.float64)
        logits = np.einsum("qhd,khd->qhk", q, k) / np.sqrt(q.shape[2])
        positions = seq_len - (last - first) + np.arange(last - first)
        hidden = np.arange(seq_len)[None, None, :] > positions[:, None, None]
        if admits is not None:
            hidden = hidden | ~admits(b)
        logits = np.where(hidden, -np.inf, logits)
        if sinks is not None:
            sink = np.broadcast_to(sinks[None, :, None], (*logits.shape[:2], 1))
            logits = np.concatenate([logits, sink], axis=2)
            v = np.concatenate([v, np.zeros_like(v[:1])])
        lse[first:last] = np.logaddexp.reduce(logits, axis=2)
        # A row that sees nothing has 0 and -inf.
        top = np.where(np.isfinite(lse[first:last]), lse[first:last], 0)
        out[first:last] = np.einsum("qhk,khd->qhd", np.exp(logits - top[..., None]), v)
    return out, lse
