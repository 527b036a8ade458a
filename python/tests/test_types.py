"""Types: the stub of the extension and the annotations of the package. Skipped where mypy is absent."""

import pathlib
import shutil
import subprocess
import sys

import pytest

import hip_attn

PACKAGE = pathlib.Path(hip_attn.__file__).parent
USER = """
import numpy as np
import hip_attn

config = hip_attn.Config(window=64, stages=(hip_attn.Stage(8, 64),))
plan = hip_attn.plan_decode(config, num_q_heads=1, num_kv_heads=1, head_dim=64, max_seq_len=9)
q = np.zeros((1, 1, 64), np.float16)
lens = np.zeros(2, np.int32)
pages = hip_attn.KvPages(q, q)
workspace = hip_attn.Workspace(plan.workspace_bytes)
hip_attn.decode(plan, workspace, q, pages, seq_lens=lens, cu_seqlens_q=lens, out=q, stream=7)
cells = hip_attn.Cells().requests(
    key_sequences=lens, key_positions=lens, key_pages=lens, row_sequences=lens, row_positions=lens)
hip_attn.decode(plan, workspace, q, pages, seq_lens=cells.seq_lens, cu_seqlens_q=lens, out=q)
np.asarray(cells.rows)
reveal_type(plan.workspace_bytes)
hip_attn.decode(plan, workspace, "q", pages, seq_lens=lens, cu_seqlens_q=lens, out=q)
"""


def test_the_package_type_checks_and_a_user_gets_types(tmp_path):
    pytest.importorskip("mypy")
    # A copy, away from the packages that are installed beside it, and without what takes torch.
    of_torch = "torch.py", "transformers.py", "_paged_cache.py", "_requests.py"
    ignore = shutil.ignore_patterns(*of_torch, "*.so")
    shutil.copytree(PACKAGE, tmp_path / "hip_attn", ignore=ignore)
    (tmp_path / "user.py").write_text(USER)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary"]
    result = subprocess.run(
        [*command, "--cache-dir=/dev/null", "hip_attn", "user.py"],
        cwd=tmp_path, capture_output=True, text=True,
    )
    lines = result.stdout.splitlines()
    assert len(lines) == 2, result.stdout + result.stderr
    assert lines[0].endswith('user.py:16: note: Revealed type is "int"')
    assert "user.py:17: error" in lines[1] and '"str"' in lines[1]


def test_what_is_public_has_a_docstring():
    assert (PACKAGE / "py.typed").exists() and (PACKAGE / "_core.pyi").exists()
    for name in hip_attn.__all__:
        if name != "__version__":
            assert getattr(hip_attn, name).__doc__, name
