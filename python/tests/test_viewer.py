"""The viewer's page: its data are the numbers that numpy computes."""

import pathlib

import numpy as np
import pytest
import view_page
from view_page import DIM, LANDMARK, TOKENS, arrays, tokens, write

from hip_attn import Config, viewer


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("viewer") / "view.html"
    assert write(path) == path.stat().st_size
    return path


def test_the_page_holds_queries_keys_and_texts_as_given(page):
    data, (q, k) = view_page.read(page), arrays()
    assert (data["format"], data["title"], data["tokens"]) == (1, "a <b> title", TOKENS)
    assert data["marks"] == [{"label": "</script> & é", "query": 450, "key": 100}]
    assert data["scale"] == pytest.approx(DIM**-0.5)
    ends = data["text"]["ends"]
    texts = [bytes(part) for part in np.split(data["text"]["bytes"], ends[:-1])]
    assert texts == [t.encode() if isinstance(t, str) else t for t in tokens()]
    first, second, dense = data["layers"]
    assert [entry["head"] for entry in first["heads"]] == [0, 1, 2, 3]
    assert [entry["head"] for entry in second["heads"]] == [1]
    for entry in first["heads"]:
        np.testing.assert_array_equal(entry["queries"], q[:, entry["head"]].astype(np.float16))
    for entry in first["kv_heads"]:
        np.testing.assert_array_equal(entry["keys"], k[:, entry["kv_head"]].astype(np.float16))
    assert [entry["kv_head"] for entry in dense["kv_heads"]] == [0, 1]


def test_masses_are_those_of_attention_in_float64(page):
    data = view_page.read(page)
    for layer in data["layers"]:
        for head in layer["heads"]:
            (keys,) = (e["keys"] for e in layer["kv_heads"] if e["kv_head"] == head["kv_head"])
            mass, lse = view_page.true_mass(data, head, keys)
            np.testing.assert_allclose(head["lse"], lse, rtol=1e-5)
            attended = view_page.attended_keys(layer, head["kv_head"], TOKENS)
            covered = (mass * attended).sum(axis=1)
            np.testing.assert_allclose(head["covered"], covered, rtol=1e-4)
            assert layer["covered"][head["head"]] == pytest.approx(covered.mean(), rel=1e-4)
            assert (covered.mean() < 0.9) == (layer["layer"] != 6)
            # Cell by cell: a query block by cell_keys keys, up to the block's last row.
            cells, sparse = [], []
            for first in range(0, TOKENS, layer["block_q"]):
                end = min(TOKENS, first + layer["block_q"])
                for left in range(0, end, layer["cell_keys"]):
                    cell = slice(first, end), slice(left, left + layer["cell_keys"])
                    cells.append(mass[cell].sum(axis=1).mean())
                    if attended[cell].any():
                        share = (mass * attended)[cell].sum(axis=1) / covered[first:end]
                        sparse.append(share.mean())
            np.testing.assert_allclose(head["cells"], cells, rtol=1e-3, atol=1e-7)
            np.testing.assert_allclose(head["attended"], sparse, rtol=1e-3, atol=1e-7)


def test_a_selection_that_is_given_is_the_one_shown(tmp_path, page):
    q, k = arrays()
    selected = viewer.select(q, k, LANDMARK)
    assert (selected.counts[-1] == 48 // 8).all()
    texts = tokens()
    for name, selection in (("searched", None), ("given", selected)):
        layer = viewer.Layer(2, q, k, LANDMARK, selection=selection)
        viewer.write_html(tmp_path / name, texts, [layer])
    assert (tmp_path / "searched").read_bytes() == (tmp_path / "given").read_bytes()
    earlier = selected._replace(counts=selected.counts // 2)
    viewer.write_html(tmp_path / "half", texts, [viewer.Layer(2, q, k, LANDMARK, earlier)])
    covered = [view_page.read(tmp_path / n)["layers"][0]["covered"][0] for n in ("given", "half")]
    assert covered[1] < covered[0]


def test_what_does_not_fit_together_is_refused(tmp_path):
    q, k = arrays()
    path = tmp_path / "view.html"
    blocks, counts, starts = viewer.select(q, k, LANDMARK)

    def refused(message, texts=None, **changes):
        layer = {"number": 1, "q": q, "k": k, "config": LANDMARK, **changes}
        with pytest.raises(ValueError, match=message):
            viewer.write_html(path, tokens() if texts is None else texts, [viewer.Layer(**layer)])

    refused("q has 500 rows; there are 3 tokens", texts=["a", "b", "c"])
    refused("tokens is empty", texts=[])
    refused("layer 1: q has 2 dimensions", q=q[0])
    refused("head dims 64 and 60", k=k[:, :, :60])
    refused("4 query heads do not share 3 KV heads", k=np.repeat(k, 2, axis=1)[:, :3])
    refused("heads has 4; it has heads 0 to 3", heads=[4])
    refused("beyond the range of float16", q=q * 1e5)
    refused("a window alone", config=Config.preset("sliding_window", window=8))
    refused(r"selection.counts has shape \(31, 2\)", selection=(blocks, counts[:-1], starts))
    refused("expected ascending blocks of 8 keys", selection=(blocks[:, :, ::-1], counts, starts))
    refused("expected ascending blocks of 8 keys", selection=(blocks, counts, starts + 1))
    with pytest.raises(ValueError, match="layers is empty"):
        viewer.write_html(path, tokens(), [])
    with pytest.raises(ValueError, match="must be at or before the query"):
        write(path, marks=[viewer.Mark("later", 3, 4)])
    assert not path.exists()


def test_the_page_is_safe_without_a_network(page):
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert "src=" not in text.split("<!-- hip_attn view data -->")[0].replace("default-src=", "")
    assert "http://" not in text and "https://" not in text


def test_the_package_has_the_page():
    page = pathlib.Path(viewer.__file__).parent / "viewer.html"
    assert page.read_text(encoding="utf-8").count("<!-- hip_attn view data -->") == 1
