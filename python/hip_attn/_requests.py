"""What the layers of a PagedCache share: the tokens of each request, and their pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from ._config import Config
from ._core import MAX_DECODE_ROWS


@dataclass
class Arrays:
    """A step's arrays on one device, as the operators take them."""

    block_table: Tensor
    seq_lens: Tensor
    cu_seqlens: Tensor
    slot_mapping: Tensor
    tokens: Optional[Tensor]  # which rows of the model are tokens; None: all

    def to(self, device: torch.device) -> Arrays:
        return Arrays(*(None if a is None else a.to(device) for a in vars(self).values()))

    def gather(self, states: Tensor) -> Tensor:
        """[batch, heads, rows, D] as [tokens, heads, D]."""
        rows = states.transpose(1, 2).flatten(0, 1)
        return rows if self.tokens is None else rows[self.tokens]

    def scatter(self, out: Tensor, batch: int, rows: int) -> Tensor:
        """[tokens, heads, D] as [batch, rows, heads, D], zero where there is no token."""
        if self.tokens is not None:
            out = out.new_zeros(batch * rows, *out.shape[1:]).index_copy_(0, self.tokens, out)
        return out.reshape(batch, rows, *out.shape[1:])


class Step:
    """One forward of the model: the tokens that it adds."""

    def __init__(self, arrays: Arrays, is_decode: bool, decode_steps: list[int]) -> None:
        self.is_decode = is_decode
        self._decode_steps = decode_steps
        self._arrays = {torch.device("cpu"): arrays}
        self._host = arrays
        self._refresh_from: dict[tuple[Config, torch.device], Tensor] = {}

    def on(self, device: torch.device) -> Arrays:
        """The arrays on a device, where they are copied once."""
        if device not in self._arrays:
            self._arrays[device] = self._host.to(device)
        return self._arrays[device]

    def refresh_from(self, config: Config, settling_steps: int, device: torch.device) -> Tensor:
        """The stage at which each request's search begins."""
        key = config, device
        if key not in self._refresh_from:
            last = max(len(config.stages) - 1, 0)
            stages = [config.refresh_from_at(n) for n in self._decode_steps]
            for b, n in enumerate(self._decode_steps):
                if n < settling_steps:
                    stages[b] = min(stages[b], last)
            self._refresh_from[key] = torch.tensor(stages, dtype=torch.int32, device=device)
        return self._refresh_from[key]


