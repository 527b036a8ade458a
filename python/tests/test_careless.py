"""Careless input gets the message of the library, or of the package where the library cannot see it."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from reference import nan_like, problem

import hip_attn
from hip_attn import Config

DENSE = Config.preset("dense")


class Call:
    """A valid call of decode, of which a test spoils one argument."""

    def __init__(self):
        self.problem = problem([1, 2], [40, 30])
        self.plan = self.problem.plan(DENSE, decode=True)
        self.positional = {
            "plan": self.plan,
            "workspace": hip_attn.Workspace(self.plan.workspace_bytes),
            "q": self.problem.q,
            "pages": self.problem.pages(),
        }
        self.named = {**self.problem.arrays(), "out": nan_like(self.problem.q)}

    def run(self, **changes):
        positional = [changes.pop(name, value) for name, value in self.positional.items()]
        hip_attn.decode(*positional, **{**self.named, **changes})


@pytest.fixture
def call():
    call = Call()
    call.run()
    return call


def frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


REFUSED = {
    "None for q": ({"q": None}, "NullPointer", r"^q is null"),
    "None for the plan": ({"plan": None}, "NullPointer", "plan is null"),
    "None for pages": ({"pages": None}, "NullPointer", "kv is null"),
    "None for out": ({"out": None}, "NullPointer", "out is null"),
    "None for seq_lens": ({"seq_lens": None}, "NullPointer", "seq_lens is null"),
    "no workspace": ({"workspace": None}, "WorkspaceTooSmall", "workspace has 0 bytes"),
    "a small workspace": (
        {"workspace": hip_attn.Workspace(16)}, "WorkspaceTooSmall", "workspace has 16 bytes"),
    "float64": ({"q": np.zeros((3, 4, 64))}, "InvalidArgument", "q.dtype is float64"),
    "float16": ({"q": np.zeros((3, 4, 64), "f2")}, "InvalidArgument", "q.dtype is float16"),
    "lengths of 64 bits": (
        {"seq_lens": np.array([40, 30])}, "InvalidArgument", "seq_lens.dtype is int64"),
    "rank": ({"q": np.zeros((3, 256), "f4")}, "InvalidArgument", "q.ndim is 2"),
    "batch": ({"q": np.zeros((3, 1, 4, 64), "f4")}, "InvalidShape", r"q.shape\[0\] is 3"),
    "rows of a request": ({"q": np.zeros((2, 1, 4, 64), "f4")}, "InvalidLength", "request 1 2 rows"),
    "heads": ({"q": np.zeros((3, 6, 64), "f4")}, "InvalidShape", "q"),
    "rows": ({"q": np.zeros((4, 4, 64), "f4")}, "ExceedsPlan", "q"),
    "strides": (
        {"q": np.zeros((3, 64, 4), "f4").transpose(0, 2, 1)}, "InvalidStride", "q"),
    "backwards": ({"q": np.zeros((3, 4, 64), "f4")[:, ::-1]}, "InvalidStride", "q"),
    "misaligned": (
        {"q": np.zeros(3 * 4 * 64 + 1, "f4")[1:].reshape(3, 4, 64)}, "MisalignedPointer", "q"),
    "too long": ({"seq_lens": np.array([41, 30], "i4")}, "ExceedsPlan", "seq_lens"),
    "negative": ({"seq_lens": np.array([-1, 30], "i4")}, "InvalidLength", "seq_lens"),
    "no page": (
        {"block_table": np.array([[0, 1, 99], [3, 4, -1]], "i4")}, "InvalidPage", "block_table"),
    "scale": ({"scale": float("nan")}, "InvalidScalar", "scale"),
    "soft cap": ({"logit_softcap": 0.0}, "InvalidScalar", "logit_softcap"),
    "read-only out": (
        {"out": frozen(np.zeros((3, 4, 64), "f4"))}, "InvalidArgument", "out is read-only"),
    "read-only lse": (
        {"lse": frozen(np.zeros((3, 4), "f4"))}, "InvalidArgument", "lse is read-only"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_argument_is_named(call, name):
    changes, status, words = REFUSED[name]
    with pytest.raises(hip_attn.Error, match=words) as refused:
        call.run(**changes)
    assert refused.value.status == status


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"q": [[1.0]]}, "q is of type list"),
        ({"out": "text"}, "out is of type str"),
        ({"slots": np.zeros(2, "i4")}, "slots are for a cache"),
        ({"plan": 3}, "incompatible function arguments"),
        ({"pages": np.zeros(3)}, "incompatible function arguments"),
        ({"nothing": 1}, "incompatible function arguments"),
    ],
)
def test_what_is_no_array_is_a_type_error(call, changes, words):
    with pytest.raises(TypeError, match=words):
        call.run(**changes)


def test_out_may_not_be_q(call):
    with pytest.raises(hip_attn.Error) as refused:
        call.run(out=call.problem.q)
    assert refused.value.status == "Overlap"


def test_inputs_may_be_read_only(call):
    p = call.problem
    pages = hip_attn.KvPages(frozen(p.k), frozen(p.v))
    arrays = {name: frozen(array) for name, array in p.arrays().items()}
    expected = call.named["out"].copy()
    call.run(q=frozen(p.q), pages=pages, **arrays)
    np.testing.assert_array_equal(call.named["out"], expected)


def test_pages_and_selections_that_are_written_may_not_be_read_only(call):
    p = call.problem
    new = np.zeros((1, 2, 64), "f4")
    slots = np.zeros(1, "i8")
    with pytest.raises(hip_attn.Error, match="pages.v is read-only"):
        hip_attn.append_kv(hip_attn.KvPages(p.k, frozen(p.v)), new, new, slot_mapping=slots)
    counts = np.zeros((2, 2), "i4")
    selection = hip_attn.Selection(np.zeros((2, 2, 1), "i4"), frozen(counts), counts)
    with pytest.raises(hip_attn.Error, match="selection_out.counts is read-only"):
        call.run(selection_out=selection)


def test_appends_are_checked(call):
    pages = call.positional["pages"]
    new = np.zeros((1, 2, 64), "f4")
    slots = np.zeros(1, "i8")
    for changes, status in (
        ({"slot_mapping": np.array([9999])}, "InvalidSlot"),
        ({"slot_mapping": np.zeros(1, "i4")}, "InvalidArgument"),
        ({"slot_mapping": None}, "NullPointer"),
        ({"k": np.zeros((1, 3, 64), "f4")}, "InvalidShape"),
        ({"v": None}, "NullPointer"),
        ({"pages": None}, "NullPointer"),
    ):
        arguments = {"pages": pages, "k": new, "v": new, "slot_mapping": slots, **changes}
        with pytest.raises(hip_attn.Error) as refused:
            hip_attn.append_kv(**arguments)
        assert refused.value.status == status
    with pytest.raises(TypeError, match="landmarks and a store, which are None"):
        hip_attn.append_kv(pages, new, new, slot_mapping=slots, seq_lens=slots)
    with pytest.raises(hip_attn.Error) as refused:
        hip_attn.update_landmarks(None, pages, from_lens=None, to_lens=None)
    assert refused.value.status == "NullPointer"
    with pytest.raises(hip_attn.Error) as refused:
        hip_attn.merge_states(None, None, out=None)
    assert refused.value.status == "NullPointer"


def test_sink_logits_are_checked():
    out, lse, sinks = np.zeros((3, 4, 64), "f4"), np.zeros((3, 4), "f4"), np.zeros(4, "f4")
    for changes, status, words in (
        ({"sink_logits": None}, "NullPointer", "sink_logits is null"),
        ({"lse": None}, "NullPointer", "lse is null"),
        ({"sink_logits": np.zeros(3, "f4")}, "InvalidShape", r"sink_logits.sizes\[0\] is 3"),
        ({"sink_logits": np.zeros(4)}, "InvalidArgument", "sink_logits.dtype is float64"),
        ({"lse": np.zeros((2, 4), "f4")}, "InvalidShape", r"lse.sizes\[0\] is 2"),
        ({"out": frozen(out)}, "InvalidArgument", "out is read-only"),
        ({"lse": frozen(lse)}, "InvalidArgument", "lse is read-only"),
        ({"device": "cuda:77"}, "InvalidArgument", "device"),
    ):
        with pytest.raises(hip_attn.Error, match=words) as refused:
            hip_attn.add_sink_logits(
                **{"sink_logits": sinks, "out": out, "lse": lse, **changes})
        assert refused.value.status == status


def test_plans_are_checked(call):
    p = call.problem
    for changes, status in (
        ({"head_dim": 65}, "Unsupported"),
        ({"num_q_heads": 3}, "InvalidShape"),
        ({"max_seq_len": -1}, "InvalidShape"),
        ({"device": "cuda:77"}, "Unsupported"),
    ):
        with pytest.raises(hip_attn.Error) as refused:
            p.plan(DENSE, **changes)
        assert refused.value.status == status
    for changes in ({"dtype": "float64"}, {"cache_dtype": np.int8}, {"device": "gpu"}):
        with pytest.raises(ValueError):
            p.plan(DENSE, **changes)
    with pytest.raises(TypeError, match="hip_attn.Config"):
        p.plan("dense")
    assert p.plan(DENSE, dtype=np.float32).device == "cpu"
    plan = p.plan(DENSE, num_threads=2)
    plan.num_threads = 1
    assert plan.num_threads == 1
    with pytest.raises(hip_attn.Error):
        plan.num_threads = 3


def test_a_workspace_of_the_callers_is_contiguous_and_aligned(call):
    n = call.plan.workspace_bytes
    buffer = np.zeros(2 * n + 64, np.uint8)
    start = -buffer.ctypes.data % 16
    call.run(workspace=hip_attn.Workspace(buffer[start : start + n]))
    assert hip_attn.Workspace(np.zeros((3, 2), "f4")).nbytes == 24
    with pytest.raises(hip_attn.Error) as refused:
        call.run(workspace=hip_attn.Workspace(buffer[start + 1 : start + 1 + n]))
    assert refused.value.status == "MisalignedPointer"
    with pytest.raises(hip_attn.Error) as refused:
        hip_attn.Workspace(buffer[::2])
    assert refused.value.status == "InvalidStride"
    with pytest.raises(hip_attn.Error, match="read-only"):
        hip_attn.Workspace(frozen(buffer))
    for bad, error in ((None, TypeError), ("many", TypeError), (-1, ValueError)):
        with pytest.raises(error):
            hip_attn.Workspace(bad)
    with pytest.raises(TypeError, match="LandmarkLevel"):
        hip_attn.Landmarks([buffer])


def test_a_plan_of_the_other_operator_is_refused(call):
    prefill = call.problem.plan(DENSE)
    with pytest.raises(hip_attn.Error) as refused:
        call.run(plan=prefill)
    assert "plan" in str(refused.value)
    assert prefill.is_decode is False and call.plan.is_decode is True


def test_a_producer_from_before_dlpack_1_is_an_array(call):
    class Old:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, stream=None):
            return self.array.__dlpack__()

    expected = call.named["out"].copy()
    call.run(q=Old(call.problem.q))
    np.testing.assert_array_equal(call.named["out"], expected)


def test_a_producer_that_raises_raises(call):
    class Broken:
        def __dlpack__(self, **_):
            raise BufferError("not today")

    with pytest.raises(BufferError, match="not today"):
        call.run(q=Broken())


def test_arrays_are_given_back(call):
    q = call.problem.q
    before = sys.getrefcount(q)
    for _ in range(3):
        call.run()
        with pytest.raises(hip_attn.Error):
            call.run(seq_lens=None)
    assert sys.getrefcount(q) == before
    k = np.zeros((1, 16, 2, 64), "f4")
    before = sys.getrefcount(k)
    pages = hip_attn.KvPages(k, k)
    assert sys.getrefcount(k) > before
    del pages
    assert sys.getrefcount(k) == before


def test_threads_share_a_plan(call):
    p = call.problem
    expected = call.named["out"].copy()
    outs = [nan_like(p.q) for _ in range(4)]

    def run(out):
        workspace = hip_attn.Workspace(call.plan.workspace_bytes)
        for _ in range(20):
            call.run(workspace=workspace, out=out)

    threads = [threading.Thread(target=run, args=(out,)) for out in outs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for out in outs:
        np.testing.assert_array_equal(out, expected)


def test_other_threads_run_during_a_call():
    p = problem([2000], [2000], heads=(8, 2), head_dim=128)
    turns = 0
    done = threading.Event()

    def count():
        nonlocal turns
        while not done.is_set():
            turns += 1
            done.wait(0.001)

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    before = turns
    plan = p.plan(DENSE, num_threads=1)
    workspace = hip_attn.Workspace(plan.workspace_bytes)
    out = nan_like(p.q)
    start = turns
    hip_attn.prefill(plan, workspace, p.q, p.pages(), **p.arrays(), out=out)
    during = turns - start
    done.set()
    thread.join()
    assert before <= start and during >= 2


def test_what_takes_torch_says_so_where_it_is_absent():
    code = "import sys; sys.modules['torch'] = None; import hip_attn; import hip_attn.transformers"
    result = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True)
    message = "ImportError: hip_attn.transformers takes torch and transformers 5.0 or newer: "
    assert message in result.stderr
