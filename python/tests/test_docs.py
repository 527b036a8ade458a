"""The Python of the documents runs."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/guide/python.md").read_text()
TRANSFORMERS = (ROOT / "docs/guide/transformers.md").read_text()
VIEWER = (ROOT / "docs/guide/viewer.md").read_text()
BLOCK = re.compile(r"^```python( torch)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(blocks, page="python.md"):
    names = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"block {number} of docs/guide/{page}", "exec"), names)
    return names


def test_the_guide_runs():
    names = run(code for torch, code in BLOCK.findall(GUIDE) if not torch)
    for name in ("out", "attended", "lse"):
        assert abs(names[name]).max() < 100
    assert names["rows"].any()
    assert names["larger"].stages[-1].keep == 4096


def test_the_guide_runs_with_torch():
    pytest.importorskip("torch")
    names = run(code for _, code in BLOCK.findall(GUIDE))
    assert names["result"].isfinite().all()


@pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated")
def test_the_guide_to_transformers_runs(monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    monkeypatch.chdir(ROOT)
    names = run((code for _, code in BLOCK.findall(TRANSFORMERS)), "transformers.md")
    assert names["logits"].isfinite().all()
    assert names["tokens"].shape[1] > names["asked"].shape[1] and len(names["answers"]) == 2


def test_the_guide_to_the_viewer_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = run((code for torch, code in BLOCK.findall(VIEWER) if not torch), "viewer.md")
    assert (tmp_path / "view.html").stat().st_size == names["nbytes"]


def test_the_guide_to_the_viewer_runs_with_transformers(monkeypatch, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    for name in ("examples", "README.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    run((code for _, code in BLOCK.findall(VIEWER)), "viewer.md")
    assert (tmp_path / "model.html").stat().st_size > 1 << 20


def test_the_readme_has_the_quickstart_of_the_guide():
    readme = (ROOT / "README.md").read_text()
    for text in (GUIDE, readme):
        assert text.count("<!-- snippet: python-quickstart -->") == 1
    (quickstart,) = (code for _, code in BLOCK.findall(readme))
    assert quickstart == BLOCK.findall(GUIDE)[0][1]
