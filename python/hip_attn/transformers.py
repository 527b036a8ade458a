"""Attention of Hugging Face models: attn_implementation="hip_attn".

    model = hip_attn.transformers.attach(AutoModelForCausalLM.from_pretrained(folder))
    model.generate(**inputs)

or, with a cache of one's own:

    hip_attn.transformers.register()
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="hip_attn")
    cache = hip_attn.transformers.PagedCache(model.config)
    model.generate(**inputs, past_key_values=cache)

Import it where torch and transformers are; hip_attn itself imports neither.
docs/guide/transformers.md goes by task.
"""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Iterable
from typing import Any, Optional, TypeVar, Union

try:
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import causal_mask_function
except ImportError as error:
    raise ImportError(
        f"hip_attn.transformers takes torch and transformers 5.0 or newer: {error}"
    ) from error

from ._config import Config
from ._paged_cache import PagedCache

__all__ = ["PagedCache", "attach", "register"]

_Model = TypeVar("_Model", bound=torch.nn.Module)


def register(name: str = "hip_attn") -> None:
    """Makes `name` an attn_implementation of transformers.

    Models with it need a PagedCache in every forward and generate; attach() has a model make it.
    """
    AttentionInterface.register(name, _attention)
    AttentionMaskInterface.register(name, _padding_mask)


def attach(
    model: _Model,
    attention: Union[str, Config] = "landmark",
    *,
    dense_layers: Iterable[int] = (),
    max_len: Optional[int] = None,
    settling_steps: int = 32,
) -> _Model:
    """Has a model attend by hip_attn, with a PagedCache of its own wherever it is given no cache.

    That is each generate, and each forward, whose output then has the cache. The arguments are those
    of PagedCache. Only this model is changed; a cache that is passed is used as ever, and attaching
    again replaces the arguments. Returns the model.
    """
    options = {
        "attention": attention,
        "dense_layers": tuple(dense_layers),
        "max_len": max_len,
        "settling_steps": settling_steps,
    }
    PagedCache(model.config, **options)  # which refuses what does not fit the model
    register()
    model.set_attn_implementation("hip_attn")  # type: ignore[operator]
    if not hasattr(model, "_hip_attn_options"):
        model.register_forward_pre_hook(_forward_with_cache, with_kwargs=True)
    model._hip_attn_options = options  # type: ignore[assignment]
    # A method, not a closure: a deep copy of the model has the copy's own.
    model.generate = types.MethodType(_generate_with_cache, model)  # type: ignore[assignment]
    return model


def _cache_parameter(module: torch.nn.Module) -> str:
    """What this version of transformers calls the cache among the arguments of a forward."""
    return "cache" if "cache" in inspect.signature(module.forward).parameters else "past_key_values"


# Its names in all versions.
_CACHE_NAMES = ("cache", "past_key_values")


def _has_cache(arguments: dict[str, Any]) -> bool:
    return any(arguments.get(name) is not None for name in _CACHE_NAMES)


def _with_own_cache(model: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    others = {name: value for name, value in arguments.items() if name not in _CACHE_NAMES}
    return {**others, _cache_parameter(model): PagedCache(model.config, **model._hip_attn_options)}


def _attends_by_hip_attn(model: Any) -> bool:
    """Not where the model was given another implementation after attach()."""
    return bool(model.config._attn_implementation == "hip_attn")


def _generate_with_cache(model: Any, *args: Any, **kwargs: Any) -> Any:
    if not _attends_by_hip_attn(model):
        return type(model).generate(model, *args, **kwargs)
    config = kwargs.get("generation_config") or model.generation_config
    if kwargs.get("use_cache", config.use_cache) is False:
        raise ValueError("use_cache is False; hip_attn generates with a cache: pass use_cache=True")
    kind = kwargs.pop("cache_implementation", None) or config.cache_implementation
    if kind not in (None, "dynamic", "dynamic_full"):
        raise ValueError(f"cache_implementation is {kind!r}; an attached model has a PagedCache")
    if config.cache_implementation is not None:
        # Earlier versions of transformers ask an assistant for a "dynamic_full" cache, which can be
        # cropped, as a PagedCache can.
        kwargs["generation_config"] = copy.deepcopy(config)
        kwargs["generation_config"].cache_implementation = None
    if not _has_cache(kwargs):
        kwargs = _with_own_cache(model, kwargs)
    return type(model).generate(model, *args, **kwargs)


def _forward_with_cache(
    model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Optional[tuple[tuple[Any, ...], dict[str, Any]]]:
    if _has_cache(kwargs) or not _attends_by_hip_attn(model):
        return None
    if len(args) > list(inspect.signature(model.forward).parameters).index(_cache_parameter(model)):
        return None
    return args, _with_own_cache(model, kwargs)


# Arguments of attention functions that change what is attended to, which hip_attn has nothing for.
_NOT_TAKEN = {
    "attention_bias": "a bias of logits",
    "position_bias": "a bias of logits",
    "head_mask": "a mask of heads",
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
    s_aux: Optional[torch.Tensor] = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    layer = getattr(key, "hip_attn_layer", None)
    if layer is None:
        raise ValueError(
            "attn_implementation='hip_attn' needs its own cache in every forward: pass "
            f"{_cache_parameter(module)}=hip_attn.transformers.PagedCache(model.config) to forward or "
            "generate, or call hip_attn.transformers.attach(model) once, which has both make one"
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
    return layer.attend(query, key, value, attention_mask, scaling, softcap, s_aux), None


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
