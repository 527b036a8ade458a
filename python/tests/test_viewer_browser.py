"""The viewer's page in a headless browser: what it shows is what numpy computes of its data."""

import chromium
import numpy as np
import pytest
import view_page
from view_page import TOKENS, tokens, write

if chromium.find() is None:
    pytest.skip(chromium.SKIPPED, allow_module_level=True)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("viewer") / "view.html"
    assert write(path) == path.stat().st_size
    return path


@pytest.fixture(scope="module")
def browser():
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
          const box = document.getElementById("{pane}").getBoundingClientRect();
          const {{ view }} = hipView;
          return [
            box.left + MARGIN.left + view.px({key} + 0.5),
            box.top + MARGIN.top + view.py({query} + 0.5),
          ];
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
          ...[...document.querySelectorAll("#read-out-body *")].map((e) => ({ ...e.dataset })))"""
    )


def reference(page, layer=2, head=3):
    data = view_page.read(page)
    (of,) = (entry for entry in data["layers"] if entry["layer"] == layer)
    (entry,) = (entry for entry in of["heads"] if entry["head"] == head)
    (keys,) = (e["keys"] for e in of["kv_heads"] if e["kv_head"] == entry["kv_head"])
    mass, _ = view_page.true_mass(data, entry, keys)
    return mass, view_page.attended_keys(of, entry["kv_head"], TOKENS)


def test_hover_says_the_numbers_and_the_text(opened, page):
    mass, attended = reference(page)
    seen = set()
    for query, key in (
        (450, 5),
        (450, 445),
        (450, 200),
        (451, 201),
        (300, 101),
        (60, 33),
        (100, 200),
    ):
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
        assert (colour(opened, query - 0.25, key + 0.25, "sparse") == [255, 255, 255]) == (
            not wanted
        )


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
    assert before[0] - after[0] == pytest.approx(60 * 0.5) and before[1] - after[
        1
    ] == pytest.approx(20 * 0.5)


def test_the_address_keeps_the_view(opened, page):
    opened.run("hipView.goTo(321, 123, 0.125)")
    idle(opened)
    opened.wait("location.hash.includes('query=321')")
    kept = (
        opened.run("location.hash"),
        opened.run("[hipView.view.x, hipView.view.y, hipView.view.scale]"),
    )
    opened.open(page, kept[0])
    idle(opened)
    assert opened.run("hipView.cursor") == {"query": 321, "key": 123} and opened.run(
        "hipView.pinned"
    )
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
    assert f"{covered:.2f} %" in opened.run("document.getElementById('headline').textContent")
    assert opened.run("document.querySelectorAll('#marks button').length") == 1


def test_themes_differ_and_fit_narrow_windows(browser, page):
    browser.open(page)
    idle(browser)
    light = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.run("document.getElementById('theme').click()")
    assert browser.run("getComputedStyle(document.body).backgroundColor") != light
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=500,
        height=800,
        deviceScaleFactor=2,
        mobile=True,
    )
    try:
        browser.wait("document.documentElement.scrollWidth <= 500 && hipView.panes[0].ratio === 2")
        idle(browser)
    finally:
        browser.call(
            "Emulation.setDeviceMetricsOverride",
            width=1440,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
    assert browser.problems == []
