"""torch: tensors as arrays, the custom ops, torch.compile. Skipped where there is no torch."""

import numpy as np
import pytest
from reference import dense_attention, problem

import hip_attn
from hip_attn import Config, Stage

torch = pytest.importorskip("torch")

import hip_attn.torch  # noqa: E402

DENSE = Config.preset("dense")
LANDMARK = Config(
    sink=16, window=32, block_q=16,
    stages=(Stage(16, 256, 4, "landmark", "softmax_sum"), Stage(8, 64, 4, "every_key")),
)


def tensors(p):
    return {name: torch.from_numpy(array) for name, array in vars(p).items()}


def test_bfloat16_tensors_without_copies():
    p = problem([1, 3], [300, 45])
    t = tensors(p)
    q, k, v = (t.pop(name).bfloat16() for name in "qkv")
    plan = p.plan(DENSE, decode=True, dtype=torch.bfloat16, cache_dtype=torch.bfloat16)
    out = torch.full_like(q, float("nan"))
    workspace = hip_attn.Workspace(torch.empty(plan.workspace_bytes, dtype=torch.uint8))
    hip_attn.decode(plan, workspace, q, hip_attn.KvPages(k, v), out=out, **t)
    p.q, p.k, p.v = (x.float().numpy() for x in (q, k, v))
    np.testing.assert_allclose(out.float().numpy(), dense_attention(p)[0], atol=2e-2, rtol=2e-2)


def test_refusals_are_the_librarys():
    p = problem([1], [30])
    t = tensors(p)
    q, k, v = (t.pop(name) for name in "qkv")
    attention = hip_attn.torch.Attention(p.plan(DENSE, decode=True))
    with pytest.raises(hip_attn.Error, match="q.dtype is float16"):
        attention(q.half(), k, v, **t)


@pytest.mark.parametrize("decode", [False, True])
def test_the_op_passes_torchs_own_check(decode):
    p = problem([1, 1] if decode else [20, 7], [300, 45])
    t = tensors(p)
    attention = hip_attn.torch.Attention(p.plan(DENSE, decode))
    rest = ([], [], None, None, 0, None, None, None, None)
    arguments = (attention._key, t["q"], t["k"], t["v"], t["seq_lens"], t["cu_seqlens_q"],
                 t["block_table"], *rest)
    torch.library.opcheck(torch.ops.hip_attn.attend.default, arguments)
    out, lse = attention(**t)
    np.testing.assert_array_equal(out.numpy(), p.run(DENSE, decode))
    assert lse.shape == (len(p.q), 4)


def test_the_op_takes_queries_as_models_have_them():
    p = problem([20, 20], [300, 45])
    t = tensors(p)
    heads_first = t.pop("q").unflatten(0, (2, 20)).transpose(1, 2).contiguous()
    attention = hip_attn.torch.Attention(p.plan(DENSE))
    out, lse = torch.compile(attention, fullgraph=True)(heads_first.transpose(1, 2), **t)
    np.testing.assert_array_equal(out.numpy(), p.run(DENSE))
    assert lse.shape == (40, 4)


