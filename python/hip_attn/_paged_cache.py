"""PagedCache, which hip_attn.transformers exports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional, Union

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from ._config import Config
from ._core import (
    KvPages,
    LandmarkLevel,
    Landmarks,
    Plan,
    SelectionCache,
    Workspace,
    add_sink_logits,
    append_kv,
    decode,
    prefill,
)
from ._plan import plan_decode, plan_prefill
from ._requests import Arrays, Requests, Step

_DENSE = Config.preset("dense")
_MIN_PAGE_SIZE = 64


class _Plans:
    """Plans by what they are for, and the workspace of each device."""

    def __init__(self, max_len: int) -> None:
        self._max_len = max_len
        self._plans: dict[Any, tuple[Plan, int]] = {}
        self._workspaces: dict[torch.device, Workspace] = {}

    def __deepcopy__(self, _memo: object) -> _Plans:
        return _Plans(self._max_len)

    def get(self, make: Any, config: Config, q: Tensor, num_kv_heads: int, batch: int) -> Plan:
        """A plan for batch requests and at least the rows of q, [rows, Hq, D]."""
        total_q, num_q_heads, head_dim = q.shape
        key = make, config, q.device, q.dtype, num_q_heads, num_kv_heads, head_dim, batch
        plan, planned_rows = self._plans.get(key, (None, 0))
        if plan is None or planned_rows < total_q:
            plan = make(
                config,
                num_q_heads=num_q_heads,
                num_kv_heads=num_kv_heads,
                head_dim=head_dim,
                max_seq_len=self._max_len,
                batch=batch,
                total_q=total_q,
                dtype=q.dtype,
                device=q.device,
                num_threads=torch.get_num_threads(),
            )
            self._plans[key] = plan, total_q
        return plan

    def workspace(self, plan: Plan, device: torch.device) -> Workspace:
        workspace = self._workspaces.get(device)
        if workspace is None or workspace.nbytes < plan.workspace_bytes:
            memory = torch.empty(plan.workspace_bytes, dtype=torch.uint8, device=device)
            self._workspaces[device] = workspace = Workspace(memory)
        return workspace


class PagedLayer(CacheLayerMixin):
    """Keys, values, landmarks and selections of one layer, and its attention."""

    is_croppable = True
    is_sliding = False  # all tokens stay, also those that a sliding window has passed
    supports_early_init = False  # of transformers: the memory is allocated by the first attend

    def __init__(
        self,
        requests: Requests,
        plans: _Plans,
        config: Config,
        settling_steps: int,
        sliding_window: Optional[int],
    ) -> None:
        super().__init__()
        self.config = config
        self.sliding_window = sliding_window
        self._requests = requests
        self._plans = plans
        self._settling_steps = settling_steps
        self._columns = 0
        # [num_pages, page_size, Hk, D], and a level's [num_pages, page_size / chunk, Hk, 2, D].
        self._landmarks: dict[int, Tensor] = {}
        self._selections: Optional[Tensor] = None  # [batch, bytes]

    @torch.compiler.disable
    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Optional[Tensor],
        scale: Optional[float],
        logit_softcap: Optional[float],
        sink_logits: Optional[Tensor] = None,
    ) -> Tensor:
        """Appends key and value, [batch, Hk, rows, D], and attends to what the cache then holds.

        mask: [batch, columns], the columns of the cache and then those of this call; None: no
        padding. sink_logits: [Hq]; None: none. Returns [batch, rows, Hq, D].
        """
        batch, _, rows, _ = query.shape
        step = self._enter(batch, rows, mask)
        arrays = step.on(query.device)
        q, k, v = map(arrays.gather, (query, key, value))
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        if len(q):
            self._reserve(k)
            scalars = {"scale": scale, "logit_softcap": logit_softcap}
            lse = None
            if sink_logits is not None:
                lse = torch.empty(q.shape[:2], dtype=torch.float32, device=q.device)
            self._attend(step, arrays, q, k, v, out, lse=lse, **scalars)
            if sink_logits is not None:
                add_sink_logits(sink_logits.float(), out, lse)
        return arrays.scatter(out, batch, rows)

    def _enter(self, batch: int, rows: int, mask: Optional[Tensor]) -> Step:
        """The step that this call is part of: the first layer of the model begins it."""
        requests = self._requests
        if self._columns == requests.columns:
            requests.begin(batch, rows, mask)
        step = requests.step
        if step is None or self._columns + rows != requests.columns:
            raise RuntimeError(
                f"this layer has {self._columns} columns and {rows} more, others "
                f"{requests.columns}: an earlier forward did not come to its end; reset() the cache"
            )
        self._columns = requests.columns
        return step

    def _attend(
        self,
        step: Step,
        arrays: Arrays,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        out: Tensor,
        **others: Any,
    ) -> None:
        pages = KvPages(self.keys, self.values)
        table, seq_lens = arrays.block_table, arrays.seq_lens
        landmarks = None
        kept: dict[str, Any] = {}
        if self._landmarks:
            levels = [LandmarkLevel(c, x, table) for c, x in self._landmarks.items()]
            landmarks = Landmarks(levels)
            kept = dict(block_table=table, seq_lens=seq_lens, cu_seqlens=arrays.cu_seqlens)
        append_kv(pages, k, v, slot_mapping=arrays.slot_mapping, landmarks=landmarks, **kept)

        batch = len(seq_lens)
        make = plan_decode if step.is_decode else plan_prefill
        plan = self._plans.get(make, self.config, q, k.shape[1], batch)
        workspace = self._plans.workspace(plan, q.device)
        arguments = dict(
            block_table=table,
            seq_lens=seq_lens,
            cu_seqlens_q=arrays.cu_seqlens,
            out=out,
            landmarks=landmarks,
            **others,
        )
        if not step.is_decode:
            prefill(plan, workspace, q, pages, **arguments)
            return
        if self._selections is None or len(self._selections) != batch:
            shape = batch, plan.selection_cache_slot_bytes
            self._selections = torch.zeros(shape, dtype=torch.uint8, device=q.device)
        decode(
            plan,
            workspace,
            q,
            pages,
            cache=SelectionCache(plan, batch, self._selections.flatten()),
            refresh_from=step.refresh_from(self.config, self._settling_steps, q.device),
            **arguments,
        )

    def _reserve(self, k: Tensor) -> None:
        """Makes the pools as large as the requests need, for keys like k, [tokens, Hk, D]."""
        _, heads, dim = k.shape
        num_pages, page_size = self._requests.num_pages, self._requests.page_size
        if self.keys is not None and len(self.keys) >= num_pages:
            return

        def grown(old: Optional[Tensor], *sizes: int) -> Tensor:
            pool = torch.empty(num_pages, *sizes, dtype=k.dtype, device=k.device)
            if old is not None:
                pool[: len(old)] = old
            return pool

        self.keys = grown(self.keys, page_size, heads, dim)
        self.values = grown(self.values, page_size, heads, dim)
        for chunk in self.config.landmark_chunk_sizes():
            # By head, as the search reads them fastest.
            old = self._landmarks.get(chunk)
            sizes = heads, page_size // chunk, 2, dim
            pool = grown(None if old is None else old.transpose(1, 2), *sizes)
            self._landmarks[chunk] = pool.transpose(1, 2)
        self.is_initialized = True

    def copy_pages(self, sources: list[int], copies: list[int]) -> None:
        if self.keys is None:
            return
        self._reserve(self.keys[0])
        for pool in (self.keys, self.values, *self._landmarks.values()):
            pool[copies] = pool[sources]

    def select(self, indices: list[int]) -> None:
        if self._selections is not None:
            self._selections = self._selections[indices]

    def rewind(self, columns: int) -> None:
        self._columns = min(self._columns, columns)

    @property
    def nbytes(self) -> int:
        pools = (self.keys, self.values, self._selections, *self._landmarks.values())
        return sum(pool.nbytes for pool in pools if pool is not None)

    # What transformers asks of a layer.

    def lazy_initialization(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        key_states.hip_attn_layer = self  # type: ignore[attr-defined]
        return key_states, value_states

    def get_seq_length(self) -> int:
        return self._columns

    def get_mask_sizes(self, query_length: Union[int, Tensor]) -> tuple[int, int]:
        # Earlier versions of transformers pass the positions of the rows.
        rows = query_length if isinstance(query_length, int) else len(query_length)
        return self._columns + rows, 0

    def get_max_length(self) -> int:
        return self._requests.max_len

    get_max_cache_shape = get_max_length  # the name in earlier versions


class PagedCache(Cache):
    """A cache of transformers for models with attn_implementation="hip_attn".

    It holds the tokens of each request in pages, without padding, and beside them the landmarks
    and selections that the search keeps. One PagedCache serves one model, one batch at a time.

    config: model.config.
    attention: the name of a preset ("landmark", "landmark_1k", "infinite_hip", "dense", ...) or a
    hip_attn.Config.
    dense_layers: the numbers of layers that attend to every key.
    max_len: tokens that one request has at most; None: config.max_position_embeddings.
    settling_steps: decode steps after a prompt in which the last stage of the search runs every
    time. What a prompt asks for is often looked up in the first tokens of the answer.

    Layers with a sliding window have it as the model was trained, whatever `attention` says, but
    all their tokens stay in the cache.
    """

    layers: list[PagedLayer]  # type: ignore[assignment]

    def __init__(
        self,
        config: Any,
        attention: Union[str, Config] = "landmark",
        *,
        dense_layers: Iterable[int] = (),
        max_len: Optional[int] = None,
        settling_steps: int = 32,
    ) -> None:
        text = config.get_text_config(decoder=True)
        windows = _sliding_windows(text)
        if max_len is None:
            max_len = getattr(text, "max_position_embeddings", None)
            if max_len is None:
                raise ValueError("max_len is None, and config has no max_position_embeddings")
        if isinstance(attention, str):
            attention = Config.preset(attention, max_len=max_len)
        configs = _layer_configs(windows, attention, frozenset(dense_layers))
        # The landmarks of a page lie in the page of the same number, so it holds whole chunks.
        chunks = [chunk for c in configs for chunk in c.landmark_chunk_sizes()]
        self._requests = Requests(max_len, max([_MIN_PAGE_SIZE, *chunks]))
        plans = _Plans(max_len)
        layers = [
            PagedLayer(self._requests, plans, c, settling_steps, window)
            for c, window in zip(configs, windows)
        ]
        super().__init__(layers=layers)

    @property
    def seq_lens(self) -> list[int]:
        """The tokens of each request."""
        return self._requests.seq_lens

    @property
    def nbytes(self) -> int:
        """Bytes of pages, landmarks and selections, of all layers."""
        return sum(layer.nbytes for layer in self.layers)

    def crop(self, tokens_to_remove: int) -> None:
        """Forgets the last -tokens_to_remove columns, as transformers counts them.

        A positive number is that of the columns to keep, as it was before transformers 5.18.
        """
        columns = self._requests.columns
        kept = tokens_to_remove if tokens_to_remove > 0 else max(columns + tokens_to_remove, 0)
        if kept < columns:
            self._requests.crop(kept)
            for layer in self.layers:
                layer.rewind(kept)

    def batch_select_indices(self, indices: Union[Tensor, Sequence[int]]) -> None:
        """Makes request i what request indices[i] is."""
        chosen = torch.as_tensor(indices).tolist()
        sources, copies = self._requests.select(chosen)
        for layer in self.layers:
            layer.copy_pages(sources, copies)
            layer.select(chosen)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """batch_select_indices, for beam search."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Makes each request as many of the same."""
        self.batch_select_indices(torch.arange(self._requests.batch).repeat_interleave(repeats))

    def reset(self) -> None:
        """Forgets everything; the memory stays."""
        self._requests.clear()
        for layer in self.layers:
            layer.rewind(0)


