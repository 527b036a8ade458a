"""The tables of what the examples measure: models through transformers, llama.cpp, and the example
engine."""

from report_cells import Measured, OfAsked, Plain, Ratio, Source, Table

SOURCES = {
    "transformers-h200": Source(
        [
            "examples/python/recall.py",
            "--context=16k,32k,128k",
            "--attention=sdpa,landmark,infinite_hip",
            "--device=cuda",
        ],
        machine="H200",
    ),
    "llama-cpp-epyc": Source(["examples/llama.cpp/measure.py"], machine="EPYC"),
    "generate-h200": Source(["examples/llama/bench/generate_bench.py"], machine="H200"),
    "view-epyc": Source(["examples/llama/bench/view_bench.py"], machine="EPYC"),
    "tokenizer-epyc": Source(["tokenizer_bench"], machine="EPYC"),
    "tokenizers-epyc": Source(["examples/llama/bench/tokenizers_bench.py"], machine="EPYC"),
}

# ---- transformers --------------------------------------------------------------------------------


def recall_row(length, tokens, attention):
    def plain(field, scale, form):
        return Plain("transformers-h200", name, field, scale, form)

    name = f"recall/{tokens}/{attention}/seed1"
    return [
        length,
        f"`{attention}`",
        *(OfAsked("transformers-h200", name, count) for count in ("codes", "digits")),
        plain("real_time", 1.0, "{:.2f}"),
        plain("text_share", 100.0, "{:.0f}"),
        plain("step_seconds", 1e3, "{:.1f}"),
        plain("step_share", 100.0, "{:.0f}"),
        plain("peak_bytes", 2.0**-20, "{:.0f}"),
    ]


TABLES = {
    "transformers-h200": Table(
        None,
        [
            "context",
            "attention",
            "codes",
            "digits",
            "text, s",
            "of it attention, %",
            "a step, ms",
            "of it attention, %",
            "peak of the GPU, MiB",
        ],
        [
            recall_row(length, tokens, attention)
            for length, tokens in {"16k": 16384, "32k": 32768, "128k": 131072}.items()
            for attention in ("sdpa", "landmark", "infinite_hip")
        ],
    ),
}

# ---- llama.cpp -----------------------------------------------------------------------------------


def llama_cpp(name, field, scale=1.0, form=None):
    return Plain("llama-cpp-epyc", name, field, scale, form)


SCENARIOS = {
    "prompt and steps": "a prompt of 700 tokens, 16 steps",
    "several sequences": "three sequences, steps together, prompts whose tokens alternate",
    "shared prompt": "a prompt that three sequences share",
    "context shift": "three context shifts (`seq_rm`, `seq_add`), steps and prompts between",
    "fragmented": "holes in two sequences that a third fills",
}
TABLES["llama-cpp-logits"] = Table(
    None,
    ["scenario", "ggml's flash attention", "hip_attn"],
    [
        [title] + [llama_cpp(f"logits/unified/f16/{scenario}", f"{which}_rms", 1.0, "{:.5f}")
                   for which in ("ggml", "hip_attn")]
        for scenario, title in SCENARIOS.items()
    ],
)

LLAMA_CPP_HEADER = ["", "llama.cpp", "hip_attn, `dense`", "hip_attn, `infinite_hip`"]
LLAMA_CPP_WAYS = ("llama.cpp", "dense", "infinite_hip")


def llama_cpp_row(title, name, *arguments):
    return [title] + [llama_cpp(f"{name}/{way}", *arguments) for way in LLAMA_CPP_WAYS]


