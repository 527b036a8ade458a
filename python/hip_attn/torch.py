"""Operators of torch: prefill, decode, append_kv, update_landmarks, merge_states and
add_sink_logits as custom ops.

Import it where torch is there; hip_attn itself does not import torch. torch.compile sees through the
ops, fullgraph=True included. They have no gradients.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

from . import _core
from ._core import KvPages, LandmarkLevel, Landmarks, Plan, SelectionCache, Workspace

# An op takes tensors and numbers, so a plan goes by a number. An Attention owns its entry.
_plans: dict[int, Plan] = {}
_keys = itertools.count()


def _landmarks(
    rows: Sequence[Tensor],
    chunk_sizes: Sequence[int],
    block_table: Optional[Tensor],
    spread: Optional[float] = None,
) -> Optional[Landmarks]:
    if not rows:
        return None
    if len(rows) != len(chunk_sizes):
        raise ValueError(f"{len(rows)} tensors of landmarks have {len(chunk_sizes)} chunk sizes")
    return Landmarks([LandmarkLevel(c, r, block_table) for c, r in zip(chunk_sizes, rows)], spread)


def _outputs(q: Tensor) -> tuple[Tensor, Tensor]:
    """out and lse of q [..., Hq, D], whose rows follow one another."""
    out = torch.empty(q.shape[:-2].numel(), *q.shape[-2:], dtype=q.dtype, device=q.device)
    return out, torch.empty(out.shape[:2], dtype=torch.float32, device=q.device)


@torch.library.custom_op("hip_attn::attend", mutates_args=("cache",))
def _attend(
    key: int,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seq_lens: Tensor,
    cu_seqlens_q: Tensor,
    block_table: Optional[Tensor],
    landmark_rows: Sequence[Tensor],
    landmark_chunk_sizes: Sequence[int],
    landmark_block_table: Optional[Tensor],
    cache: Optional[Tensor],
    num_slots: int,
    refresh_from: Optional[Tensor],
    slots: Optional[Tensor],
    scale: Optional[float],
    logit_softcap: Optional[float],
) -> tuple[Tensor, Tensor]:
    plan = _plans[key]
    out, lse = _outputs(q)
    # From torch's allocator: what it does for streams and graph capture holds for the workspace.
    memory = torch.empty(max(plan.workspace_bytes, 1), dtype=torch.uint8, device=q.device)
    arguments = dict(
        block_table=block_table,
        seq_lens=seq_lens,
        cu_seqlens_q=cu_seqlens_q,
        out=out,
        lse=lse,
        scale=scale,
        logit_softcap=logit_softcap,
        landmarks=_landmarks(landmark_rows, landmark_chunk_sizes, landmark_block_table),
    )
    workspace, pages = Workspace(memory), KvPages(k, v)
    if plan.is_decode:
        _core.decode(
            plan,
            workspace,
            q,
            pages,
            cache=None if cache is None else SelectionCache(plan, num_slots, cache),
            refresh_from=refresh_from,
            slots=slots,
            **arguments,
        )
    else:
        _core.prefill(plan, workspace, q, pages, **arguments)
    return out, lse


@_attend.register_fake
def _(key: int, q: Tensor, *_others: object) -> tuple[Tensor, Tensor]:
    return _outputs(q)


class Attention:
    """A plan as a function of tensors, which returns out and lse.

    plan: of prefill or decode, on the device of the tensors.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._key = next(_keys)
        _plans[self._key] = plan
        weakref.finalize(self, _plans.pop, self._key)

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        seq_lens: Tensor,
        cu_seqlens_q: Tensor,
        block_table: Optional[Tensor] = None,
        landmark_rows: Sequence[Tensor] = (),
        landmark_chunk_sizes: Sequence[int] = (),
        landmark_block_table: Optional[Tensor] = None,
        cache: Optional[Tensor] = None,
        num_slots: int = 0,
        refresh_from: Optional[Tensor] = None,
        slots: Optional[Tensor] = None,
        scale: Optional[float] = None,
        logit_softcap: Optional[float] = None,
    ) -> tuple[Tensor, Tensor]:
        """out [total_q, Hq, D] and lse float32 [total_q, Hq]; arguments are those of hip_attn.decode.

        q: [total_q, Hq, D], or [B, R, Hq, D] with strides of its own; total_q is B * R then.
        k, v: the pages of the cache. landmark_rows, landmark_chunk_sizes: the rows and the size of
        each LandmarkLevel, whose block table is landmark_block_table.
        cache, num_slots: decode only, the data and slots of a SelectionCache.
        """
        return _attend(
            self._key,
            q,
            k,
            v,
            seq_lens,
            cu_seqlens_q,
            block_table,
            list(landmark_rows),
            list(landmark_chunk_sizes),
            landmark_block_table,
            cache,
            num_slots,
            refresh_from,
            slots,
            scale,
            logit_softcap,
        )


