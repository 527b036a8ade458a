"""bench/generate_bench.py on a model of random weights that is small: JSON of every part.

usage: generate_bench_test.py LLAMA, the program
"""

import json
import pathlib
import subprocess
import sys
import tempfile

BENCH = pathlib.Path(__file__).resolve().parent.parent / "bench"
sys.path.insert(0, str(BENCH))
import random_model

SMALL = {
    "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 128,
}

with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    random_model.write(folder / "model", layers=2, **SMALL)
    results = folder / "generate.json"
    command = [sys.executable, "-B", BENCH / "generate_bench.py", "--llama", sys.argv[1], "--device",
               "cpu", "--prompt-tokens", "300", "--folder", folder / "model", "--json", results]
    subprocess.run(command, check=True)
    content = json.loads(results.read_text(encoding="utf-8"))

assert content["context"]["device"].startswith("CPU"), content["context"]
assert "gpu" not in content["context"]
runs = {run["name"]: run for run in content["benchmarks"]}
assert len(runs) == 8, list(runs)
for model in ("bundled", "llama3_8b_4_layers"):
    for attention in ("dense", "hip"):
        prompt = runs[f"generate/{model}/prompt/{attention}"]
        assert prompt["prefill_attention"] > 0 and prompt["decode_attention"] == 0, prompt
        answer = runs[f"generate/{model}/answer/{attention}"]
        assert answer["decode_attention"] > 0 and answer["prefill_attention"] == 0, answer
        for run in (prompt, answer):
            parts = sum(run[part] for part in ("embedding", "products", "elementwise", "logits"))
            assert 0 < parts < run["real_time"], run
