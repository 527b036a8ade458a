"""The benchmarks of a GPU as cells of tables: their names, and what a table calls their shapes."""

from report_cells import Measured

MATRIX_RATE = 773e12  # operations per second of its matrix products in 16 bits

DECODE_SHAPES = {
    "32k": "1x32768",
    "128k": "1x131072",
    "512k": "1x524288",
    "1M": "1x1048576",
    "8 x 128k": "8x131072",
}


def decode_cell(source, state, shape, *field, rest, preset, type_name):
    return Measured(source, f"decode/{type_name}/{preset}/{state}/{shape}/{rest}", *field)


MAIN_SHAPE = dict(rest="q32k8d128/p16", preset="infinite_hip", type_name="bfloat16")


def decode(state, shape, source="decode-h200", **options):
    return decode_cell(source, state, shape, **{**MAIN_SHAPE, **options})


def decode_floor(state, shape, source="decode-h200", **options):
    return decode_cell(source, state, shape, "floor_us", 1e-6, **{**MAIN_SHAPE, **options})


def decode_row(label, cell, *arguments, **options):
    return [label] + [cell(*arguments, shape, **options) for shape in DECODE_SHAPES.values()]


PREFILL_LENGTHS = {
    "8k": 8192,
    "16k": 16384,
    "32k": 32768,
    "64k": 65536,
    "128k": 131072,
    "256k": 262144,
    "1M": 1048576,
}
LONG = ["32k", "128k", "256k", "1M"]


def prefill_field(
    field, scale, shape, source="prefill-h200", preset="infinite_hip", type_name="bfloat16"
):
    if isinstance(shape, int):
        shape = f"1x{shape}/{shape}/q32k8d128/p16"
    return Measured(source, f"prefill/{type_name}/{preset}/{shape}", field, scale)


def prefill(shape, **options):
    return prefill_field("ms", 1e-3, shape, **options)


def attend(shape, **options):
    return prefill_field("attend_ms", 1e-3, shape, **options)


def search(shape, **options):
    return prefill_field("search_ms", 1e-3, shape, **options)


def search_floor(shape, **options):
    return prefill_field("search_floor_ms", 1e-3, shape, **options)


def attend_rate(shape, **options):
    return prefill_field("attend_TFLOPs", 1e12, shape, **options)


def attend_floor(shape, **options):
    return attend(shape, **options) * attend_rate(shape, **options) / MATRIX_RATE


def prefill_row(label, cell, lengths, only=None, **options):
    return [label] + [
        cell(PREFILL_LENGTHS[length], **options) if only is None or length in only else None
        for length in lengths
    ]
