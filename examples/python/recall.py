#!/usr/bin/env python3
"""Asks a Hugging Face model for codes hidden in a long text, under several kinds of attention.

    recall.py --context 8k,32k
    recall.py --model MODEL --context 128k --device cuda --dtype bfloat16 --json results.json

--attention takes presets of hip_attn and implementations of transformers. Texts and questions are
those of `llama recall` (examples/llama). Every attention reads the text once; each question goes on
from it, with its last token and the answer as decode steps. "att." is the share of the attention
function in the time before it; what the cache does with new keys is not in it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import gc
import json
import platform
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import torch
import transformers
from recall_task import RecallTask, make_recall_task
from transformers import AttentionInterface, AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import is_flash_attn_2_available, logging

import hip_attn.transformers

FOLDER = Path(__file__).resolve().parent
LLAMA = FOLDER.parent / "llama"

IMPLEMENTATIONS = "sdpa", "eager", "flash_attention_2"


@dataclass
class Result:
    codes: int = 0
    codes_asked: int = 0
    digits: int = 0
    digits_asked: int = 0
    text_seconds: float = 0
    step_seconds: float = 0
    text_share: Optional[float] = None  # of the attention function in text_seconds
    step_share: Optional[float] = None
    cache_bytes: int = 0
    peak_bytes: int = 0  # of the GPU, above the weights


class Clock:
    """Seconds between two laps, the device's work included."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.lap()

    def lap(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        seconds, self.last = now - getattr(self, "last", now), now
        return seconds


class AttentionClock:
    """Seconds that a model's attention function takes, in the stream that it works on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.spans: list[tuple[Any, Any]] = []

    def now(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def lap(self) -> Optional[float]:
        """Since the lap before; None: the attention of this model has no function to time."""
        spans, self.spans = self.spans, []
        if not spans:
            return None
        if self.device.type != "cuda":
            return sum(end - begin for begin, end in spans)
        torch.cuda.synchronize(self.device)
        return 1e-3 * sum(begin.elapsed_time(end) for begin, end in spans)

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def attention(*args: Any, **kwargs: Any) -> Any:
            begin = self.now()
            result = function(*args, **kwargs)
            self.spans.append((begin, self.now()))
            return result

        return attention


@contextlib.contextmanager
def timed_attention(model: Any) -> Iterator[AttentionClock]:
    clock = AttentionClock(model.device)
    name = model.config._attn_implementation
    function = ALL_ATTENTION_FUNCTIONS.get(name)
    if function is None:  # eager, a function of the model's own
        yield clock
        return
    AttentionInterface.register(name, clock.timed(function))
    try:
        yield clock
    finally:
        AttentionInterface.register(name, function)


def unavailable(attention: str, device: torch.device, dtype: torch.dtype) -> Optional[str]:
    """Why an attention cannot be run here."""
    if attention != "flash_attention_2":
        return None
    if not is_flash_attn_2_available():
        return "the package flash_attn is not here, or it sees no GPU"
    if device.type != "cuda" or dtype == torch.float32:
        return "it takes a GPU and 16-bit types"
    return None


def make_cache(model: Any, attention: str, context: int, options: argparse.Namespace) -> Any:
    if attention in IMPLEMENTATIONS:
        model.set_attn_implementation(attention)
        return DynamicCache(config=model.config)
    model.set_attn_implementation("hip_attn")
    return hip_attn.transformers.PagedCache(
        model.config, attention, dense_layers=options.dense_layers, max_len=context
    )


def cache_bytes(cache: Any) -> int:
    if isinstance(cache, hip_attn.transformers.PagedCache):
        return cache.nbytes
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


@torch.inference_mode()
def run(
    model: Any,
    tokenizer: Any,
    task: RecallTask,
    cache: Any,
    chunk: int,
    of_attention: Optional[AttentionClock] = None,
) -> Result:
    result = Result()
    device = model.device
    if of_attention is None:
        of_attention = AttentionClock(device)
    clock = Clock(device)
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    text = torch.tensor([task.text], device=device)
    for piece in text.split(chunk, dim=1):
        model(piece, past_key_values=cache, use_cache=True, logits_to_keep=1)
    result.text_seconds = clock.lap()
    seconds = of_attention.lap()
    if seconds is not None:
        result.text_share = seconds / result.text_seconds
    result.cache_bytes = cache_bytes(cache)

    steps = 0
    in_attention = 0.0
    for fact in task.facts:
        result.codes_asked += 1
        result.digits_asked += len(fact.code)
        question = torch.tensor([fact.question], device=device)
        model(question[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
        asked = torch.cat([text, question], 1)
        of_attention.lap()
        clock.lap()
        answered = model.generate(
            asked,
            attention_mask=torch.ones_like(asked),
            past_key_values=cache,
            max_new_tokens=len(fact.code),
            do_sample=False,
            pad_token_id=0,
        )
        result.step_seconds += clock.lap()
        in_attention += of_attention.lap() or 0.0
        answer = answered[0, asked.shape[1] :].tolist()
        steps += len(answer)
        right = sum(tokenizer.decode([t]) == digit for t, digit in zip(answer, fact.code))
        result.digits += right
        result.codes += right == len(fact.code)
        cache.crop(text.shape[1] - cache.get_seq_length())
    if in_attention > 0:
        result.step_share = in_attention / result.step_seconds
    result.step_seconds /= steps
    if device.type == "cuda":
        result.peak_bytes = torch.cuda.max_memory_allocated(device) - before
    return result


def tokens(text: str) -> int:
    return int(text[:-1]) * 1024 if text.endswith("k") else int(text)


def numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",")]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default=LLAMA / "model", help="a model folder; default: the bundled model")
    add("--data", type=Path, default=LLAMA / "data", help="with haystack.txt and reference.json")
    add("--context", default="16k", help="tokens of text, question and answer, or a list: 8k,32k")
    add("--seed", type=int, default=1, help="of the first text")
    add("--seeds", type=int, default=1, help="texts of each length")
    add("--attention", default="sdpa,flash_attention_2,landmark,landmark_1k,infinite_hip")
    add("--dense-layers", type=numbers, default=[], help="layers that are dense: 0,1")
    add("--chunk", type=tokens, default=8192, help="tokens of the text in one forward")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--dtype", default=None, help="default: bfloat16 on a GPU, float32 on the CPU")
    add("--json", type=Path, help="where to write the results, in the form of Google Benchmark's")
    return parser.parse_args()


def load(options: argparse.Namespace) -> tuple[Any, Any]:
    """The model and its tokenizer, for any attention of this library."""
    logging.disable_progress_bar()
    hip_attn.transformers.register()
    device = torch.device(options.device)
    dtype = getattr(torch, options.dtype or ("float32" if device.type == "cpu" else "bfloat16"))
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype).to(device).eval()
    return model, tokenizer


ROW = "{:>8} {:>5} {:20} {:>8} {:>8} {:>9} {:>6} {:>9} {:>6} {:>10} {:>9}"


def percent(share: Optional[float]) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def measure(
    model: Any, tokenizer: Any, task: RecallTask, attention: str, options: argparse.Namespace
) -> Result | str:
    """Of one text and attention, or why there is nothing."""
    reason = unavailable(attention, model.device, model.dtype)
    if reason:
        return f"skipped: {reason}"
    try:
        cache = make_cache(model, attention, task.context, options)
        with timed_attention(model) as of_attention:
            return run(model, tokenizer, task, cache, options.chunk, of_attention)
    except torch.cuda.OutOfMemoryError:
        return "out of memory"


def row_of(r: Result) -> list[str]:
    return [
        f"{r.codes}/{r.codes_asked}",
        f"{r.digits}/{r.digits_asked}",
        f"{r.text_seconds:.2f}",
        percent(r.text_share),
        f"{1000 * r.step_seconds:.1f}",
        percent(r.step_share),
        f"{r.cache_bytes / 2**20:.1f}",
        f"{r.peak_bytes / 2**20:.0f}" if r.peak_bytes else "-",
    ]


class Report:
    """The results as JSON of Google Benchmark's form, which bench/report reads."""

    def __init__(self, model: Any, options: argparse.Namespace) -> None:
        self.path = options.json
        self.benchmarks: list[dict[str, Any]] = []
        self.skipped: list[str] = []
        self.context: dict[str, Any] = {
            "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "compiler": f"PyTorch {torch.__version__}, transformers {transformers.__version__}",
            "hip_attn": hip_attn.__version__,
            "model": Path(options.model).name,
            "dtype": str(model.dtype).partition(".")[2],
            "tokens_in_a_forward": options.chunk,
            "dense_layers": options.dense_layers,
            "architecture": platform.machine(),
            "threads": torch.get_num_threads(),
        }
        if model.device.type == "cuda":
            self.context["gpu"] = torch.cuda.get_device_name(model.device)
        describe = ["git", "-C", str(FOLDER), "describe", "--always", "--dirty", "--exclude=*"]
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            commit = subprocess.check_output([*describe, "--abbrev=7"], stderr=subprocess.DEVNULL)
            self.context["commit"] = commit.decode().strip()

    def add(self, name: str, result: Result | str) -> None:
        """Writes the file too: a measurement that is ended loses nothing."""
        if isinstance(result, str):
            self.skipped.append(f"{name}: {result.removeprefix('skipped: ')}")
        else:
            known = {key: value for key, value in asdict(result).items() if value is not None}
            time = {"real_time": known.pop("text_seconds"), "time_unit": "s"}
            self.benchmarks.append({"name": name, "run_type": "iteration", **time, **known})
        if self.path:
            content = {
                "context": {**self.context, "skipped": self.skipped},
                "benchmarks": self.benchmarks,
            }
            self.path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    options = parse()
    model, tokenizer = load(options)
    device, dtype = model.device, model.dtype
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{where}, {str(dtype).partition('.')[2]}, {options.chunk} tokens in a forward\n")
    names = "context seed attention codes digits text_s att. step_ms att. cache_MiB peak_MiB"
    print(ROW.format(*(name.replace("_", " ") for name in names.split())))
    report = Report(model, options)
    for context in map(tokens, options.context.split(",")):
        for seed in range(options.seed, options.seed + options.seeds):
            task = make_recall_task(tokenizer, options.data, context, seed)
            for attention in options.attention.split(","):
                result = measure(model, tokenizer, task, attention, options)
                report.add(f"recall/{context}/{attention}/seed{seed}", result)
                cells = [result] if isinstance(result, str) else row_of(result)
                row = ROW if len(cells) > 1 else "{:>8} {:>5} {:20} {}"
                print(row.format(context, seed, attention, *cells), flush=True)
                gc.collect()  # and the memory of the cache goes back
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