def _sliding_windows(config: Any) -> list[Optional[int]]:
    """The sliding window of each layer; None: full attention."""
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError("config is of an encoder-decoder model; hip_attn takes decoders alone")
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if kinds is None:
        if getattr(config, "attention_chunk_size", None) is not None:
            raise ValueError(
                "config has an attention_chunk_size; hip_attn has no chunked attention"
            )
        kind = "full_attention" if window is None else "sliding_attention"
        kinds = [kind] * config.num_hidden_layers
    for number, kind in enumerate(kinds):
        if kind not in ("full_attention", "sliding_attention"):
            raise ValueError(
                f"layer {number} is of type {kind!r}; hip_attn takes 'full_attention' and "
                "'sliding_attention'"
            )
    return [window if kind == "sliding_attention" else None for kind in kinds]


def _layer_configs(
    windows: list[Optional[int]], attention: Config, dense_layers: frozenset[int]
) -> list[Config]:
    for number in sorted(dense_layers):
        if not 0 <= number < len(windows):
            raise ValueError(
                f"dense_layers has {number}; the model has layers 0 to {len(windows) - 1}"
            )
    configs = []
    for number, window in enumerate(windows):
        if window is not None:
            configs.append(Config.preset("sliding_window", window=window))
        else:
            configs.append(_DENSE if number in dense_layers else attention)
    return configs
