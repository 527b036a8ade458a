#!/usr/bin/env python3
"""Runs RULER's tasks on a Hugging Face model under several kinds of attention.

    llama evaluate --model MODEL --haystack haystack.txt --context 8k,32k --dump-tasks tasks.jsonl
    evaluate.py --model MODEL --tasks tasks.jsonl --attention sdpa,landmark,infinite_hip

The prompts are those that `llama evaluate` (examples/llama) writes; the lengths in the file are in
tokens of the tokenizer that it was given. A row of the table is a length, a task and an attention,
with means over the prompts: the score, of the given answer the tokens that are the likeliest after
those before, both in percent, and its negative log-likelihood in nats per token.
docs/guide/quality.md says more of each. --attention takes what recall.py takes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from recall import load, make_cache, numbers, tokens, unavailable
from recall_task import tokens_before


def score(generated: str, outputs: list[str]) -> float:
    """The share of the outputs that a text contains, upper and lower case alike."""
    return sum(output.lower() in generated.lower() for output in outputs) / len(outputs)


@torch.inference_mode()
def run(model: Any, tokenizer: Any, task: dict[str, Any], cache: Any, chunk: int) -> dict[str, Any]:
    """Of one prompt. The cache is empty and holds it with its answer."""
    prompt, answer = (torch.tensor([ids], device=model.device) for ids in encode(tokenizer, task))
    for piece in prompt[:, :-1].split(chunk, dim=1):
        model(piece, past_key_values=cache, use_cache=True, logits_to_keep=1)
    # The row before a token predicts it.
    rows = torch.cat([prompt[:, -1:], answer[:, :-1]], 1)
    logits = model(rows, past_key_values=cache, use_cache=True).logits[0].float()
    nll = torch.nn.functional.cross_entropy(logits, answer[0])
    right = (logits.argmax(-1) == answer[0]).float().mean()

    cache.crop(prompt.shape[1] - 1 - cache.get_seq_length())
    generated = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        past_key_values=cache,
        max_new_tokens=task["new_tokens"],
        do_sample=False,
        pad_token_id=0,
    )
    text = tokenizer.decode(generated[0, prompt.shape[1] :], skip_special_tokens=True)
    return {
        "all": score(text, task["outputs"]),
        "answer_right": right.item(),
        "answer_nll": nll.item(),
        "generated": text,
    }


def encode(tokenizer: Any, task: dict[str, Any]) -> tuple[list[int], list[int]]:
    """The tokens of the prompt, special ones in front, and those of the given answer."""
    texts = task["input"] + task["answer_prefix"], task["answer"]
    prompt, answer = (
        tokenizer(text, add_special_tokens=False, verbose=False).input_ids for text in texts
    )
    return tokens_before(tokenizer) + prompt, answer


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", required=True, help="a model folder")
    add("--tasks", type=Path, required=True, help="what llama evaluate --dump-tasks has written")
    add("--attention", default="sdpa,landmark,landmark_1k,infinite_hip")
    add("--dense-layers", type=numbers, default=[], help="layers that are dense: 0,1")
    add("--chunk", type=tokens, default=8192, help="tokens of a prompt in one forward")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--dtype", default=None, help="default: bfloat16 on a GPU, float32 on the CPU")
    add("--json", type=Path, help="where to write the results of every prompt")
    return parser.parse_args()


def main() -> None:
    options = parse()
    model, tokenizer = load(options)
    device, dtype = model.device, model.dtype
    lines = options.tasks.read_text(encoding="utf-8").splitlines()
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for task in map(json.loads, lines):
        groups.setdefault((task["context"], task["task"]), []).append(task)

    row = "{:>8} {:16} {:24} {:>7} {:>7} {:>14} {:>9}"
    titles = "context", "task", "attention", "prompts", "score", "answer tokens", "nats"
    print(row.format(*titles))
    results = []
    for (context, name), tasks in groups.items():
        for attention in options.attention.split(","):
            if reason := unavailable(attention, device, dtype):
                print(f"{context:>8} {name:16} {attention:24} skipped: {reason}")
                continue
            of_group = []
            for task in tasks:
                longest = sum(map(len, encode(tokenizer, task))) + task["new_tokens"]
                cache = make_cache(model, attention, longest, options)
                result = run(model, tokenizer, task, cache, options.chunk)
                of_group.append(
                    {"task": name, "context": context, "seed": task["seed"], "attention": attention}
                    | result
                )
            results += of_group
            means = [
                sum(result[field] for result in of_group) / len(of_group)
                for field in ("all", "answer_right", "answer_nll")
            ]
            cells = f"{100 * means[0]:.1f}", f"{100 * means[1]:.1f}", f"{means[2]:.4f}"
            print(row.format(context, name, attention, len(tasks), *cells), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"tasks": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
