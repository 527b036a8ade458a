"""Sparse attention for long contexts, with a hierarchical search over the KV cache.

docs/guide/python.md goes by task. Arrays are those of any framework with DLPack; nothing is copied.
"""

from ._cells import CellRequests, Cells
from ._config import Config, ModelConfig, Stage
from ._core import (
    MAX_DECODE_ROWS,
    HostArray,
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
    add_sink_logits,
    append_kv,
    built_dtypes,
    built_head_dims,
    built_with_cuda,
    check_device,
    cpu_instruction_set,
    decode,
    make_index_selection,
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
    "CellRequests",
    "Cells",
    "Config",
    "Error",
    "HostArray",
    "HostMemory",
    "KvPages",
    "KvStore",
    "KvStoreCounters",
    "KvStorePlan",
    "LandmarkLevel",
    "Landmarks",
    "MAX_DECODE_ROWS",
    "ModelConfig",
    "Plan",
    "Selection",
    "SelectionCache",
    "Stage",
    "ThreadTeam",
    "Workspace",
    "__version__",
    "add_sink_logits",
    "append_kv",
    "built_dtypes",
    "built_head_dims",
    "built_with_cuda",
    "check_device",
    "cpu_instruction_set",
    "decode",
    "make_index_selection",
    "merge_states",
    "plan_decode",
    "plan_kv_store",
    "plan_prefill",
    "prefill",
    "selection_row",
    "update_landmarks",
    "version",
]
