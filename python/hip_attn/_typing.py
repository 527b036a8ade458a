"""Types of arguments."""

from __future__ import annotations

from typing import Any, Protocol, Union


class Array(Protocol):
    """An array of any framework that has DLPack: numpy, torch, JAX, CuPy and others."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, int]: ...


class TorchStream(Protocol):
    """torch.cuda.Stream."""

    @property
    def cuda_stream(self) -> int: ...


class CupyStream(Protocol):
    """cupy.cuda.Stream."""

    @property
    def ptr(self) -> int: ...


# A cudaStream_t as a number, or an object that has one.
Stream = Union[int, TorchStream, CupyStream]
