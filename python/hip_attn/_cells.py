"""Requests of a cache whose cells know positions and sequences."""

from __future__ import annotations

from dataclasses import dataclass

from . import _core
from ._config import Config
from ._core import HostArray
from ._typing import Array


@dataclass(frozen=True)
class CellRequests:
    """Arguments of prefill and decode for B requests, in the host's memory.

    A request is a run of rows of one sequence, each of which sees one key more than the row before.

    seq_lens: int32 [B], keys of each request.
    cu_seqlens_q: int32 [B + 1], the first row of each request.
    block_table: int32 [B, keys of the longest request], for pages of one token.
    rows: int32 [total_q], row i of the call is row rows[i] of the batch.
    sequences: int32 [B], for `slots` of decode.
    refresh_from: int32 [B], for `refresh_from` of decode; None without a config.
    in_order: rows are 0, 1, ...: q and out can be the batch's own.
    decode: a decode call takes them: few rows each, and a sequence once.
    """

    seq_lens: HostArray
    cu_seqlens_q: HostArray
    block_table: HostArray
    rows: HostArray
    sequences: HostArray
    refresh_from: HostArray | None
    in_order: bool
    decode: bool


class Cells:
    """One cache whose cells know positions and sequences, as llama.cpp's, or with left padding.

    Use one object for every batch over a cache: it keeps memory, and counts decode steps for
    refresh_from.
    """

    def __init__(self) -> None:
        self._handle = _core.CellsHandle()

    def requests(
        self,
        *,
        key_sequences: Array,
        key_positions: Array,
        key_pages: Array,
        row_sequences: Array,
        row_positions: Array,
        row_first: Array | None = None,
        window: int = 0,
        keep_order: bool = False,
        config: Config | None = None,
    ) -> CellRequests:
        """The requests of a batch. All arrays are in the host's memory, contiguous.

        Row i sees the keys of its sequence at positions row_first[i] to row_positions[i]. Only the
        order of positions counts.

        key_sequences: int32 [num_keys]; key_positions: int64 [num_keys]; key_pages: int32
        [num_keys]. A key is the content of one cell, and a cell is a page of one token. A cell that
        several sequences share comes once for each; padding does not come at all. In any order,
        fastest where positions ascend within a sequence.
        row_sequences: int32 [num_rows]; row_positions: int64 [num_rows], those of q.
        row_first: int64 [num_rows], the first position that a row sees; None: any.
        window: keys of a sliding window that begins at row_first, as of
        Config.preset("sliding_window"); 0: row_first is no window.
        keep_order: rows stay in the order that they have, and those of a sequence that do not stand
        together become several requests.
        config: that of decode, for refresh_from.

        Raises hip_attn.Error. Cost: a pass over the keys, and num_requests * longest numbers.
        """
        if config is not None and not isinstance(config, Config):
            raise TypeError(
                f"config is of type {type(config).__name__}; it must be a hip_attn.Config"
            )
        return CellRequests(
            *self._handle.requests(
                key_sequences,
                key_positions,
                key_pages,
                row_sequences,
                row_positions,
                row_first,
                window,
                keep_order,
                None if config is None else config._handle,
            )
        )

    def forget(self, sequence: int) -> None:
        """The sequence's cells were filled from elsewhere: its next decode refreshes everything."""
        self._handle.forget(sequence)
