"""All plots, and the measurements that they show."""

import figures_cpu
import figures_effects
import figures_parts
import figures_time
from report_cells import measurement_of
from report_figures import FigureTable
from report_sources import SOURCES

# name: (function, measurements)
PLOTS = {
    "prefill_time": (figures_time.prefill_time, ["prefill", "prefill-peers"]),
    "decode_time": (figures_time.decode_time, ["decode", "decode-peers"]),
    "prefill_stages": (figures_parts.prefill_stages, ["prefill"]),
    "decode_stages": (figures_parts.decode_stages, ["decode"]),
    "reads": (figures_parts.reads, ["decode", "prefill"]),
    "memory": (figures_parts.memory, ["decode", "prefill", "prefill-peers"]),
    "effects": (figures_effects.effects, ["decode-variations", "prefill-variations"]),
    "offload": (figures_effects.offload, ["offload"]),
    "cpu_time": (figures_cpu.cpu_time, ["cpu"]),
}

_FILES = {measurement_of(file): file for file in SOURCES}

# The numbers of a plot as a table of the documents.
FIGURES = {
    name: FigureTable(name, make, {measurement: _FILES[measurement] for measurement in measurements})
    for name, (make, measurements) in PLOTS.items()
}
TABLES = {f"plot-{name.replace('_', '-')}": figure for name, figure in FIGURES.items()}