TABLES["llama-cpp-perplexity"] = Table(
    None,
    LLAMA_CPP_HEADER,
    [
        llama_cpp_row("perplexity", "perplexity", "perplexity", 1.0, "{:.4f}"),
        llama_cpp_row("its standard error", "perplexity", "error", 1.0, "{:.4f}"),
    ],
)
TABLES["llama-cpp-times"] = Table(
    None,
    LLAMA_CPP_HEADER,
    [
        llama_cpp_row(f"{title}, processor seconds", name, "processor_seconds")
        for title, name in {
            "prompt of 8192 tokens": "prompt/8192",
            "prompt of 32768 tokens": "prompt/32768",
            "64 tokens behind 8192, the prompt included": "decode/8192",
        }.items()
    ]
    + [llama_cpp_row("tokens per second of these 64", "decode/8192", "tokens_per_second")],
)


class Seconds(Measured):
    def __init__(self, name, field):
        super().__init__("llama-cpp-epyc", name, field)


TABLES["ggml-node"] = Table(
    "ms",
    ["query heads / KV heads", "type of K and V", "ggml, ms", "hip_attn, ms", "ggml / hip_attn"],
    [
        [f"{heads} / {kv_heads}", title, ggml, hip_attn, Ratio(ggml, hip_attn)]
        for heads, kv_heads in ((8, 2), (32, 8), (32, 32))
        for kind, title in {"f16": "float16", "bf16": "bfloat16", "f32": "float"}.items()
        for name in [f"node/{kind}/q{heads}k{kv_heads}"]
        for ggml, hip_attn in [[Seconds(name, f"{w}_seconds") for w in ("ggml", "hip_attn")]]
    ],
)

# ---- examples/llama ------------------------------------------------------------------------------


def part_row(title, model, run, attention):
    no_part = "decode_attention" if run == "prompt" else "prefill_attention"
    fields = ["products", "elementwise", "prefill_attention", "decode_attention", "real_time"]
    name = f"generate/{model}/{run}/{attention}"
    return [f"{title}, {attention}"] + [
        None if field == no_part else Plain("generate-h200", name, field, 1.0, "{:.3f}")
        for field in fields
    ]


TABLES["generate-parts-h200"] = Table(
    None,
    ["s", "products", "elementwise", "attention, prefill", "attention, decode", "in all"],
    [
        part_row(f"{title}, {words}", model, run, attention)
        for title, model, tokens in (("bundled model", "bundled", 256),
                                     ("four layers of Llama 3 8B", "llama3_8b_4_layers", 128))
        for words, run in (("prompt", "prompt"), (f"{tokens} tokens", "answer"))
        for attention in ("dense", "hip")
    ],
)

VIEWS = {
    "1536/one layer": ("1.5k", "1", "2, of two KV heads"),
    "8192/two KV heads": ("8k", "2", "2, of two KV heads"),
    "16384/one KV head": ("16k", "2", "2, of one KV head"),
}
TABLES["view"] = Table(
    None,
    ["tokens", "layers", "heads of each", "MB", "`llama view`, s"],
    [
        [*words, Plain("view-epyc", f"view/{name}", "bytes", 1e-6),
         Plain("view-epyc", f"view/{name}", "real_time")]
        for name, words in VIEWS.items()
    ],
)

ENCODED = {100_000: "100 kB", 200_000: "200 kB", 400_000: "400 kB", 800_000: "800 kB"}


def tokenizer(name):
    return Plain("tokenizer-epyc", name, "cpu_time")


def tokenizers(name):
    return Plain("tokenizers-epyc", name, "cpu_time", 1e3)


def tokenizer_row(added):
    load = f"load/{added}"
    cells = [tokenizer(load), tokenizers(load)] if added else [None, None]
    names = [f"encode/{added or 'no'} added tokens/{size}" for size in ENCODED]
    if added in (0, 256, 20000):
        return [str(added or "none"), *cells, *map(tokenizer, names), tokenizers(names[-1])]
    return [str(added), *cells] + [None] * (len(names) + 1)


TABLES["tokenizer"] = Table(
    None,
    ["added tokens", "load", "tokenizers"]
    + [f"encode {size}" if i == 0 else size for i, size in enumerate(ENCODED.values())]
    + ["tokenizers, 800 kB"],
    [tokenizer_row(added) for added in (0, 256, 2500, 10000, 20000)],
)
