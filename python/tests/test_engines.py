"""The backends of docs/guide/engines.md, against stand-ins for what they take of their engines.

The stand-ins have the names and shapes of vLLM 0.33.0 and SGLang 0.5.23. Skipped without torch.
"""

import pathlib
import re
import sys
import types

import numpy as np
import pytest
from reference import dense_attention, problem

import hip_attn

torch = pytest.importorskip("torch")

import hip_attn.torch  # noqa: E402

PAGE = (pathlib.Path(__file__).resolve().parents[2] / "docs/guide/engines.md").read_text()
DENSE = hip_attn.Config.preset("dense")


def backend_of(engine, modules, monkeypatch):
    """The names that the page's code for an engine defines, with these modules to import from."""
    (code,) = re.findall(rf"^```python {engine}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for name, attributes in modules.items():
        parts = name.split(".")
        for i in range(1, len(parts)):
            parent = ".".join(parts[:i])
            if parent not in sys.modules:
                monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
        # `from package import module` looks here first.
        monkeypatch.setattr(sys.modules[".".join(parts[:-1])], parts[-1], module, raising=False)
    names = {}
    exec(compile(code, f"{engine} of docs/guide/engines.md", "exec"), names)
    return names


def attentions(p):
    return {
        "decode": hip_attn.torch.Attention(p.plan(DENSE, decode=True)),
        "prefill": hip_attn.torch.Attention(p.plan(DENSE)),
    }


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))


# vLLM


class TritonAttentionBackend:
    pass


class TritonAttentionImpl:
    """What the backend's own takes from its __init__."""

    def __init__(self, head_size, scale, logits_soft_cap=None, sinks=None):
        self.head_size = head_size
        self.scale = scale
        self.logits_soft_cap = logits_soft_cap or 0
        self.sinks = sinks


class AttentionBackendEnum:
    CUSTOM = "CUSTOM"


@pytest.fixture
def vllm(monkeypatch):
    registered = {}
    names = backend_of(
        "vllm",
        {
            "vllm.v1.attention.backends.triton_attn": {
                "TritonAttentionBackend": TritonAttentionBackend,
                "TritonAttentionImpl": TritonAttentionImpl,
            },
            "vllm.v1.attention.backends.registry": {
                "AttentionBackendEnum": AttentionBackendEnum,
                "register_backend": registered.__setitem__,
            },
        },
        monkeypatch,
    )
    names["register"]()
    assert registered == {"CUSTOM": "your_package.HipAttnBackend"}
    return names["HipAttnBackend"]


def vllm_call(p, padding):
    """The arguments of forward: kv_cache [num_blocks, Hk, block_size, 2 * D], rows padded."""
    cache = torch.cat([tensor(p.k.swapaxes(1, 2)), tensor(p.v.swapaxes(1, 2))], -1)
    query = torch.cat([tensor(p.q), torch.full((padding, *p.q.shape[1:]), float("nan"))])
    metadata = types.SimpleNamespace(
        num_actual_tokens=len(p.q),
        max_query_len=int(np.diff(p.cu_seqlens_q).max()),
        query_start_loc=tensor(p.cu_seqlens_q),
        seq_lens=tensor(p.seq_lens),
        block_table=tensor(p.block_table),
    )
    output = torch.full_like(query, -7)
    return (None, query, None, None, cache, metadata, output)


@pytest.mark.parametrize("q_lens", [[1, 3, 1], [20, 1, 33]], ids=["decode", "prefill"])
@pytest.mark.parametrize("with_sinks", [False, True])
def test_the_backend_for_vllm_attends_to_its_cache(vllm, q_lens, with_sinks):
    p = problem(q_lens, [300, 45, 70])
    sinks = np.array([0.5, -2.0, 3.0, 0.0], np.float32) if with_sinks else None
    impl = vllm.get_impl_cls()(64, 0.125, sinks=None if sinks is None else torch.tensor(sinks))
    vars(impl).update(attentions(p))
    call = vllm_call(p, padding=2)
    output = impl.forward(*call, output_scale=None, output_block_scale=None)
    assert output is call[-1] and (output[len(p.q) :] == -7).all()
    expected = dense_attention(p, sinks=sinks)[0]
    np.testing.assert_allclose(output[: len(p.q)].numpy(), expected, atol=2e-5)


