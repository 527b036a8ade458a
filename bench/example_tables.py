"""The tables of what the examples measure: models through transformers."""

from report_cells import OfAsked, Plain, Source, Table

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
}


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
