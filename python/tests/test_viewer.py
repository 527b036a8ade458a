"""The viewer's page: its data are the numbers that numpy computes, and a browser shows them."""

import pathlib

import chromium
import numpy as np
import pytest
import view_page

import hip_attn
from hip_attn import Config, Stage, viewer

TOKENS, Q_HEADS, KV_HEADS, DIM = 500, 4, 2, 64
LANDMARK = Config(
    sink=16,
    window=32,
    block_q=16,
    stages=(
        Stage(16, 128, 4, "landmark", "softmax_sum"),
        Stage(8, 48, 4, "every_key", "softmax_sum"),
    ),
)
LARGE_BLOCKS = Config(sink=32, window=40, block_q=64, stages=(Stage(32, 96),))
# Characters of several bytes, one that two tokens share, and what would end the page's elements.
TEXTS = ["a ", "\n", "é".encode()[:1], "é".encode()[1:], "</script>", "<!--", "永"]


def arrays(seed=3):
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((TOKENS, Q_HEADS, DIM)).astype(np.float32) * 2
    k = rng.standard_normal((TOKENS, KV_HEADS, DIM)).astype(np.float32) * 2
    return q, k


def tokens():
    return [f"t{i} " if i % 3 else TEXTS[i // 3 % len(TEXTS)] for i in range(TOKENS)]


def write(path, **changes):
    q, k = arrays()
    layers = [
        viewer.Layer(2, q, k, LANDMARK),
        viewer.Layer(5, k, q[:, :1], LARGE_BLOCKS, heads=[1]),
        viewer.Layer(6, q, k, Config.preset("dense"), heads=[0, 3]),
    ]
    marks = [viewer.Mark("</script> & é", 450, 100)]
    arguments = {"title": "a <b> title", "attention": "landmark", "marks": marks, **changes}
    return viewer.write_html(path, arguments.pop("tokens", tokens()), layers, **arguments)


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


# ---- In a browser -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    if chromium.find() is None:
        pytest.skip(chromium.SKIPPED)
    with chromium.Page() as opened:
        yield opened


@pytest.fixture
def opened(browser, page):
    """The page at layer 2, head 3, seen whole; problems are failures."""
    browser.problems.clear()
    browser.open(page, "#layer=2&head=3")
    idle(browser)
    yield browser
    assert browser.problems == []
    assert [url.split("#")[0] for url in browser.requests] == [page.as_uri()]


def idle(browser):
    browser.wait("!hipView.stale && !hipView.motion && hipView.store.wanted.length === 0")


def pixel(browser, query, key, pane="dense"):
    """Where a query and a key are in the window."""
    return browser.run(
        f"""(() => {{
          const box = document.getElementById("{pane}").getBoundingClientRect(), view = hipView.view;
          return [box.left + MARGIN.left + view.px({key} + 0.5), box.top + MARGIN.top + view.py({query} + 0.5)];
        }})()"""
    )


def colour(browser, query, key, pane):
    return browser.run(
        f"""(() => {{
          const pane = hipView.panes[{["dense", "sparse"].index(pane)}], view = hipView.view;
          const at = [MARGIN.left + view.px({key} + 0.5), MARGIN.top + view.py({query} + 0.5)];
          const [x, y] = at.map((place) => Math.floor(place * pane.ratio));
          const copy = new OffscreenCanvas(1, 1).getContext("2d");
          copy.drawImage(pane.canvas, x, y, 1, 1, 0, 0, 1, 1);
          return Array.from(copy.getImageData(0, 0, 1, 1).data).slice(0, 3);
        }})()"""
    )


def read_out(browser):
    return browser.run(
        """Object.assign({ text: document.getElementById("read-out-body").textContent },
          ...[...document.querySelectorAll("#read-out-body [data-query], #read-out-body [data-key], "
            + "#read-out-body dd, #read-out-body [data-state]")].map((e) => ({ ...e.dataset })))"""
    )


def reference(page, layer=2, head=3):
    data = view_page.read(page)
    (of,) = (entry for entry in data["layers"] if entry["layer"] == layer)
    (entry,) = (entry for entry in of["heads"] if entry["head"] == head)
    (keys,) = (e["keys"] for e in of["kv_heads"] if e["kv_head"] == entry["kv_head"])
    mass, _ = view_page.true_mass(data, entry, keys)
    return mass, view_page.attended_keys(of, entry["kv_head"], TOKENS)


def test_the_page_is_safe_without_a_network(page):
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert "src=" not in text.split("<!-- hip_attn view data -->")[0].replace("default-src=", "")
    assert "http://" not in text and "https://" not in text


def test_hover_says_the_numbers_and_the_text(opened, page):
    mass, attended = reference(page)
    seen = set()
    for query, key in ((450, 5), (450, 445), (450, 200), (451, 201), (300, 101), (60, 33), (100, 200)):
        opened.run(f"hipView.glide(hipView.view.centred({query}, {key}, 0.25))")
        idle(opened)
        opened.mouse("mouseMoved", *pixel(opened, query, key))
        says = read_out(opened)
        assert (int(says["query"]), int(says["key"])) == (query, key)
        token = tokens()[query]
        assert (token.strip() if isinstance(token, str) else "") in says["text"]
        seen.add(says["state"])
        if key > query:
            assert says["state"] == "after the query" and "mass" not in says
            continue
        assert (says["state"] != "not selected") == attended[query, key]
        covered = mass[query][attended[query]].sum()
        block = slice(key // 8 * 8, min(query + 1, key // 8 * 8 + 8))
        assert float(says["mass"]) == pytest.approx(mass[query, key], rel=1e-3)
        assert float(says["covered"]) == pytest.approx(covered, rel=1e-4)
        assert float(says["block"]) == pytest.approx(mass[query, block].sum(), rel=1e-3)
        sparse = mass[query, key] / covered if attended[query, key] else 0
        assert float(says["sparse"]) == pytest.approx(sparse, rel=1e-3)
        first = query // 16 * 16
        mean = mass[first : first + 16, key // 8 * 8 : key // 8 * 8 + 8].sum(axis=1).mean()
        assert float(says["mean"]) == pytest.approx(mean, rel=2e-3)
    assert {"sink", "window", "not selected", "after the query"} <= seen


def test_attended_keys_are_blue_and_missed_keys_orange(opened, page):
    mass, attended = reference(page)
    for wanted in (True, False):
        shown = np.where(attended == wanted, mass, 0)
        query, key = map(int, np.unravel_index(shown[:, 48:].argmax(), shown[:, 48:].shape))
        key += 48
        opened.run(f"hipView.glide(hipView.view.centred({query}, {key}, 0.05))")
        opened.run(f"hipView.point({query}, Math.max(0, {key} - 3))")
        idle(opened)
        # A quarter of the cell off its middle, where the cross is.
        red, _, blue = colour(opened, query - 0.25, key + 0.25, "dense")
        assert (blue > red + 40) if wanted else (red > blue + 40)
        assert (colour(opened, query - 0.25, key + 0.25, "sparse") == [255, 255, 255]) == (not wanted)


def test_wheel_and_keys_zoom_from_all_to_one_key(opened):
    whole = opened.run("hipView.view.scale")
    assert whole * opened.run("Math.min(hipView.view.width, hipView.view.height)") >= TOKENS
    x, y = map(round, pixel(opened, 400, 100))
    opened.mouse("mouseMoved", x, y)
    under = opened.run("[hipView.cursor.query, hipView.cursor.key]")
    for _ in range(12):
        opened.mouse("mouseWheel", x, y, deltaX=0, deltaY=-300)
    idle(opened)
    assert opened.run("hipView.view.scale") == pytest.approx(1 / 64)  # 64 pixels a key
    for away in (99, 0):
        opened.mouse("mouseMoved", x + away, y)
    assert opened.run("[hipView.cursor.query, hipView.cursor.key]") == under
    opened.key("0")
    idle(opened)
    assert opened.run("hipView.view.scale") == pytest.approx(whole)
    opened.key("1")
    idle(opened)
    assert opened.run("hipView.view.scale") == pytest.approx(1 / 40)


def test_the_keyboard_moves_a_pinned_cursor_and_changes_heads(opened):
    opened.run("hipView.point(200, 100, true); document.getElementById('dense').focus()")
    for key in ("ArrowLeft", "ArrowDown", "ArrowDown"):
        opened.key(key)
    assert opened.run("hipView.cursor") == {"query": 202, "key": 99}
    assert "query 202" in opened.run("document.getElementById('live').textContent")
    opened.mouse("mouseMoved", *pixel(opened, 300, 50))
    assert opened.run("hipView.cursor.query") == 202
    opened.key("]")
    assert opened.run("[hipView.store.head.layer, hipView.store.head.head]") == [5, 1]
    opened.key("Escape")
    opened.mouse("mouseMoved", *pixel(opened, 300, 50))
    assert opened.run("hipView.cursor.query") == 300


def test_dragging_moves_the_view(opened):
    opened.run("hipView.glide(hipView.view.centred(250, 100, 0.5))")
    idle(opened)
    x, y = pixel(opened, 250, 100)
    before = opened.run("[hipView.view.x, hipView.view.y]")
    opened.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
    opened.mouse("mouseMoved", x + 30, y + 10, buttons=1)
    opened.mouse("mouseMoved", x + 60, y + 20, buttons=1)
    opened.mouse("mouseReleased", x + 60, y + 20, button="left", clickCount=1)
    after = opened.run("[hipView.view.x, hipView.view.y]")
    assert before[0] - after[0] == pytest.approx(60 * 0.5) and before[1] - after[1] == pytest.approx(20 * 0.5)


def test_the_address_keeps_the_view(opened, page):
    opened.run("hipView.goTo(321, 123, 0.125)")
    idle(opened)
    opened.wait("location.hash.includes('query=321')")
    kept = opened.run("location.hash"), opened.run("[hipView.view.x, hipView.view.y, hipView.view.scale]")
    opened.open(page, kept[0])
    idle(opened)
    assert opened.run("hipView.cursor") == {"query": 321, "key": 123} and opened.run("hipView.pinned")
    again = opened.run("[hipView.view.x, hipView.view.y, hipView.view.scale]")
    assert again == pytest.approx(kept[1], abs=1e-3)
    assert opened.run("hipView.store.head.head") == 3


def test_lists_say_where_a_query_looks_and_what_is_missed(opened, page):
    mass, attended = reference(page)
    opened.run("hipView.point(450, 100, true)")
    titles = opened.run("[...document.querySelectorAll('#top-keys button')].map((b) => b.title)")
    best = np.argsort(-mass[450])[:10]
    assert [int(title.split()[1].rstrip(":")) for title in titles] == best.tolist()
    for key, title in zip(best, titles):
        assert title.endswith("not selected") == (not attended[450, key])
    missed = np.pad(mass * ~attended, ((0, 0), (0, 4))).reshape(TOKENS, -1, 8).sum(axis=2)
    blocks = np.array([missed[n : n + 16].mean(axis=0) for n in range(0, TOKENS, 16)])
    title = opened.run("document.querySelector('#missed button').title")
    n, block = np.unravel_index(blocks.argmax(), blocks.shape)
    assert title == f"query block {n}, keys {8 * block} to {8 * block + 7}"
    covered = 100 * (mass * attended).sum(axis=1).mean()
    assert f"{covered:.1f} %" in opened.run("document.getElementById('headline').textContent")
    assert opened.run("document.querySelectorAll('#marks button').length") == 1


def test_themes_differ_and_fit_narrow_windows(browser, page):
    browser.open(page)
    idle(browser)
    light = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.run("document.getElementById('theme').click()")
    assert browser.run("getComputedStyle(document.body).backgroundColor") != light
    browser.call("Emulation.setDeviceMetricsOverride", width=500, height=800, deviceScaleFactor=2, mobile=True)
    try:
        browser.wait("document.documentElement.scrollWidth <= 500 && hipView.panes[0].ratio === 2")
        idle(browser)
    finally:
        browser.call("Emulation.setDeviceMetricsOverride", width=1440, height=900, deviceScaleFactor=1, mobile=False)
    assert browser.problems == []


def test_the_package_has_the_page():
    page = pathlib.Path(viewer.__file__).parent / "viewer.html"
    assert page.read_text(encoding="utf-8").count("<!-- hip_attn view data -->") == 1
    assert hip_attn.__name__ == "hip_attn"
