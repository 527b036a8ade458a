"""A cache in host memory and its store: the results of a cache without one, and what is refused."""

import gc
import weakref

import numpy as np
import pytest
from reference import nan_like, problem
from test_sparse import DESCENT

import hip_attn


def in_home(p, device="cpu"):
    """The home of a problem's cache, which has pages of 8 tokens, and its pages."""
    home = hip_attn.HostMemory(p.k.nbytes + p.v.nbytes, device)
    num_pages, page_size, num_kv_heads, head_dim = p.k.shape
    assert page_size == 8
    blocks = np.from_dlpack(home).view(p.k.dtype)
    blocks = blocks.reshape(num_pages, num_kv_heads, 2, page_size, head_dim)
    blocks[:, :, 0] = p.k.swapaxes(1, 2)
    blocks[:, :, 1] = p.v.swapaxes(1, 2)
    return home, home.pages(num_kv_heads, head_dim, p.k.dtype)


def store_for(p, config, **changes):
    shape = {
        "num_kv_heads": p.k.shape[2],
        "head_dim": p.k.shape[3],
        "max_seq_len": int(p.seq_lens.max()),
        "max_requests": len(p.seq_lens),
        "dtype": p.k.dtype,
    }
    plan = hip_attn.plan_kv_store(config, **{**shape, **changes})
    store = hip_attn.KvStore(plan)
    store.clear()
    return store


@pytest.mark.parametrize("decode", [False, True])
def test_a_call_with_a_store_is_the_call_without(decode):
    p = problem([1, 2] if decode else [50, 20], [900, 700], page_size=8)
    _, pages = in_home(p)
    store = store_for(p, DESCENT)
    store.bind(pages, block_table=p.block_table, seq_lens=p.seq_lens)
    plan = p.plan(DESCENT, decode)
    out = nan_like(p.q)
    call = hip_attn.decode if decode else hip_attn.prefill
    call(plan, hip_attn.Workspace(plan.workspace_bytes), p.q, pages, **p.arrays(), out=out,
         store=store)
    np.testing.assert_array_equal(out, p.run(DESCENT, decode))