def test_the_backend_for_vllm_is_profiled_without_a_cache(vllm):
    output = torch.full((3, 4, 64), float("nan"))
    impl = vllm.get_impl_cls()(64, 0.125)
    assert not impl.forward(None, output, None, None, None, None, output).any()
    assert vllm.get_name() == "CUSTOM"


# SGLang


class Mode:
    def __init__(self, extend):
        self.is_extend = lambda: extend


class AttentionBackend:
    """Its forward chooses by the mode."""

    def forward(self, q, k, v, layer, forward_batch, save_kv_cache=True, **others):
        is_extend = forward_batch.forward_mode.is_extend()
        return (self.forward_extend if is_extend else self.forward_decode)(
            q, k, v, layer, forward_batch, save_kv_cache=save_kv_cache, **others
        )


class Pool:
    """Slots of one token, [slots, Hk, D]."""

    def __init__(self, k, v):
        self.buffers = k, v

    def set_kv_buffer(self, layer, loc_info, cache_k, cache_v):
        for buffer, new in zip(self.buffers, (cache_k, cache_v)):
            buffer[loc_info] = new

    def get_key_buffer(self, layer_id):
        return self.buffers[0]

    def get_value_buffer(self, layer_id):
        return self.buffers[1]


@pytest.mark.parametrize("q_lens", [[1, 1, 1], [20, 1, 33]], ids=["decode", "extend"])
def test_the_backend_for_sglang_writes_and_attends_to_its_pool(monkeypatch, q_lens):
    backends, choices = {}, []
    names = backend_of(
        "sglang",
        {
            "sglang.srt.layers.attention.base_attn_backend": {"AttentionBackend": AttentionBackend},
            "sglang.srt.layers.attention.attention_registry": {
                "register_attention_backend": lambda name: lambda f: backends.update({name: f})
            },
            "sglang.srt.arg_groups.choices": {"add_attention_backend_choices": choices.extend},
        },
        monkeypatch,
    )
    names["register"]()
    assert choices == ["hip_attn"]

    p = problem(q_lens, [300, 45, 70], page_size=1)
    slots = [p.block_table[b, :n] for b, n in enumerate(p.seq_lens)]
    new = tensor(np.concatenate([s[-n:] for s, n in zip(slots, q_lens)])).long()
    k, v = (tensor(x[:, 0]) for x in (p.k, p.v))
    new_k, new_v = k[new], v[new]
    k[new] = v[new] = float("nan")
    # The batch's rows of the pool of requests, in another order than there.
    req_to_token = torch.full((6, 400), -1, dtype=torch.int32)
    req_pool_indices = torch.tensor([4, 0, 3])
    req_to_token[req_pool_indices, : p.block_table.shape[1]] = tensor(p.block_table)
    backend = backends["hip_attn"](
        types.SimpleNamespace(
            token_to_kv_pool=Pool(k, v),
            req_to_token_pool=types.SimpleNamespace(req_to_token=req_to_token),
        )
    )
    vars(backend).update(attentions(p))
    batch = types.SimpleNamespace(
        forward_mode=Mode(max(q_lens) > 1),
        req_pool_indices=req_pool_indices,
        seq_lens=tensor(p.seq_lens).long(),
        extend_seq_lens=torch.tensor(q_lens, dtype=torch.int32) if max(q_lens) > 1 else None,
        out_cache_loc=new,
    )
    layer = types.SimpleNamespace(
        tp_q_head_num=4, head_dim=64, layer_id=2, scaling=0.125, logit_cap=0.0
    )
    backend.init_forward_metadata(batch)
    out = backend.forward(tensor(p.q).flatten(1), new_k, new_v, layer, batch)
    assert out.shape == (len(p.q), 4 * 64)
    expected = dense_attention(p)[0]
    np.testing.assert_allclose(out.view(-1, 4, 64).numpy(), expected, atol=2e-5)
