"""The repository's reader takes what `llama generate --trace` has written.

usage: selection_trace_test.py BENCH_FOLDER TRACE, of 40 steps after 1500 tokens with small.json
"""

import sys

sys.path.insert(0, sys.argv[1])
import kv_trace

trace = kv_trace.read(sys.argv[2])
assert trace.header["prompt_tokens"] == 1500, trace.header
assert (trace.header["sink"], trace.header["window"]) == (64, 256), trace.header
assert list(trace.units) == [(layer, head) for layer in range(6) for head in range(2)]
assert trace.num_steps == 40
for steps in trace.units.values():
    assert [i for i, step in enumerate(steps) if step.searched] == [0, 32]
    assert steps[31].window_start == 64 + (1500 - 256 - 64) // 8 * 8
    for step in steps:
        assert len(step.blocks) == 512 // 8
        starts = {start // step.chunk_tokens for start in step.chunks}
        assert all(block * 8 // step.chunk_tokens in starts for block in step.blocks)
