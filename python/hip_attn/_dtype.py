"""Element types by their names."""

from __future__ import annotations

# DLPack's type codes and bits.
_DTYPES = {"float32": (2, 32), "float16": (2, 16), "bfloat16": (4, 16)}


def code_and_bits(argument: str, dtype: object) -> tuple[int, int]:
    """Of a string, a dtype of torch ("torch.float16") or numpy ("float16"), or a class of numpy's."""
    text = dtype.__name__ if isinstance(dtype, type) else str(dtype)
    name = text.rpartition(".")[2]
    if name not in _DTYPES:
        raise ValueError(f"{argument} is {text!r}; it must be one of {', '.join(_DTYPES)}")
    return _DTYPES[name]