def test_a_compiled_step_is_the_step():
    p = problem([1], [500])
    num_pages = p.k.shape[0]
    attention = hip_attn.torch.Attention(p.plan(LANDMARK, decode=True))
    slot = int(p.block_table[0, 499 // 16]) * 16 + 499 % 16

    def step(t, rows, new_k, new_v, slots):
        hip_attn.torch.append_kv(
            t["k"], t["v"], new_k, new_v, slot_mapping=slots, landmark_rows=[rows],
            landmark_chunk_sizes=[16], landmark_block_table=t["block_table"],
            block_table=t["block_table"], seq_lens=t["seq_lens"], cu_seqlens=t["cu_seqlens_q"],
        )
        out, _ = attention(
            **t, landmark_rows=[rows], landmark_chunk_sizes=[16],
            landmark_block_table=t["block_table"],
        )
        return out * 2

    def run(function):
        t = {name: tensor.clone() for name, tensor in tensors(p).items()}
        rows = torch.zeros(num_pages, 1, 2, 2, 64)
        level = hip_attn.LandmarkLevel(16, rows, t["block_table"])
        hip_attn.update_landmarks(
            hip_attn.Landmarks([level]), hip_attn.KvPages(t["k"], t["v"]),
            block_table=t["block_table"], from_lens=torch.zeros(1, dtype=torch.int32),
            to_lens=torch.tensor([499], dtype=torch.int32),
        )
        new = torch.ones(1, 2, 64)
        return function(t, rows, new, new, torch.tensor([slot])), t["k"], rows

    # Without inductor, which takes a compiler; the graph is the same.
    compiled = run(torch.compile(step, fullgraph=True, backend="aot_eager"))
    for actual, expected in zip(compiled, run(step)):
        assert torch.equal(actual, expected)
    assert compiled[0].isfinite().all()


def test_partial_states_are_merged_in_a_compiled_function():
    torch.manual_seed(1)
    outs, lses = torch.randn(3, 5, 4, 64), torch.randn(3, 5, 4)
    torch.library.opcheck(torch.ops.hip_attn.merge_states.default, (outs, lses))
    merged, lse = torch.compile(
        lambda *states: hip_attn.torch.merge_states(*states), fullgraph=True, backend="aot_eager",
    )(outs, lses)
    weights = lses.double().softmax(0)[..., None]
    torch.testing.assert_close(merged, (outs * weights).sum(0).float())
    torch.testing.assert_close(lse, lses.logsumexp(0))


def test_sink_logits_are_added_in_a_compiled_function():
    torch.manual_seed(1)
    out, lse, sinks = torch.randn(5, 4, 64), torch.randn(5, 4), torch.randn(4)
    torch.library.opcheck(torch.ops.hip_attn.add_sink_logits.default, (sinks, out, lse))
    expected = out.double() * (lse.double() - torch.logaddexp(lse, sinks)).exp()[..., None]
    lse_of_both = torch.logaddexp(lse, sinks)
    torch.compile(
        lambda *states: hip_attn.torch.add_sink_logits(*states),
        fullgraph=True, backend="aot_eager",
    )(sinks, out, lse)
    torch.testing.assert_close(out, expected.float())
    torch.testing.assert_close(lse, lse_of_both)


def test_landmarks_are_updated_in_a_compiled_function():
    p = problem([1], [500])
    t = tensors(p)
    rows = torch.zeros(2, p.k.shape[0], 1, 2, 2, 64)
    lens = {"from_lens": torch.zeros(1, dtype=torch.int32), "to_lens": t["seq_lens"]}
    level = hip_attn.LandmarkLevel(16, rows[0], t["block_table"])
    hip_attn.update_landmarks(
        hip_attn.Landmarks([level]), p.pages(), block_table=t["block_table"], **lens)

    def update(written, k, v):
        hip_attn.torch.update_landmarks(
            [written], [16], k, v, landmark_block_table=t["block_table"],
            block_table=t["block_table"], **lens)

    torch.compile(update, fullgraph=True, backend="aot_eager")(rows[1], t["k"], t["v"])
    assert rows[0].any() and torch.equal(rows[0], rows[1])


def test_a_cache_of_the_op_is_written():
    p = problem([1], [500])
    t = tensors(p)
    config = Config(sink=16, window=32, stages=(Stage(32, 256, 1), Stage(8, 64)))
    plan = p.plan(config, decode=True)
    attention = hip_attn.torch.Attention(plan)
    data = torch.zeros(plan.selection_cache_slot_bytes, dtype=torch.uint8)
    first, _ = attention(
        **t, cache=data, num_slots=1, refresh_from=torch.zeros(1, dtype=torch.int32))
    assert data.any()
    again, _ = attention(
        **t, cache=data, num_slots=1, refresh_from=torch.full((1,), 2, dtype=torch.int32))
    assert torch.equal(first, again)


@pytest.mark.skipif(
    not (torch.cuda.is_available() and hip_attn.built_with_cuda()), reason="no GPU, or no CUDA")
def test_cuda_graphs_capture_a_step():
    p = problem([1], [500], "float16")
    t = {name: tensor.cuda() for name, tensor in tensors(p).items()}
    attention = hip_attn.torch.Attention(p.plan(DENSE, decode=True, device="cuda"))
    expected = attention(**t)[0]
    np.testing.assert_allclose(
        expected.float().cpu().numpy(), dense_attention(p)[0], atol=4e-3, rtol=4e-3)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = attention(**t)[0]
    captured.fill_(float("nan"))
    graph.replay()
    assert torch.equal(captured, expected)


@pytest.mark.skipif(
    not (torch.cuda.is_available() and hip_attn.built_with_cuda()), reason="no GPU, or no CUDA")
@pytest.mark.parametrize("index_heads", [1, 2])
def test_a_cuda_graph_makes_selections_of_indices_and_attends(index_heads):
    p = problem([1, 1], [500, 300])
    p.q, p.k, p.v = (torch.from_numpy(x).bfloat16().cuda() for x in (p.q, p.k, p.v))
    granularity, top_k = 4, 9
    config = Config(window=1, block_q=1, stages=(Stage(granularity, granularity * top_k),))
    shape = {"num_q_heads": 4, "num_kv_heads": 2, "head_dim": 64, "max_seq_len": 4096, "batch": 2,
             "total_q": 2, "dtype": "bfloat16"}
    host_plan = hip_attn.plan_decode(config, **shape)
    plan = hip_attn.plan_decode(config, **shape, device="cuda")
    rng = np.random.default_rng(5)

    def selection(device):
        rows = plan.selection_rows
        sizes = (rows, 2, top_k), (rows, 2), (rows, 2)
        arrays = [torch.zeros(s, dtype=torch.int32, device=device) for s in sizes]
        return arrays, hip_attn.Selection(*arrays)

    indices = torch.zeros(2, index_heads, top_k, dtype=torch.int32, device="cuda")
    lens = torch.from_numpy(p.seq_lens).cuda()
    starts = torch.from_numpy(p.cu_seqlens_q).cuda()
    table = torch.from_numpy(p.block_table).cuda()
    workspace = hip_attn.Workspace(
        torch.empty(plan.workspace_bytes, dtype=torch.uint8, device="cuda"))
    arrays, made = selection("cuda")
    out = torch.zeros_like(p.q)
    pages = hip_attn.KvPages(p.k, p.v)

    def step():
        hip_attn.make_index_selection(plan, indices, made, seq_lens=lens, cu_seqlens_q=starts)
        hip_attn.decode(
            plan, workspace, p.q, pages, block_table=table, seq_lens=lens, cu_seqlens_q=starts,
            out=out, selection=made)

    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for _ in range(3):
        numbers = rng.integers(-2, 75, (2, index_heads, top_k)).astype(np.int32)
        indices.copy_(torch.from_numpy(numbers))
        graph.replay()
        expected, on_host = selection("cpu")
        hip_attn.make_index_selection(
            host_plan, numbers, on_host, seq_lens=p.seq_lens, cu_seqlens_q=p.cu_seqlens_q)
        for actual, wanted in zip(arrays[1:], expected[1:]):
            assert torch.equal(actual.cpu(), wanted)
        replayed = out.clone()
        step()
        assert torch.equal(out, replayed) and out.isfinite().all()
