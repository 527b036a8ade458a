"""Attention of Hugging Face models: attn_implementation="hip_attn".

    hip_attn.transformers.register()
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="hip_attn")
    cache = hip_attn.transformers.PagedCache(model.config)
    model.generate(**inputs, past_key_values=cache)

Import it where torch and transformers are; hip_attn itself imports neither.
docs/guide/transformers.md goes by task.
"""

from __future__ import annotations

from typing import Any, Optional

try:
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import causal_mask_function
except ImportError as error:
    raise ImportError(
        f"hip_attn.transformers takes torch and transformers 5.0 or newer: {error}"
    ) from error

from ._paged_cache import PagedCache

__all__ = ["PagedCache", "register"]


def register(name: str = "hip_attn") -> None:
    """Makes `name` an attn_implementation of transformers. Models with it need a PagedCache."""
    AttentionInterface.register(name, _attention)
    AttentionMaskInterface.register(name, _padding_mask)


# Arguments of attention functions that change what is attended to, which hip_attn has nothing for.
_NOT_TAKEN = {
    "attention_bias": "a bias of logits",
    "position_bias": "a bias of logits",
    "head_mask": "a mask of heads",
    "s_aux": "attention sinks of the model",
    "output_attentions": "attention weights as an output",
}


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Optional[torch.Tensor],
    scaling: Optional[float] = None,
    dropout: float = 0.0,
    softcap: Optional[float] = None,
    sliding_window: Optional[int] = None,
    is_causal: Optional[bool] = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    layer = getattr(key, "hip_attn_layer", None)
    if layer is None:
        raise ValueError(
            "attn_implementation='hip_attn' needs its own cache in every forward: pass "
            "past_key_values=hip_attn.transformers.PagedCache(model.config)"
        )
    for name, what in _NOT_TAKEN.items():
        if others.get(name) is not None and others[name] is not False:
            raise ValueError(f"{name} is given; hip_attn does not take {what}")
    if dropout:
        raise ValueError(f"dropout is {dropout}; hip_attn has none: call model.eval()")
    if is_causal is False or not getattr(module, "is_causal", True):
        raise ValueError("is_causal is False; hip_attn is causal")
    if sliding_window != layer.sliding_window and sliding_window is not None:
        raise ValueError(
            f"sliding_window is {sliding_window}, that of the cache {layer.sliding_window}: it was "
            "made with the config of another model"
        )
    if torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value)):
        raise ValueError("hip_attn has no gradients; call the model under torch.no_grad()")
    return layer.attend(query, key, value, attention_mask, scaling, softcap), None


def _padding_mask(
    *,
    mask_function: Any = causal_mask_function,
    attention_mask: Optional[torch.Tensor] = None,
    local_size: Optional[int] = None,
    use_vmap: bool = False,
    **_sizes: Any,
) -> Optional[torch.Tensor]:
    """The mask of padding, [batch, columns], in place of one of rows times keys."""
    if use_vmap or (mask_function is not causal_mask_function and local_size is None):
        raise ValueError(
            "the model asks for a mask that is not that of causal attention and padding; hip_attn "
            "takes no other, such as of packed sequences without a PagedCache"
        )
    return attention_mask
