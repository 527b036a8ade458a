"""JAX: arrays as inputs. Skipped where there is no JAX."""

import numpy as np
import pytest
from reference import nan_like, problem

import hip_attn

jnp = pytest.importorskip("jax.numpy")


def test_arrays_are_inputs():
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
