"""Plots of the CPU backend: time against length, beside its own dense attention."""

from figures_time import X_LABEL, wins_of
from report_figures import Figure, Panel, length_name, ratio

LENGTHS = [4096, 32768, 131072, 1048576]
NAMES = {length: length_name(length) for length in LENGTHS}
PRESETS = ("infinite_hip", "landmark", "landmark_1k")


def cpu_time(points):
    cpu = points["cpu"]

    def lines(operation, state, dense_state, xs):
        dense = cpu.line("dense", "dense", lambda x: f"{operation}/float/dense/{dense_state}{x}", xs,
                         scale=1e3)
        sparse = [cpu.line(preset, preset, lambda x: f"{operation}/float/{preset}/{state}{x}", xs,
                           scale=1e3, kind="bold") for preset in PRESETS]
        compared = ratio("", "", dense, sparse[0])
        return [dense, *sparse], wins_of(compared) if compared.points else []

    panels = []
    for title, operation, state, dense_state, xs in (
        ("Decode, every stage refreshed", "decode", "refreshed/", "refreshed/", LENGTHS),
        ("Decode, selection reused", "decode", "reused/", "refreshed/", LENGTHS),
        ("Prefill of 1024 rows at the end", "prefill", "", "", LENGTHS[1:3]),
    ):
        of, wins = lines(operation, state, dense_state, xs)
        panels.append(Panel(title, X_LABEL, "ms", of, NAMES, log_y=True, wins=wins))
    return Figure("The CPU backend: time against length",
                  "The presets beside dense attention of the same backend. Shaded: infinite_hip takes longer than "
                  "dense.", panels, columns=3)