@torch.library.custom_op(
    "hip_attn::append_kv", mutates_args=("k_pages", "v_pages", "landmark_rows")
)
def _append_kv(
    k_pages: Tensor,
    v_pages: Tensor,
    k: Tensor,
    v: Tensor,
    slot_mapping: Tensor,
    landmark_rows: Sequence[Tensor],
    landmark_chunk_sizes: Sequence[int],
    landmark_block_table: Optional[Tensor],
    block_table: Optional[Tensor],
    seq_lens: Optional[Tensor],
    cu_seqlens: Optional[Tensor],
    spread: Optional[float],
) -> None:
    _core.append_kv(
        KvPages(k_pages, v_pages),
        k,
        v,
        slot_mapping=slot_mapping,
        landmarks=_landmarks(landmark_rows, landmark_chunk_sizes, landmark_block_table, spread),
        block_table=block_table,
        seq_lens=seq_lens,
        cu_seqlens=cu_seqlens,
    )


def append_kv(
    k_pages: Tensor,
    v_pages: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    slot_mapping: Tensor,
    landmark_rows: Sequence[Tensor] = (),
    landmark_chunk_sizes: Sequence[int] = (),
    landmark_block_table: Optional[Tensor] = None,
    block_table: Optional[Tensor] = None,
    seq_lens: Optional[Tensor] = None,
    cu_seqlens: Optional[Tensor] = None,
    spread: Optional[float] = None,
) -> None:
    """hip_attn.append_kv as an op; landmarks as in Attention, and written."""
    _append_kv(
        k_pages,
        v_pages,
        k,
        v,
        slot_mapping,
        list(landmark_rows),
        list(landmark_chunk_sizes),
        landmark_block_table,
        block_table,
        seq_lens,
        cu_seqlens,
        spread,
    )


@torch.library.custom_op("hip_attn::update_landmarks", mutates_args=("landmark_rows",))
def _update_landmarks(
    landmark_rows: Sequence[Tensor],
    landmark_chunk_sizes: Sequence[int],
    landmark_block_table: Optional[Tensor],
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Optional[Tensor],
    from_lens: Tensor,
    to_lens: Tensor,
    max_tokens: int,
    spread: Optional[float],
) -> None:
    _core.update_landmarks(
        _landmarks(landmark_rows, landmark_chunk_sizes, landmark_block_table, spread),
        KvPages(k_pages, v_pages),
        block_table=block_table,
        from_lens=from_lens,
        to_lens=to_lens,
        max_tokens=max_tokens,
    )


def update_landmarks(
    landmark_rows: Sequence[Tensor],
    landmark_chunk_sizes: Sequence[int],
    k_pages: Tensor,
    v_pages: Tensor,
    *,
    from_lens: Tensor,
    to_lens: Tensor,
    landmark_block_table: Optional[Tensor] = None,
    block_table: Optional[Tensor] = None,
    max_tokens: int = 0,
    spread: Optional[float] = None,
) -> None:
    """hip_attn.update_landmarks as an op; landmarks as in Attention, and written."""
    _update_landmarks(
        list(landmark_rows),
        list(landmark_chunk_sizes),
        landmark_block_table,
        k_pages,
        v_pages,
        block_table,
        from_lens,
        to_lens,
        max_tokens,
        spread,
    )


@torch.library.custom_op("hip_attn::merge_states", mutates_args=())
def _merge_states(partial_out: Tensor, partial_lse: Tensor) -> tuple[Tensor, Tensor]:
    out = torch.empty(partial_out.shape[1:], dtype=partial_out.dtype, device=partial_out.device)
    lse = torch.empty(partial_lse.shape[1:], dtype=torch.float32, device=partial_lse.device)
    _core.merge_states(partial_out, partial_lse, out=out, lse=lse)
    return out, lse


@_merge_states.register_fake
def _(partial_out: Tensor, partial_lse: Tensor) -> tuple[Tensor, Tensor]:
    return (
        torch.empty(partial_out.shape[1:], dtype=partial_out.dtype, device=partial_out.device),
        torch.empty(partial_lse.shape[1:], dtype=torch.float32, device=partial_lse.device),
    )


def merge_states(partial_out: Tensor, partial_lse: Tensor) -> tuple[Tensor, Tensor]:
    """hip_attn.merge_states as an op, which returns out [total_q, Hq, D] and lse [total_q, Hq]."""
    return _merge_states(partial_out, partial_lse)


@torch.library.custom_op("hip_attn::add_sink_logits", mutates_args=("out", "lse"))
def _add_sink_logits(sink_logits: Tensor, out: Tensor, lse: Tensor) -> None:
    _core.add_sink_logits(sink_logits, out, lse)


def add_sink_logits(sink_logits: Tensor, out: Tensor, lse: Tensor) -> None:
    """hip_attn.add_sink_logits as an op, which changes out [total_q, Hq, D] and lse [total_q, Hq]."""
    _add_sink_logits(sink_logits, out, lse)
