#!/usr/bin/env python3
"""What tokenizer_bench.cpp measures, of the Python package tokenizers: same files, same texts.

    pip install tokenizers
    tokenizers_bench.py --json FILE

Processor time of the fastest of several calls. The JSON has the form of Google Benchmark's.
"""

import argparse
import json
import os
import pathlib
import tempfile
import time

import tokenizers
from benchmark_json import Report

LLAMA = pathlib.Path(__file__).resolve().parent.parent
STRETCH = 20
ADDED = (256, 2500, 5000, 10000, 20000)
ENCODED = {0: "no", 256: "256", 20000: "20000"}
SIZES = (100_000, 200_000, 400_000, 800_000)


def added_token(i):
    return f"<token {i}>"


def tokenizer_json(added):
    """The bundled tokenizer with more added tokens, half of them normalized."""
    content = json.loads((LLAMA / "model/tokenizer.json").read_text(encoding="utf-8"))
    size = len(content["model"]["vocab"])
    content["added_tokens"] += [
        {"id": size + i, "content": added_token(i), "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": i % 2 == 0, "special": False}
        for i in range(added)
    ]
    return json.dumps(content)


def text_of(size, added):
    """The haystack, over and over, with an added token every 20 bytes where there are any."""
    haystack = (LLAMA / "data/haystack.txt").read_bytes()
    text, i = bytearray(), 0
    while len(text) < size:
        begin = STRETCH * i % (len(haystack) - STRETCH)
        text += haystack[begin : begin + STRETCH]
        if added:
            text += added_token(i % added).encode()
        i += 1
    return text[:size].decode(errors="ignore")


def fastest(call, least=5, seconds=1.0):
    times = []
    while len(times) < least or sum(times) < seconds:
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return min(times)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    report = Report(options.json, compiler=f"tokenizers {tokenizers.__version__}")

    def add(name, call):
        seconds = fastest(call)
        report.add(name, seconds, cpu_time=seconds)

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "tokenizer.json")

        def load():
            return tokenizers.Tokenizer.from_file(str(path))

        for added in ADDED:
            path.write_text(tokenizer_json(added), encoding="utf-8")
            add(f"load/{added}", load)
        for added, words in ENCODED.items():
            path.write_text(tokenizer_json(added), encoding="utf-8")
            tokenizer = load()
            for size in SIZES:
                text = text_of(size, added)
                add(f"encode/{words} added tokens/{size}", lambda: tokenizer.encode(text))


if __name__ == "__main__":
    main()