def test_steps_append_to_the_home_and_admit():
    p = problem([1, 1], [400, 300], page_size=8)
    home, pages = in_home(p)
    expected = np.from_dlpack(home).copy()
    np.from_dlpack(home)[:] = 0
    rows = np.array([1, 0], np.int32)
    plan = p.plan(DESCENT, decode=True)
    cache = hip_attn.SelectionCache(plan, 2)
    slots = np.array([1, 0], np.int32)
    store = hip_attn.KvStore(
        hip_attn.plan_kv_store(
            DESCENT, num_kv_heads=2, head_dim=64, max_seq_len=400, max_requests=2, dtype="float32"),
        np.zeros(16, np.uint8), rows)
    store.clear()
    store.bind(pages, block_table=p.block_table, seq_lens=np.zeros(2, np.int32))
    keys, values = zip(*(p.keys_of(b) for b in range(2)))
    tokens = [np.arange(n) for n in p.seq_lens]
    hip_attn.append_kv(
        pages, np.concatenate(keys), np.concatenate(values),
        slot_mapping=np.concatenate(
            [p.block_table[b, t // 8].astype(np.int64) * 8 + t % 8 for b, t in enumerate(tokens)]),
        block_table=p.block_table, seq_lens=p.seq_lens,
        cu_seqlens=np.array([0, 400, 700], np.int32), store=store, cache=cache, slots=slots,
    )
    written = np.from_dlpack(home).view("f4").reshape(-1, 2, 2, 8, 64)
    for b, n in enumerate(p.seq_lens):
        page = p.block_table[b, (n - 1) // 8]
        assert written[page].any()
        tail = expected.view("f4").reshape(written.shape)[page, :, :, (n - 1) % 8]
        np.testing.assert_array_equal(written[page, :, :, (n - 1) % 8], tail)
    out = nan_like(p.q)
    hip_attn.decode(
        plan, hip_attn.Workspace(plan.workspace_bytes), p.q, pages, **p.arrays(), out=out,
        cache=cache, slots=slots, refresh_from=np.zeros(2, np.int32), store=store)
    np.testing.assert_array_equal(out, p.run(DESCENT, decode=True))
    store.admit(pages, cache, block_table=p.block_table, seq_lens=p.seq_lens, slots=slots)
    assert repr(store.counters()) == "KvStoreCounters(hits=0, misses=0, evictions=0)"


def test_the_plan_of_a_store_says_what_it_takes():
    plan = hip_attn.plan_kv_store(
        DESCENT, num_kv_heads=2, head_dim=64, max_seq_len=400, dtype=np.float32)
    assert plan.memory_bytes == 0 and plan.least_budget > 0 and plan.slots == 0
    assert plan.device == "cpu"


def test_host_memory_is_zeroed_and_an_array():
    home = hip_attn.HostMemory(1000)
    assert home.nbytes == 1000
    array = np.from_dlpack(home)
    assert array.shape == (1000,) and array.dtype == np.uint8 and not array.any()
    array[7] = 9
    assert np.from_dlpack(home)[7] == 9
    assert home.__dlpack_device__() == (1, 0)
    # A consumer from before DLPack 1.0.
    assert '"dltensor"' in repr(home.__dlpack__())
    assert '"dltensor_versioned"' in repr(home.__dlpack__(max_version=(1, 0), dl_device=(1, 0)))


def test_pages_of_host_memory_are_whole_blocks():
    home = hip_attn.HostMemory(3 * 2 * 2 * 8 * 64 * 4 + 99)
    assert home.pages(2, 64, "float32").num_pages == 3
    assert hip_attn.HostMemory(0).pages(2, 64).num_pages == 0
    with pytest.raises(ValueError, match="must be from 1"):
        home.pages(0, 64)
    with pytest.raises(ValueError, match="dtype is 'int8'"):
        home.pages(2, 64, "int8")


def test_arrays_and_pages_keep_the_memory():
    home = hip_attn.HostMemory(1 << 20)
    array = np.from_dlpack(home)
    pages = home.pages(2, 64)
    for kept in (array, pages):
        with pytest.raises(BufferError, match="arrays or pages"):
            home.release(1)
    array[-1] = 5
    del home, pages
    gc.collect()
    assert array[-1] == 5
    home = hip_attn.HostMemory(1 << 20)
    assert home.release(1) == 0 and home.nbytes == 0


@pytest.mark.parametrize(
    "arguments", [{"copy": True}, {"dl_device": (2, 0)}], ids=["copy", "another device"])
def test_host_memory_is_neither_copied_nor_moved(arguments):
    with pytest.raises(BufferError):
        hip_attn.HostMemory(16).__dlpack__(**arguments)


def test_a_store_keeps_its_plan_and_its_arrays():
    p = problem([1], [40], page_size=8)
    rows = np.zeros(1, np.int32)
    alive = weakref.ref(rows)
    plan = hip_attn.plan_kv_store(
        DESCENT, num_kv_heads=2, head_dim=64, max_seq_len=40, dtype="float32")
    store = hip_attn.KvStore(plan, rows=rows)
    del plan, rows
    gc.collect()
    assert alive() is not None
    store.bind(in_home(p)[1], block_table=p.block_table, seq_lens=p.seq_lens)
    del store
    gc.collect()
    assert alive() is None


def test_what_does_not_fit_a_store_is_refused():
    p = problem([1, 1], [100, 90], page_size=8)
    _, pages = in_home(p)
    store = store_for(p, DESCENT)
    arrays = {"block_table": p.block_table, "seq_lens": p.seq_lens}

    def refused(status, match, call, *arguments, **named):
        with pytest.raises(hip_attn.Error, match=match) as error:
            call(*arguments, **named)
        assert error.value.status == status

    refused("NullPointer", "block_table is null", store.bind, pages, block_table=None,
            seq_lens=p.seq_lens)
    refused("InvalidArgument", "seq_lens.dtype is int64", store.bind, pages,
            block_table=p.block_table, seq_lens=p.seq_lens.astype(np.int64))
    refused("ExceedsPlan", "the call has 2 requests",
            store_for(p, DESCENT, max_requests=1).bind, pages, **arrays)
    refused("InvalidStride", "not laid out as kv_home_pages", p.run, DESCENT, decode=True,
            store=store)
    refused("InvalidShape", "cache.data", store.admit, pages,
            hip_attn.SelectionCache(p.plan(DESCENT, decode=True), 2, np.zeros(16, np.uint8)),
            **arrays)
    refused("InvalidShape", "max_requests is 0", store_for, p, DESCENT, max_requests=0)
    refused("OutOfMemory", "the system has no", hip_attn.HostMemory, 1 << 62)
    with pytest.raises(TypeError, match="config is of type str"):
        store_for(p, "landmark")
    with pytest.raises(TypeError, match="cache is for a store"):
        hip_attn.append_kv(pages, p.q, p.q, slot_mapping=p.seq_lens,
                           cache=hip_attn.SelectionCache(p.plan(DESCENT, decode=True), 2))
    with pytest.raises(TypeError, match="slots is for a cache"):
        hip_attn.append_kv(pages, p.q, p.q, slot_mapping=p.seq_lens, slots=p.seq_lens)


def has_gpu():
    try:
        hip_attn.check_device("cuda")
    except hip_attn.Error:
        return False
    return True


@pytest.mark.skipif(not has_gpu(), reason="no GPU, or no CUDA")
@pytest.mark.parametrize("apart", [False, True])
def test_steps_on_a_gpu_are_those_of_a_cache_on_it(apart):
    torch = pytest.importorskip("torch")
    p = problem([1, 1], [900, 700], "float16", page_size=8)
    home, pages = in_home(p, "cuda")
    assert home.__dlpack_device__()[0] == 3
    resident = hip_attn.KvPages(*(torch.from_numpy(x).cuda() for x in (p.k, p.v)))
    arrays = {name: torch.from_numpy(array).cuda() for name, array in p.arrays().items()}
    q = torch.from_numpy(p.q).cuda()
    store_shape = dict(num_kv_heads=2, head_dim=64, max_seq_len=900, max_requests=2,
                       dtype="float16", device="cuda", budget_bytes=1 << 22)
    store_plan = hip_attn.plan_kv_store(DESCENT, **store_shape)
    with pytest.raises(hip_attn.Error, match=str(store_plan.least_budget)) as refused:
        hip_attn.plan_kv_store(DESCENT, **{**store_shape, "budget_bytes": 1})
    assert refused.value.status == "BudgetTooSmall"
    memory = torch.full((store_plan.memory_bytes,), 0x7f, dtype=torch.uint8, device="cuda")
    store = hip_attn.KvStore(store_plan, memory)
    store.clear()
    lengths = arrays["seq_lens"]
    store.bind(pages, block_table=arrays["block_table"], seq_lens=lengths)
    plan = p.plan(DESCENT, decode=True, device="cuda")
    workspace = hip_attn.Workspace(
        torch.empty(plan.workspace_bytes, dtype=torch.uint8, device="cuda"))
    caches = [
        hip_attn.SelectionCache(plan, 2, torch.zeros(
            2 * plan.selection_cache_slot_bytes, dtype=torch.uint8, device="cuda"))
        for _ in range(2)
    ]
    ones = torch.arange(3, dtype=torch.int32, device="cuda")
    slots = torch.tensor([int(p.block_table[b, (n - 1) // 8]) * 8 + (n - 1) % 8
                          for b, n in enumerate(p.seq_lens)], dtype=torch.int64, device="cuda")
    for step in range(6):
        new_k, new_v = torch.randn(2, 2, 2, 64, device="cuda").half()
        hip_attn.append_kv(resident, new_k, new_v, slot_mapping=slots)
        hip_attn.append_kv(
            pages, new_k, new_v, slot_mapping=slots, block_table=arrays["block_table"],
            seq_lens=lengths, cu_seqlens=ones, store=store, cache=None if apart else caches[1])
        refresh_from = torch.full((2,), 2 * (step % 2), dtype=torch.int32, device="cuda")
        outs = []
        for at, cache, with_store in ((resident, caches[0], None), (pages, caches[1], store)):
            out = torch.full_like(q, float("nan"))
            hip_attn.decode(plan, workspace, q, at, **arrays, out=out, cache=cache,
                            refresh_from=refresh_from, store=with_store)
            outs.append(out)
        assert torch.equal(*outs)
        if apart:
            store.admit(pages, caches[1], block_table=arrays["block_table"], seq_lens=lengths)
    assert store.counters().hits + store.counters().misses > 0
