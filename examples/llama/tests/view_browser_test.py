"""A headless browser opens what `llama view` has written: its numbers agree with each other.

usage: view_browser_test.py FOLDER_OF_CHROMIUM_PY VIEW_HTML; ends with 77 where there is no browser.
"""

import pathlib
import sys

sys.path.insert(0, sys.argv[1])
import chromium

if chromium.find() is None:
    print(chromium.SKIPPED)
    sys.exit(77)

page = pathlib.Path(sys.argv[2])
with chromium.Page() as browser:
    browser.open(page, "#layer=5&head=7")
    browser.wait("!hipView.stale && hipView.store.wanted.length === 0")
    # Queries, keys and LSE make rows that add up to 1; with the selection, to the share covered.
    rows = browser.run(
        """[0, 63, 700, TOKENS - 1].map((query) => {
          const { head } = hipView.store, mass = head.rowMass(query);
          const sum = (keep) => mass.reduce((sum, m, key) => sum + (keep(key) ? m : 0), 0);
          const seen = (key) => head.state(query, key) !== LEFT_OUT;
          return { whole: sum(() => true), seen: sum(seen), covered: head.covered[query] };
        })"""
    )
    for row in rows:
        assert abs(row["whole"] - 1) < 1e-3, row
        assert abs(row["seen"] - row["covered"]) < 1e-3, row
    assert browser.run("hipView.store.head.covered.some((share) => share < 0.999)")
    # So do the cells of each query block, and its attended cells after the softmax over them.
    sums = browser.run(
        """Array.from({ length: hipView.store.head.queryBlocks }, (_, n) => {
          const { head } = hipView.store;
          const part = (a) => a.subarray(head.cellStart[n], head.cellStart[n + 1]);
          return [part(head.cells), part(head.sparse)].map((a) => a.reduce((sum, m) => sum + m, 0));
        })"""
    )
    assert len(sums) > 16 and all(abs(x - 1) < 5e-3 for pair in sums for x in pair), sums
    # The first place is the first digit of a code, where its question looks.
    place = browser.run(
        """(({ query, key }) => ({
          digit: TEXT.of(key, key + 1), asked: TEXT.of(query - 5, query + 1),
        }))(DATA.marks[0])"""
    )
    assert place["digit"].isdigit() and place["asked"].endswith("Answer: "), place
    assert browser.run("document.querySelectorAll('#heads button').length") == 8
    assert browser.problems == [], browser.problems
    assert [url.split("#")[0] for url in browser.requests] == [page.resolve().as_uri()]
print("the page's numbers agree")
