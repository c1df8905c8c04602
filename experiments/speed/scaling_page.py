"""The part of the page on scaling: predictions beside measurements, and for devices that are not here."""

import re
from collections.abc import Mapping

from experiments.common.tables import table
from experiments.speed.config import DEVICES, PROCESSES
from experiments.speed.peers import Layer
from experiments.speed.roofline import COUNTS, KINDS, Kind, computing, gradient_bytes, pays_until, predict
from experiments.speed.scaling import NUMBERS

ELSEWHERE = (
    Layer(64, 100, 256, 256),
    Layer(64, 100, 1024, 1024),
    Layer(512, 100, 1024, 1024),
    Layer(4096, 100, 1024, 1024),
    Layer(512, 100, 4096, 4096),
    Layer(4096, 1000, 4096, 4096),
)
"""Sizes for which other devices are predicted, batch of all devices together."""


def tables(metrics: Mapping[str, float]) -> str:
    """All tables of a record with ``--scaling``."""
    rate, bandwidth, latency = (
        metrics[f"scaling_{name}"] for name in ("rate_gflops", "bandwidth_gb", "latency_us")
    )
    parts = [
        "The equations are in `experiments/speed/roofline.py`. A shape is batch x time x features x hidden "
        "of one layer; a step is value, gradient, and its sum over devices.",
        "### Checked here: virtual devices, and processes, of one CPU",
        f"This machine has {rate:.0f} GFLOP/s and {bandwidth:.1f} GB/s, and takes {latency:.2f} microseconds "
        "for a step of the recurrence. All share it: computing takes as long on all of them together, and "
        "what is added is the sum, timed by itself. Cells are milliseconds as measured, with the update, and "
        "(predicted). That products and passes over memory add up, and do not overlap as in a roofline, was "
        "decided by this measurement. Copies, and threads in each other's way, are not in the prediction.",
        _check(metrics),
        "### Predicted: data parallelism elsewhere",
        "Milliseconds of a step for one batch that is divided over more and more devices. It *pays until* so "
        "many: up to there each doubling saves at least a tenth of the step. Rates are those of datasheets, "
        "hops and latencies are assumed. Nothing of this was measured, and real steps are longer.",
        *(f"**{kind.name}.** {kind.source}.\n\n{_elsewhere(kind)}" for kind in KINDS),
    ]
    return "\n\n".join(parts)


def predicted_here(metrics: Mapping[str, float], layer: Layer, devices: str) -> float:
    """Milliseconds of a step on devices or processes, from what was measured of the machine."""
    rate, bandwidth = 1e9 * metrics["scaling_rate_gflops"], 1e9 * metrics["scaling_bandwidth_gb"]
    seconds, _ = computing(layer, layer.batch, rate, bandwidth, 1e-6 * metrics["scaling_latency_us"])
    if devices == "1":
        return 1e3 * seconds
    few, many = (metrics[f"scaling_sum_us_{devices}_{numbers}"] for numbers in NUMBERS)
    share = gradient_bytes(layer) / 4 / NUMBERS[1]
    return 1e3 * seconds + (few + (many - few) * share) / 1e3


def _check(metrics: Mapping[str, float]) -> str:
    matches = [re.fullmatch(r"scaling_step_ms_(\d[\dx]*)_1", name) for name in metrics]
    columns = {f"{count}": f"{count} device{'s' * (count > 1)}" for count in DEVICES}
    columns |= {f"{count}_processes": f"{count} processes" for count in PROCESSES}
    rows = [["shape", *columns.values(), "measured / predicted"]]
    for layer in (Layer.of(match[1]) for match in matches if match):
        cells, ratios = [], []
        for name in columns:
            measured, predicted = (
                metrics[f"scaling_step_ms_{layer}_{name}"],
                predicted_here(metrics, layer, name),
            )
            cells.append(f"{measured:.1f} ({predicted:.1f})")
            ratios.append(f"{measured / predicted:.2f}")
        rows.append([str(layer), *cells, ", ".join(ratios)])
    return table(rows)


def _elsewhere(kind: Kind) -> str:
    shown = COUNTS[::3] + COUNTS[-1:] * (COUNTS[-1] not in COUNTS[::3])
    rows = [["shape", *map(str, shown), "pays until", "then most is"]]
    for layer in ELSEWHERE:
        steps = {count: predict(kind, layer, count) for count in COUNTS}
        last = pays_until(kind, layer)
        following = steps[min(2 * last, COUNTS[-1])]
        bound = "communication" if following.communication > following.compute else following.bound
        cells = [f"{1e3 * steps[count].total:.3g}" if count <= layer.batch else "" for count in shown]
        rows.append([str(layer), *cells, str(last), "" if last == COUNTS[-1] else bound])
    return table(rows)
