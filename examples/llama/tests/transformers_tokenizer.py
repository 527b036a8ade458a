"""The tokens that transformers' AutoTokenizer finds in the haystack are those of reference.json.

usage: transformers_tokenizer.py MODEL_FOLDER DATA_FOLDER; exits with 77 where transformers is not
installed.
"""

import json
import pathlib
import sys

try:
    import transformers
except ImportError:
    sys.exit(77)

model, data = map(pathlib.Path, sys.argv[1:])
reference = json.loads((data / "reference.json").read_text())
haystack = (data / "haystack.txt").read_bytes().decode()
ids = transformers.AutoTokenizer.from_pretrained(model)(haystack)["input_ids"]
first = reference["haystack_ids_first_4097"]
assert len(ids) == reference["haystack_tokens"], f"{len(ids)} tokens"
assert ids[: len(first)] == first, f"begins with {ids[:8]}"
