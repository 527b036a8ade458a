"""Sparse attention for long contexts, with a hierarchical search over the KV cache.

docs/guide/python.md goes by task. Arrays are those of any framework with DLPack; nothing is copied.
"""

from ._config import Config, ModelConfig, Stage
from ._core import (
    HostMemory,
    KvPages,
    KvStore,
    KvStoreCounters,
    KvStorePlan,
    LandmarkLevel,
    Landmarks,
    Plan,
    Selection,
    SelectionCache,
    ThreadTeam,
    Workspace,
    append_kv,
    built_dtypes,
    built_head_dims,
    built_with_cuda,
    check_device,
    cpu_instruction_set,
    decode,
    merge_states,
    prefill,
    selection_row,
    update_landmarks,
    version,
)
from ._error import Error
from ._plan import plan_decode, plan_kv_store, plan_prefill

__version__ = version()

__all__ = [
    "Config",
    "Error",
    "HostMemory",
    "KvPages",
    "KvStore",
    "KvStoreCounters",
    "KvStorePlan",
    "LandmarkLevel",
    "Landmarks",
    "ModelConfig",
    "Plan",
    "Selection",
    "SelectionCache",
    "Stage",
    "ThreadTeam",
    "Workspace",
    "__version__",
    "append_kv",
    "built_dtypes",
    "built_head_dims",
    "built_with_cuda",
    "check_device",
    "cpu_instruction_set",
    "decode",
    "merge_states",
    "plan_decode",
    "plan_kv_store",
    "plan_prefill",
    "prefill",
    "selection_row",
    "update_landmarks",
    "version",
]
