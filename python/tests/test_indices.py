"""Selections of given block numbers: a row attends to its blocks, and to nothing else."""

import numpy as np
import pytest
from reference import dense_attention, nan_like, problem

import hip_attn
from hip_attn import Config, Stage

TOP_K = 9


def config_of(granularity, sink=0):
    return Config(
        sink=sink, window=1, block_q=1, stages=(Stage(granularity, TOP_K * granularity),)
    )


def random_indices(p, granularity, heads, seed=5):
    """Blocks that each row sees, in no order, some twice, padded with -1."""
    rng = np.random.default_rng(seed)
    indices = np.full((len(p.q), heads, TOP_K), -1, np.int32)
    for b, seq_len in enumerate(p.seq_lens):
        first, last = p.cu_seqlens_q[b : b + 2]
        for row in range(first, last):
            own = (seq_len - (last - row)) // granularity
            indices[row] = rng.integers(0, own + 1, (heads, TOP_K))
    indices[rng.random(indices.shape) < 0.25] = -1
    return indices


def selection_for(plan, width=TOP_K):
    rows = plan.selection_rows
    return hip_attn.Selection(
        np.zeros((rows, 2, width), np.int32),
        np.zeros((rows, 2), np.int32),
        np.zeros((rows, 2), np.int32),
    )


@pytest.mark.parametrize("decode", [False, True], ids=["prefill", "decode"])
@pytest.mark.parametrize("granularity", [1, 4, 64, 128])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("sinks", [0, 1])
def test_rows_attend_to_the_blocks_of_their_indices_alone(decode, granularity, heads, sinks):
    p = problem([1, 1, 1] if decode else [40, 3, 40], [300, 131, 40])
    config = config_of(granularity, sinks * granularity)
    # Room for TOP_K blocks also where requests are shorter.
    shape = {"max_seq_len": 4096}
    plan = p.plan(config, decode, **shape)
    indices = random_indices(p, granularity, heads)
    selection = selection_for(plan)
    lengths = {"seq_lens": p.seq_lens, "cu_seqlens_q": p.cu_seqlens_q}
    hip_attn.make_index_selection(plan, indices, selection, **lengths)
    out, lse = nan_like(p.q), np.full(p.q.shape[:2], np.nan, np.float32)
    (hip_attn.decode if decode else hip_attn.prefill)(
        plan, hip_attn.Workspace(plan.workspace_bytes), p.q, p.pages(), **p.arrays(), out=out,
        lse=lse, selection=selection,
    )

    def admits(b):
        rows = indices[p.cu_seqlens_q[b] : p.cu_seqlens_q[b + 1]].repeat(4 // heads, axis=1)
        tokens = np.arange(p.seq_lens[b])
        listed = (rows[..., None] == tokens // granularity).any(axis=2)
        return listed | (tokens < config.sink)

    expected = dense_attention(p, admits)
    np.testing.assert_allclose(out, expected[0], atol=2e-5, rtol=2e-5)
    np.testing.assert_allclose(lse, expected[1], atol=2e-5, rtol=2e-5)


def frozen(array):
    array.flags.writeable = False
    return array


REFUSED = {
    "no plan": ({"plan": None}, "NullPointer", "plan is null"),
    "no indices": ({"indices": None}, "NullPointer", "indices is null"),
    "no selection": ({"selection": None}, "NullPointer", "selection is null"),
    "numbers of 64 bits": (
        {"indices": np.zeros((2, 1, TOP_K), "i8")}, "InvalidArgument", "indices.dtype is int64"),
    "rank": ({"indices": np.zeros((2, TOP_K), "i4")}, "InvalidArgument", "indices.ndim is 2"),
    "heads": (
        {"indices": np.zeros((2, 3, TOP_K), "i4")}, "InvalidShape", r"indices.sizes\[1\] is 3"),
    "too many": (
        {"indices": np.zeros((2, 1, TOP_K + 1), "i4")}, "InvalidShape", r"selection.blocks.sizes"),
    "a block behind the row": (
        {"indices": np.full((2, 1, TOP_K), 8, "i4")}, "InvalidSelection",
        r"indices\[0\]\[0\]\[0\] is 8; the row at position 28 sees blocks 0 to 7"),
    "several rows of decode": (
        {"op": hip_attn.plan_decode}, "TooManyDecodeRows", "request 0 has 2 rows"),
    "rows that share a selection": (
        {"config": Config(block_q=2, stages=(Stage(4, 36),))}, "Unsupported",
        "config.block_q is 2"),
    "read-only": (
        {"selection": hip_attn.Selection(
            np.zeros((4, 2, TOP_K), "i4"), frozen(np.zeros((4, 2), "i4")), np.zeros((4, 2), "i4"))},
        "InvalidArgument", "selection.counts is read-only"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_argument_is_named(name):
    changes, status, words = REFUSED[name]
    changes = dict(changes)
    p = problem([2], [30])
    plan = changes.pop("op", hip_attn.plan_prefill)(
        changes.pop("config", config_of(4)), **p.shape()
    )
    arguments = {
        "plan": plan,
        "indices": np.zeros((2, 1, TOP_K), np.int32),
        "selection": selection_for(plan),
        "seq_lens": p.seq_lens,
        "cu_seqlens_q": p.cu_seqlens_q,
        **changes,
    }
    with pytest.raises(hip_attn.Error, match=words) as refused:
        hip_attn.make_index_selection(**arguments)
    assert refused.value.status == status
