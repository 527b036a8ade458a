"""What the sparse attention computes: sink, window and the stages of the search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import _core
from ._error import Error

_RULES = ("descent", "centre", "landmark", "every_key")
_REDUCTIONS = ("maximum", "softmax_sum")


def _index(names: tuple[str, ...], argument: str, name: str) -> int:
    if name not in names:
        raise Error("InvalidConfig", f"{argument} is {name!r}; it must be one of {', '.join(names)}")
    return names.index(name)


def _positive(argument: str, value: int) -> int:
    # The C interface reads 0 as the default.
    if value == 0:
        raise Error("InvalidConfig", f"{argument} is 0; it must be at least 1")
    return value


@dataclass(frozen=True)
class Stage:
    """One pruning stage of the search.

    chunk_size: tokens; a power of two that divides the chunk size of the stage before.
    keep: tokens that survive, a multiple of chunk_size. 0, in the last stage: a window alone.
    query_stride: positions averaged into one pooled query.
    rule: how a chunk is scored: "descent", "centre", "landmark" or "every_key".
    reduction: from rows to a score: "maximum" or "softmax_sum".
    refresh_interval: decode steps between two runs; in all stages or, 0, in none: every step.
    """

    chunk_size: int
    keep: int
    query_stride: int = 1
    rule: str = "descent"
    reduction: str = "maximum"
    refresh_interval: int = 0


@dataclass(frozen=True)
class Config:
    """A valid configuration; dataclasses.replace() makes another one of it.

    sink: tokens at the start that every row attends.
    window: latest tokens that every row attends, itself included.
    stages: up to 32; none: dense attention.
    block_q: positions that share one selection in prefill.
    max_first_chunks: chunks that the first stage scores at most.

    Raises hip_attn.Error where a rule is broken (docs/guide/algorithm.md).
    """

    sink: int = 0
    window: int = 1
    stages: tuple[Stage, ...] = ()
    block_q: int = 64
    max_first_chunks: int = 4096
    _handle: _core.ConfigHandle = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        stages = [
            (
                stage.chunk_size,
                stage.keep,
                _positive(f"stages[{i}].query_stride", stage.query_stride),
                _index(_RULES, f"stages[{i}].rule", stage.rule),
                _index(_REDUCTIONS, f"stages[{i}].reduction", stage.reduction),
                stage.refresh_interval,
            )
            for i, stage in enumerate(self.stages)
        ]
        window = _positive("window", self.window)
        block_q = _positive("block_q", self.block_q)
        max_first_chunks = _positive("max_first_chunks", self.max_first_chunks)
        handle = _core.make_config((self.sink, window, block_q, max_first_chunks, stages))
        object.__setattr__(self, "_handle", handle)

    def __reduce__(self) -> tuple[Any, ...]:
        values = (self.sink, self.window, self.stages, self.block_q, self.max_first_chunks)
        return Config, values

    @staticmethod
    def preset(
        name: str,
        *,
        max_len: int = 0,
        k: int = 0,
        block_k: int = 0,
        window: int = 0,
        sink: int = 0,
    ) -> Config:
        """A configuration by its name.

        "infinite_hip", "infinite_hip_fast", "infinite_hip_softmax_sum", "infinite_hip_5k", "dense";
        "landmark" and "landmark_1k" take max_len, the tokens of the longest request; "hip_classic"
        takes max_len, k (tokens kept) and block_k (tokens of a block); "sliding_window" takes window
        and sink. Other arguments of a preset are not looked at.
        """
        return _from_handle(_core.preset(name, max_len, k, block_k, window, sink))

    def refresh_from_at(self, step: int) -> int:
        """The first stage to run again at decode step `step` (0, 1, ...) of a request."""
        return self._handle.refresh_from_at(step)

    def refresh_ahead_at(self, step: int) -> int:
        """The same with searches ahead, for a cache in host memory: where stages before the last
        are due, they run in the step before, which reuses its selection. Below 0: such a step.
        To be followed at every step; after one that did not, refresh_from_at says what is due."""
        return self._handle.refresh_ahead_at(step)

    def window_start(self, position: int) -> int:
        """The first key of the window of a query block whose first row stands at `position`."""
        return self._handle.window_start(position)

    def landmark_chunk_sizes(self) -> list[int]:
        """The chunk sizes of the landmark levels that calls need, ascending."""
        return self._handle.landmark_chunk_sizes()


def _from_handle(handle: _core.ConfigHandle) -> Config:
    sink, window, block_q, max_first_chunks, stages = handle.values()
    return Config(
        sink,
        window,
        tuple(
            Stage(chunk_size, keep, stride, _RULES[rule], _REDUCTIONS[reduction], interval)
            for chunk_size, keep, stride, rule, reduction, interval in stages
        ),
        block_q,
        max_first_chunks,
    )


class ModelConfig:
    """The configuration of every layer of a model, from the JSON of the authors' package.

    docs/guide/json-config.md says what is read. Raises hip_attn.Error.
    """

    def __init__(self, json: str) -> None:
        self._handle = _core.ModelConfigHandle(json)

    def decode(self, layer: int) -> Config:
        """What decode of a layer (0, 1, ...) is configured with."""
        return _from_handle(self._handle.decode(layer))

    def prefill(self, layer: int) -> Config:
        """What prefill of a layer (0, 1, ...) is configured with."""
        return _from_handle(self._handle.prefill(layer))

    @property
    def prefill_dense_until(self) -> int:
        """A value for Plan.dense_until of prefill's plans."""
        return self._handle.prefill_dense_until()

    @property
    def dense_layers(self) -> list[int]:
        """The numbers of the dense layers, ascending."""
        return self._handle.dense_layers()

    @property
    def notes(self) -> list[str]:
        """What is worth a sentence: keys without an effect, absent keys that mean something."""
        return self._handle.notes()
