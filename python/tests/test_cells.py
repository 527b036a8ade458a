"""Cells with positions and sequences: attention over them is that over the keys in order."""

import numpy as np
import pytest
from reference import dense_attention, nan_like, problem

import hip_attn
from hip_attn import Config

DENSE = Config.preset("dense")


def cells_of(p, seed=3):
    """The keys of a problem as cells in no order, and its rows; tokens are 5 positions apart."""
    rng = np.random.default_rng(seed)
    sequences = np.repeat(np.arange(len(p.seq_lens)), p.seq_lens)
    tokens = np.concatenate([np.arange(n) for n in p.seq_lens])
    page_size = p.k.shape[1]
    pages = p.block_table[sequences, tokens // page_size] * page_size + tokens % page_size
    order = rng.permutation(len(pages))
    rows = np.diff(p.cu_seqlens_q)
    last = np.concatenate([n - q + np.arange(q) for n, q in zip(p.seq_lens, rows)])
    return {
        "key_sequences": (sequences + 7)[order].astype(np.int32),
        "key_positions": (5 * tokens)[order].astype(np.int64),
        "key_pages": pages[order].astype(np.int32),
        "row_sequences": np.repeat(np.arange(len(rows)) + 7, rows).astype(np.int32),
        "row_positions": (5 * last).astype(np.int64),
    }


def attend(p, requests, config=DENSE, **arguments):
    """out and lse of the batch's rows, over the cache as pages of one token."""
    rows = np.asarray(requests.rows)
    k, v = (x.reshape(-1, 1, *x.shape[2:]) for x in (p.k, p.v))
    q = np.ascontiguousarray(p.q[rows])
    plan = (hip_attn.plan_decode if requests.decode else hip_attn.plan_prefill)(
        config, **p.shape(batch=requests.seq_lens.shape[0])
    )
    out, lse = nan_like(q), np.full(q.shape[:2], np.nan, np.float32)
    (hip_attn.decode if requests.decode else hip_attn.prefill)(
        plan, hip_attn.Workspace(plan.workspace_bytes), q, hip_attn.KvPages(k, v),
        block_table=requests.block_table, seq_lens=requests.seq_lens,
        cu_seqlens_q=requests.cu_seqlens_q, out=out, lse=lse, **arguments,
    )
    back = np.argsort(rows)
    return out[back], lse[back]


@pytest.mark.parametrize("q_lens", [[1, 1, 1], [30, 9, 17]], ids=["decode", "prefill"])
def test_attention_over_cells_in_no_order_is_that_over_the_keys_in_order(q_lens):
    p = problem(q_lens, [40, 9, 70])
    requests = hip_attn.Cells().requests(**cells_of(p))
    assert requests.decode == (max(q_lens) == 1) and requests.in_order
    assert np.asarray(requests.sequences).tolist() == [7, 8, 9]
    assert requests.block_table.shape == (3, 70) and requests.refresh_from is None
    for actual, expected in zip(attend(p, requests), dense_attention(p)):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_rows_of_a_sequence_are_brought_together_or_keep_their_order():
    p = problem([2, 2], [40, 30])
    mixed = np.array([0, 2, 1, 3])
    batch = cells_of(p)
    for name in ("row_sequences", "row_positions"):
        batch[name] = batch[name][mixed]
    expected = [x[mixed] for x in dense_attention(p)]
    p.q = p.q[mixed]
    together = hip_attn.Cells().requests(**batch)
    assert np.asarray(together.rows).tolist() == [0, 2, 1, 3] and not together.in_order
    assert np.asarray(together.cu_seqlens_q).tolist() == [0, 2, 4]
    kept = hip_attn.Cells().requests(**batch, keep_order=True)
    assert kept.in_order and np.asarray(kept.seq_lens).tolist() == [39, 29, 40, 30]
    for requests in (together, kept):
        for actual, wanted in zip(attend(p, requests), expected):
            np.testing.assert_allclose(actual, wanted, atol=1e-5)


def test_a_row_sees_the_keys_from_its_first_position_on():
    p = problem([1], [40])
    batch = cells_of(p)
    requests = hip_attn.Cells().requests(**batch, row_first=np.array([5 * 12], np.int64))
    assert np.asarray(requests.seq_lens).tolist() == [28]
    windowed = hip_attn.Cells().requests(
        **batch, row_first=np.array([5 * 30], np.int64), window=10
    )
    assert np.asarray(windowed.seq_lens).tolist() == [10]
    with pytest.raises(hip_attn.Error, match="row 0 sees 28 keys; a window of 10") as refused:
        hip_attn.Cells().requests(**batch, row_first=np.array([5 * 12], np.int64), window=10)
    assert refused.value.status == "Unsupported"


def test_decode_steps_are_counted_until_a_sequence_is_forgotten():
    config = Config.preset("infinite_hip")
    cells = hip_attn.Cells()
    seen = []
    for step in range(6):
        p = problem([1], [40 + step])
        p.block_table[:] = np.arange(p.block_table.shape[1])
        if step == 4:
            cells.forget(7)
        requests = cells.requests(**cells_of(p), config=config)
        seen.append(int(np.asarray(requests.refresh_from)[0]))
    steps = (0, 1, 2, 3, 0, 1)
    assert seen == [config.refresh_from_at(step) for step in steps]
    assert len(set(seen)) > 1


def test_what_was_made_stays_when_the_cells_are_used_again_or_go():
    cells = hip_attn.Cells()
    p = problem([1, 1], [40, 30])
    first = cells.requests(**cells_of(p))
    table = np.from_dlpack(first.block_table)
    before = table.copy()
    other = problem([1], [90], seed=2)
    cells.requests(**cells_of(other))
    del cells, first
    np.testing.assert_array_equal(table, before)


def test_no_rows_are_no_requests():
    batch = {
        name: array[:0] for name, array in cells_of(problem([1], [5])).items()
    }
    requests = hip_attn.Cells().requests(**batch, config=DENSE)
    assert requests.block_table.shape == (0, 0) and np.asarray(requests.rows).shape == (0,)
    assert np.asarray(requests.cu_seqlens_q).tolist() == [0]


def test_an_array_of_the_host_is_shared_with_other_frameworks():
    array = hip_attn.Cells().requests(**cells_of(problem([1, 2], [4, 3]))).block_table
    assert array.shape == (2, 4) and repr(array) == "<hip_attn.HostArray of int32 [2, 4]>"
    shared, taken = np.asarray(array), np.from_dlpack(array)
    assert shared.dtype == np.int32
    np.testing.assert_array_equal(shared, taken)
    shared[1, 2] = 99
    assert taken[1, 2] == 99
    with pytest.raises(BufferError):
        array.__dlpack__(copy=True)


REFUSED = {
    "keys of 32 bits": (
        {"key_positions": np.zeros(70, "i4")}, "InvalidArgument",
        "key_positions.dtype is int32; it must be int64"),
    "floats": (
        {"key_pages": np.zeros(70, "f4")}, "InvalidArgument",
        "key_pages.dtype is float32; it must be int32"),
    "rank": (
        {"row_positions": np.zeros((1, 2), "i8")}, "InvalidArgument", "row_positions.ndim is 2"),
    "strides": ({"key_pages": np.zeros(140, "i4")[::2]}, "InvalidStride", "key_pages has gaps"),
    "absent keys": ({"key_pages": None}, "NullPointer", "key_pages is None"),
    "absent rows": ({"row_positions": None}, "NullPointer", "row_positions is None"),
    "sizes of keys": (
        {"key_sequences": np.zeros(69, "i4")}, "InvalidShape",
        r"key_sequences.shape\[0\] is 69; it must be 70, as of key_pages"),
    "sizes of rows": (
        {"row_first": np.zeros(3, "i8")}, "InvalidShape", r"row_first.shape\[0\] is 3"),
    "pages": ({"key_pages": np.full(70, -1, "i4")}, "InvalidPage", r"key_pages\[0\] is -1"),
    "window": ({"window": -2}, "InvalidScalar", "window is -2"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_argument_is_named(name):
    changes, status, words = REFUSED[name]
    batch = cells_of(problem([1, 1], [40, 30]))
    with pytest.raises(hip_attn.Error, match=words) as refused:
        hip_attn.Cells().requests(**{**batch, **changes})
    assert refused.value.status == status


def test_what_is_no_config_or_no_array_is_a_type_error():
    batch = cells_of(problem([1], [40]))
    with pytest.raises(TypeError, match="hip_attn.Config"):
        hip_attn.Cells().requests(**batch, config="dense")
    with pytest.raises(TypeError, match="key_pages is of type list"):
        hip_attn.Cells().requests(**{**batch, "key_pages": [1, 2]})
