"""Sparse presets: the same bits however a call is made, selections, caches and landmarks."""

import numpy as np
import pytest
from reference import nan_like, problem

import hip_attn
from hip_attn import Config, Stage

# A search that prunes at lengths that a test can afford.
LANDMARK = Config(
    sink=16,
    window=32,
    block_q=16,
    stages=(
        Stage(16, 256, 4, "landmark", "softmax_sum", 4),
        Stage(8, 64, 4, "every_key", "softmax_sum", 2),
    ),
)
DESCENT = Config(sink=16, window=32, block_q=16, stages=(Stage(32, 256, 4), Stage(8, 64)))


def landmarks_of(p):
    """Empty landmarks for the cache of a problem, on the pages of its keys."""
    num_pages, page_size, num_kv_heads, head_dim = p.k.shape
    rows = np.zeros((num_pages, page_size // 16, num_kv_heads, 2, head_dim), p.k.dtype)
    level = hip_attn.LandmarkLevel(16, rows, p.block_table)
    return rows, hip_attn.Landmarks([level])


def made_landmarks(p):
    rows, landmarks = landmarks_of(p)
    hip_attn.update_landmarks(
        landmarks,
        p.pages(),
        block_table=p.block_table,
        from_lens=np.zeros(len(p.seq_lens), np.int32),
        to_lens=p.seq_lens,
    )
    return rows, landmarks


def selection_for(plan, num_kv_heads, fill=-1):
    rows, blocks = plan.selection_rows, plan.max_selected_blocks
    arrays = (
        np.full((rows, num_kv_heads, blocks), fill, np.int32),
        np.full((rows, num_kv_heads), fill, np.int32),
        np.full((rows, num_kv_heads), fill, np.int32),
    )
    return arrays, hip_attn.Selection(*arrays)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_calls_repeat_to_the_bit_with_any_number_of_threads(dtype):
    p = problem([100, 40], [900, 700], dtype)
    _, landmarks = made_landmarks(p)
    first = p.run(LANDMARK, landmarks=landmarks)
    assert np.isfinite(first).all()
    for num_threads in (1, 2):
        again = p.run(LANDMARK, landmarks=landmarks, num_threads=num_threads)
        np.testing.assert_array_equal(again, first)


def test_prefill_in_pieces_is_prefill_of_the_whole():
    p = problem([128], [900])
    _, landmarks = made_landmarks(p)
    whole = p.run(LANDMARK, landmarks=landmarks)
    pieces = []
    # Pieces that end where query blocks do.
    for first, last in ((0, 44), (44, 108), (108, 128)):
        piece = problem([last - first], [900 - 128 + last])
        piece.q = p.q[first:last]
        piece.k, piece.v, piece.block_table = p.k, p.v, p.block_table
        pieces.append(piece.run(LANDMARK, landmarks=landmarks))
    assert (900 - 128 + 44) % 16 == 0
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_an_append_makes_the_landmarks_that_an_update_makes():
    p = problem([1], [500])
    expected, _ = made_landmarks(p)
    rows, landmarks = landmarks_of(p)
    k, v = p.keys_of(0)
    for first, last in ((0, 37), (37, 200), (200, 500)):
        tokens = np.arange(first, last)
        hip_attn.append_kv(
            p.pages(),
            np.ascontiguousarray(k[first:last]),
            np.ascontiguousarray(v[first:last]),
            slot_mapping=p.block_table[0, tokens // 16].astype(np.int64) * 16 + tokens % 16,
            landmarks=landmarks,
            block_table=p.block_table,
            seq_lens=np.array([last], np.int32),
            cu_seqlens=np.array([0, last - first], np.int32),
        )
    np.testing.assert_array_equal(rows, expected)


def test_a_call_without_the_landmarks_that_its_config_needs_is_refused():
    p = problem([1], [500])
    assert LANDMARK.landmark_chunk_sizes() == [16]
    with pytest.raises(hip_attn.Error, match="landmarks") as refused:
        p.run(LANDMARK, decode=True)
    assert refused.value.status == "InvalidShape"


@pytest.mark.parametrize("decode", [False, True])
def test_a_selection_that_was_written_gives_the_same_output(decode):
    p = problem([1, 1] if decode else [40, 20], [900, 700])
    arrays, selection = selection_for(p.plan(DESCENT, decode), p.k.shape[2])
    searched = p.run(DESCENT, decode, selection_out=selection)
    row = hip_attn.selection_row(0, 0, 0, DESCENT.block_q)
    assert row == 0 and (arrays[1][row] == 64 // 8).all()
    np.testing.assert_array_equal(p.run(DESCENT, decode, selection=selection), searched)


def test_counters_count_fewer_keys_than_dense_attention_reads():
    p = problem([1], [900])
    counters = np.zeros(4, np.int64)
    p.run(DESCENT, decode=True, counters=counters)
    assert (counters > 0).all()
    assert counters[2] < 900 * 2


def test_a_selection_cache_reuses_what_was_selected():
    p = problem([1, 1], [900, 700])
    plan = p.plan(DESCENT, decode=True)
    cache = hip_attn.SelectionCache(plan, 3)
    slots = np.array([2, 0], np.int32)

    def step(refresh_from):
        out, counters = nan_like(p.q), np.zeros(4, np.int64)
        hip_attn.decode(
            plan, hip_attn.Workspace(plan.workspace_bytes), p.q, p.pages(), **p.arrays(), out=out,
            cache=cache, refresh_from=np.full(2, refresh_from, np.int32), slots=slots,
            counters=counters,
        )
        return out, counters

    searched, counters = step(0)
    assert (counters[:2] > 0).all()
    reused, counters = step(2)
    assert (counters[:2] == 0).all()
    np.testing.assert_array_equal(reused, searched)
    np.testing.assert_array_equal(searched, p.run(DESCENT, decode=True))
    # The second step alone, by memory of the caller's.
    data = np.zeros(3 * plan.selection_cache_slot_bytes, np.uint8)
    cache = hip_attn.SelectionCache(plan, 3, data)
    np.testing.assert_array_equal(step(2)[0], searched)
    assert data.any()


def test_a_search_ahead_divides_a_refresh_between_two_steps():
    p = problem([1, 1], [900, 700])
    plan = p.plan(DESCENT, decode=True)

    def step(cache, refresh_from):
        out, counters = nan_like(p.q), np.zeros(4, np.int64)
        hip_attn.decode(
            plan, hip_attn.Workspace(plan.workspace_bytes), p.q, p.pages(), **p.arrays(), out=out,
            cache=cache, refresh_from=np.full(2, refresh_from, np.int32), counters=counters,
        )
        return out, counters

    ahead, plain = (hip_attn.SelectionCache(plan, 2) for _ in range(2))
    for cache in (ahead, plain):
        step(cache, 0)
    p.q[:] = np.random.default_rng(9).standard_normal(p.q.shape)
    out, counters = step(ahead, -1)
    np.testing.assert_array_equal(out, step(plain, 2)[0])
    assert counters[0] > 0 and counters[1] == 0
    out, counters = step(ahead, 1)
    np.testing.assert_array_equal(out, p.run(DESCENT, decode=True))
    assert counters[0] == 0 and counters[1] > 0
