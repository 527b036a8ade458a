"""Dense presets are attention to every key, as numpy computes it in float64."""

import numpy as np
import pytest
from reference import dense_attention, nan_like, problem

import hip_attn

TOLERANCE = {"float32": 2e-5, "float16": 2e-3, "bfloat16": 2e-2}
DENSE = hip_attn.Config.preset("dense")


def dtype_of(name):
    return pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else name


def assert_close(actual, expected, dtype):
    np.testing.assert_allclose(
        actual.astype(np.float64), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("hnd", [False, True])
def test_prefill(dtype, hnd):
    p = problem([70, 1, 33], [70, 45, 133], dtype_of(dtype), hnd=hnd)
    assert_close(p.run(DENSE), dense_attention(p)[0], dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_decode(dtype):
    p = problem([1, 3, 1], [300, 45, 1], dtype_of(dtype))
    assert_close(p.run(DENSE, decode=True), dense_attention(p)[0], dtype)


@pytest.mark.parametrize("cache_dtype", ["float16", "bfloat16"])
def test_float32_rows_over_a_cache_of_16_bits(cache_dtype):
    p = problem([20, 1], [50, 60], cache_dtype=dtype_of(cache_dtype))
    assert_close(p.run(DENSE), dense_attention(p)[0], "float32")


def test_lse():
    p = problem([5, 9], [50, 60])
    lse = np.full(p.q.shape[:2], np.nan, np.float32)
    p.run(DENSE, lse=lse)
    assert_close(lse, dense_attention(p)[1], "float32")


def test_a_contiguous_cache_is_one_page_per_request():
    p = problem([4, 2], [48, 48], page_size=48)
    p.block_table = np.array([[0], [1]], np.int32)
    np.testing.assert_array_equal(p.run(DENSE), p.run(DENSE, block_table=None))


@pytest.mark.parametrize("decode", [False, True])
def test_queries_of_four_dimensions_with_heads_before_rows(decode):
    p = problem([5, 5], [48, 90])
    heads_first = np.ascontiguousarray(p.q.reshape(2, 5, *p.q.shape[1:]).swapaxes(1, 2))
    plan = p.plan(DENSE, decode)
    out = nan_like(p.q)
    attend = hip_attn.decode if decode else hip_attn.prefill
    attend(plan, hip_attn.Workspace(plan.workspace_bytes), heads_first.swapaxes(1, 2), p.pages(),
           out=out, **p.arrays())
    np.testing.assert_array_equal(out, p.run(DENSE, decode))


def test_no_requests_with_queries_of_four_dimensions():
    p = problem([5], [48])
    out = np.zeros((0, 4, 64), np.float32)
    plan = p.plan(DENSE)
    hip_attn.prefill(plan, hip_attn.Workspace(plan.workspace_bytes),
                     np.zeros((0, 5, 4, 64), np.float32), p.pages(),
                     block_table=p.block_table[:0], seq_lens=p.seq_lens[:0],
                     cu_seqlens_q=p.cu_seqlens_q[:1], out=out)


def test_scale_and_soft_cap():
    p = problem([4], [48])
    scaled = p.run(DENSE, scale=0.25)
    p.q *= 2
    np.testing.assert_allclose(p.run(DENSE), scaled, rtol=1e-5, atol=1e-5)
    capped = p.run(DENSE, logit_softcap=1e4)
    np.testing.assert_allclose(capped, scaled, rtol=1e-3, atol=1e-3)


def test_appended_keys_are_those_of_the_cache():
    p = problem([1, 1], [100, 37])
    slots = np.concatenate(
        [p.block_table[b, np.arange(n) // 16] * 16 + np.arange(n) % 16
         for b, n in enumerate(p.seq_lens)]
    ).astype(np.int64)
    new_k, new_v = (np.concatenate(list(x)) for x in zip(*(p.keys_of(b) for b in range(2))))
    expected = p.run(DENSE, decode=True)
    p.k[:] = 0
    p.v[:] = 0
    hip_attn.append_kv(p.pages(), new_k, new_v, slot_mapping=slots)
    np.testing.assert_array_equal(p.run(DENSE, decode=True), expected)


def test_merged_parts_are_the_whole():
    whole = problem([1], [96])
    out, lse = dense_attention(whole)
    parts, lses = [], []
    for half in (slice(0, 3), slice(3, 6)):
        p = problem([1], [96])
        p.block_table = np.ascontiguousarray(p.block_table[:, half])
        p.seq_lens = np.array([48], np.int32)
        part_lse = np.full(p.q.shape[:2], np.nan, np.float32)
        parts.append(p.run(DENSE, lse=part_lse))
        lses.append(part_lse)
    merged, merged_lse = nan_like(whole.q), np.full(whole.q.shape[:2], np.nan, np.float32)
    hip_attn.merge_states(np.stack(parts), np.stack(lses), out=merged, lse=merged_lse)
    assert_close(merged, out, "float32")
    assert_close(merged_lse, lse, "float32")


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_sink_logits_take_a_share_of_every_softmax(dtype):
    p = problem([1, 3, 1], [300, 45, 1], dtype_of(dtype))
    sinks = np.array([0.5, -2.0, 9.0, -np.inf], np.float32)
    lse = np.full(p.q.shape[:2], np.nan, np.float32)
    out = p.run(DENSE, decode=True, lse=lse)
    without = out.copy(), lse.copy()
    hip_attn.add_sink_logits(sinks, out, lse)
    expected = dense_attention(p, sinks=sinks)
    assert_close(out, expected[0], dtype)
    assert_close(lse, expected[1], "float32")
    for changed, before in zip((out, lse), without):
        assert (changed[:, :3] != before[:, :3]).any()
        np.testing.assert_array_equal(changed[:, 3], before[:, 3])
