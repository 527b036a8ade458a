"""Plans."""

from __future__ import annotations

from . import _core
from ._config import Config
from ._core import KvStorePlan, Plan

def _plan(
    is_decode: bool,
    config: Config,
    num_q_heads: int,
    num_kv_heads: int,
    head_dim: int,
    max_seq_len: int,
    batch: int,
    total_q: int,
    dtype: object,
    cache_dtype: object,
    device: object,
    num_threads: int,
    staging_bytes: int,
) -> Plan:
    if not isinstance(config, Config):
        raise TypeError(f"config is of type {type(config).__name__}; it must be a hip_attn.Config")
    return _core.make_plan(
        is_decode,
        config._handle,
        num_q_heads,
        num_kv_heads,
        head_dim,
        max_seq_len,
        batch,
        total_q,
        dtype,
        dtype if cache_dtype is None else cache_dtype,
        device,
        num_threads,
        staging_bytes,
    )


def plan_prefill(
    config: Config,
    *,
    num_q_heads: int,
    num_kv_heads: int,
    head_dim: int,
    max_seq_len: int,
    total_q: int,
    batch: int = 1,
    dtype: object = "float16",
    cache_dtype: object = None,
    device: object = "cpu",
    num_threads: int = 0,
    staging_bytes: int = 0,
) -> Plan:
    """A plan for prefill: calls may be smaller in all but heads and head_dim.

    max_seq_len: keys of one request. total_q: query rows of all requests together.
    batch: requests. dtype: of q and out, "float32", "float16" or "bfloat16", or numpy's or torch's.
    cache_dtype: of keys and values; None: as dtype. float32 takes any.
    device: "cpu", "cuda", "cuda:N" or a torch.device.
    num_threads: CPU, threads of a call; 0: as OpenMP would start.
    staging_bytes: prefill with a store on CUDA, bytes of the workspace through which blocks come
    over the link, each once in a call; what they do not hold is read where it lies.

    Raises hip_attn.Error.
    """
    return _plan(
        False,
        config,
        num_q_heads,
        num_kv_heads,
        head_dim,
        max_seq_len,
        batch,
        total_q,
        dtype,
        cache_dtype,
        device,
        num_threads,
        staging_bytes,
    )


def plan_decode(
    config: Config,
    *,
    num_q_heads: int,
    num_kv_heads: int,
    head_dim: int,
    max_seq_len: int,
    batch: int = 1,
    total_q: int | None = None,
    dtype: object = "float16",
    cache_dtype: object = None,
    device: object = "cpu",
    num_threads: int = 0,
) -> Plan:
    """A plan for decode, as plan_prefill. total_q: None: one row per request."""
    return _plan(
        True,
        config,
        num_q_heads,
        num_kv_heads,
        head_dim,
        max_seq_len,
        batch,
        batch if total_q is None else total_q,
        dtype,
        cache_dtype,
        device,
        num_threads,
        0,
    )


def plan_kv_store(
    config: Config,
    *,
    num_kv_heads: int,
    head_dim: int,
    max_seq_len: int,
    max_requests: int = 1,
    budget_bytes: int = 0,
    dtype: object = "float16",
    device: object = "cpu",
) -> KvStorePlan:
    """A plan for stores of a cache in host memory, which divides a budget of device memory.

    config, max_seq_len: those of decode's plan.
    max_requests: rows of the store's table, 1 to 65535.
    budget_bytes: of device memory, for one layer. On the CPU nothing is needed.
    dtype: of keys and values; on CUDA float16 or bfloat16.
    device: "cpu", "cuda", "cuda:N" or a torch.device.

    Raises hip_attn.Error; "BudgetTooSmall" with a message that names the least budget.
    """
    if not isinstance(config, Config):
        raise TypeError(f"config is of type {type(config).__name__}; it must be a hip_attn.Config")
    return _core.make_kv_store_plan(
        config._handle,
        num_kv_heads,
        head_dim,
        max_seq_len,
        max_requests,
        budget_bytes,
        dtype,
        device,
    )
