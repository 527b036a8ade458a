"""JAX: arrays as inputs. Skipped where there is no JAX."""

import os

import numpy as np
import pytest
from reference import nan_like, problem

import hip_attn

# Otherwise JAX takes most of a GPU's memory, which other tests need.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
jax = pytest.importorskip("jax")
jnp = pytest.importorskip("jax.numpy")


@pytest.fixture
def on_cpu():
    with jax.default_device(jax.devices("cpu")[0]):
        yield


def test_arrays_are_inputs(on_cpu):
    p = problem([1, 2], [40, 30])
    dense = hip_attn.Config.preset("dense")
    plan = p.plan(dense, decode=True)
    out = nan_like(p.q)
    hip_attn.decode(
        plan,
        hip_attn.Workspace(plan.workspace_bytes),
        jnp.asarray(p.q),
        hip_attn.KvPages(jnp.asarray(p.k), jnp.asarray(p.v)),
        **{name: jnp.asarray(array) for name, array in p.arrays().items()},
        out=out,
    )
    np.testing.assert_array_equal(out, p.run(dense, decode=True))
    with pytest.raises(hip_attn.Error, match="q.dtype is bfloat16"):
        hip_attn.decode(
            plan,
            hip_attn.Workspace(plan.workspace_bytes),
            jnp.asarray(p.q).astype(jnp.bfloat16),
            p.pages(),
            **p.arrays(),
            out=out,
        )


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="JAX has no GPU")
@pytest.mark.skipif(not hip_attn.built_with_cuda(), reason="no CUDA build")
def test_arrays_on_a_gpu_are_inputs():
    torch = pytest.importorskip("torch")  # arrays of JAX are not written to
    p = problem([1, 2], [40, 30], "float16")
    dense = hip_attn.Config.preset("dense")
    plan = p.plan(dense, decode=True, device="cuda")
    out = torch.full(p.q.shape, float("nan"), dtype=torch.float16, device="cuda")
    workspace = torch.empty(plan.workspace_bytes, dtype=torch.uint8, device="cuda")
    hip_attn.decode(
        plan,
        hip_attn.Workspace(workspace),
        jnp.asarray(p.q),
        hip_attn.KvPages(jnp.asarray(p.k), jnp.asarray(p.v)),
        **{name: jnp.asarray(array) for name, array in p.arrays().items()},
        out=out,
    )
    np.testing.assert_allclose(out.cpu().numpy(), p.run(dense, decode=True), rtol=0, atol=2e-3)