class Requests:
    """The requests of a batch.

    A model sees columns, the same number for every request. Some are padding; the cache holds the
    others, the tokens.

    columns: of the forwards so far. num_pages: pages that the pools of the layers need.
    step: the last forward, which the layers run one after another.
    """

    def __init__(self, max_len: int, page_size: int) -> None:
        self.max_len = max_len
        self.page_size = page_size
        self.num_pages = 0
        self.clear()

    def clear(self) -> None:
        self.columns = 0
        self.step: Optional[Step] = None
        self._is_token = torch.empty(0, 0, dtype=torch.bool)  # [batch, columns]
        self._lens = torch.empty(0, dtype=torch.int64)
        self._decode_steps: list[int] = []
        self._pages: list[list[int]] = []
        self._free = list(reversed(range(self.num_pages)))
        self._table: Optional[Tensor] = None

    @property
    def batch(self) -> int:
        return len(self._pages)

    @property
    def seq_lens(self) -> list[int]:
        return self._lens.tolist()

    def begin(self, batch: int, rows: int, mask: Optional[Tensor]) -> None:
        """A new step of `rows` columns.

        mask: [batch, columns], which columns are tokens, earlier ones included; None: all.
        """
        if not self.columns:
            self.clear()
            self._is_token = torch.empty(batch, 0, dtype=torch.bool)
            self._lens = torch.zeros(batch, dtype=torch.int64)
            self._decode_steps = [0] * batch
            self._pages = [[] for _ in range(batch)]
        if batch != self.batch:
            raise ValueError(f"a batch of {batch}; the cache holds {self.batch} requests")
        if mask is None:
            is_token = torch.ones(batch, rows, dtype=torch.bool)
        else:
            expected = (batch, self.columns + rows)
            if tuple(mask.shape) != expected:
                raise ValueError(
                    f"attention_mask is {list(mask.shape)}; it must be {list(expected)}: batch, "
                    f"{self.columns} columns in the cache and {rows} of this call"
                )
            is_token = mask[:, self.columns :].to("cpu", torch.bool)
        counts = is_token.sum(1)
        lens = self._lens + counts
        longest = int(lens.max())
        if longest > self.max_len:
            raise ValueError(
                f"a request has {longest} tokens; max_len of the cache is {self.max_len}"
            )

        self._reserve(lens.tolist())
        table = self._block_table()
        position = (self._lens[:, None] + is_token.cumsum(1) - 1)[is_token]
        request = torch.arange(batch).repeat_interleave(counts)
        page = table[request, position // self.page_size]
        arrays = Arrays(
            block_table=table,
            seq_lens=lens.int(),
            cu_seqlens=torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int(),
            slot_mapping=page.long() * self.page_size + position % self.page_size,
            tokens=None if is_token.all() else is_token.flatten().nonzero().flatten(),
        )
        is_decode = int(counts.max()) <= MAX_DECODE_ROWS
        self.step = Step(arrays, is_decode, self._decode_steps)
        self._decode_steps = [n + 1 for n in self._decode_steps] if is_decode else [0] * batch
        self._lens = lens
        self._is_token = torch.cat([self._is_token, is_token], 1)
        self.columns += rows

    def crop(self, columns: int) -> None:
        """Forgets the columns from `columns` on. Their pages stay with the requests."""
        if self.columns - columns > MAX_DECODE_ROWS:
            # More than a draft: what comes next looks for something else.
            self._decode_steps = [0] * self.batch
        self._lens = self._lens - self._is_token[:, columns:].sum(1)
        self._is_token = self._is_token[:, :columns]
        self.columns = self._is_token.shape[1]

    def select(self, indices: list[int]) -> tuple[list[int], list[int]]:
        """Request i becomes what request indices[i] is.

        The first takes the pages over, others get copies: returns the pages to copy, from and to.
        """
        old = self._pages
        self._free += [p for b, pages in enumerate(old) if b not in indices for p in pages]
        self._pages = [old[b] if b not in indices[:i] else [] for i, b in enumerate(indices)]
        self._lens = self._lens[indices]
        self._is_token = self._is_token[indices]
        self._decode_steps = [self._decode_steps[b] for b in indices]
        copied = [i for i, b in enumerate(indices) if b in indices[:i]]
        self._reserve(self.seq_lens)
        self._table = None
        pairs = [pair for i in copied for pair in zip(old[indices[i]], self._pages[i])]
        return [source for source, _ in pairs], [copy for _, copy in pairs]

    def _reserve(self, lens: list[int]) -> None:
        """Gives every request pages for so many tokens."""
        needs = [-(-n // self.page_size) - len(p) for n, p in zip(lens, self._pages)]
        missing = sum(max(n, 0) for n in needs) - len(self._free)
        if missing > 0:
            # A quarter more, so that the copies that growing takes are few. At first none.
            more = max(missing, self.num_pages // 4)
            self._free[:0] = reversed(range(self.num_pages, self.num_pages + more))
            self.num_pages += more
        for pages, need in zip(self._pages, needs):
            if need > 0:
                pages += [self._free.pop() for _ in range(need)]
                self._table = None

    def _block_table(self) -> Tensor:
        if self._table is None:
            width = max(map(len, self._pages), default=0)
            rows = [pages + [0] * (width - len(pages)) for pages in self._pages]
            self._table = torch.tensor(rows, dtype=torch.int32).reshape(self.batch, width)
        return self._table
