"""The results page: timings as tables, from the metrics of a record."""

import re
import statistics
from collections.abc import Mapping, Sequence

from experiments.common.experiment import Page
from experiments.common.tables import table
from experiments.speed import scaling_page
from experiments.speed.measurements import means
from lstmjax.training.record import Record

OURS = "auto"
NAMES = {
    "linen": "flax.linen.RNN",
    "nnx": "flax.nnx.RNN",
    "haiku": "haiku.LSTM",
    "equinox": "equinox.nn.LSTMCell",
    "keras": "keras.layers.LSTM (JAX)",
    "torch": "torch.nn.LSTM",
    "scan": "ours, backend scan",
    "fused": "ours, backend fused",
    "cudnn": "ours, backend cudnn",
    "pallas": "ours, backend pallas",
    "divided": "ours, batch over XLA devices",
}
"""The titles of the columns, in order."""


PACKAGES = {"haiku": "dm-haiku", "equinox": "equinox", "keras": "keras", "torch": "torch"}
"""The packages of rivals, as the versions of a record name them; Flax is required by this package."""


def readme(records: Sequence[Record]) -> str:
    """The table of geometric means, for the records on CPU."""
    chosen = [record for record in records if record.label == "cpu-grid"]
    return _means(chosen[0].metrics) if chosen else ""


def page(records: Sequence[Record]) -> str:
    """The page of all records."""
    parts = [
        "# Speed",
        "Our layer (`backend='auto'`) against others with the same weights, in turns within one process; "
        "outputs and gradients are first checked equal. Ratios are our time over theirs, the median over "
        "rounds and its confidence interval of 95 %: below 1 we are quicker. The share is that of our "
        "gradient in the rate of one large product of matrices in the same rounds. A shape is batch x time "
        "x features x hidden. Means and worst shapes are of all shapes, those of several layers and of two "
        "directions included; a second mean leaves out batch 1. Columns scan, fused and associative are "
        "other backends of ours, and gru is our own GRU of the same sizes. Memory is what XLA sets aside "
        "beside arguments and results; native code has a copy of the recurrent weights and a few states "
        "beside it. "
        "[What was tried](../../../docs/speed.md).",
    ]
    for record in records:
        parts += [
            f"## {record.label}",
            f"{record.device}; `{record.command}`; {record.seconds / 60:.0f} minutes.",
        ]
        parts += [f"{_versions(record)}.", tables(record.metrics)]
    return "\n\n".join(parts) + "\n\nBuilt by `make pages` from the records in this folder.\n"


def tables(metrics: Mapping[str, float]) -> str:
    """All tables of one run."""
    if "scaling_rate_gflops" in metrics:
        return scaling_page.tables(metrics)
    parts = {
        "Geometric means over shapes": _means(metrics),
        "Value and gradient, each shape": _ratios(metrics, "grad"),
        "Forward, each shape": _ratios(metrics, "forward"),
        "Other cells, value and gradient, each shape": _ratios(metrics, "family"),
        "Other cells, geometric means": _family(metrics),
        "Compile time of the gradient, seconds": _plain(metrics, "compile_seconds", ".2f"),
        "Memory that XLA sets aside for the gradient, MiB": _plain(metrics, "memory_mib", ".0f"),
        "A streamed step, microseconds": _plain(metrics, "step_microseconds", ".0f"),
        "A step of four units, microseconds": _plain(metrics, "small_microseconds", ".2f"),
        "Loss of a large vocabulary: value and gradient against optax over all logits": _loss(metrics),
        "Rates": _rates(metrics),
    }
    return "\n\n".join(f"### {title}\n\n{part}" for title, part in parts.items() if part.count("\n") > 1)


def _means(metrics: Mapping[str, float]) -> str:
    shapes, names = _found(metrics, "grad_ratio")
    every, batched = means(metrics, shapes), means(metrics, [each for each in shapes if each[:2] != "1x"])
    rows = [["against", "value and gradient", *REST, "forward", *REST]]
    for name in names:
        cells = []
        for kind in ("grad", "forward"):
            ratios = {shape: metrics.get(f"{kind}_ratio_{shape}_{name}", 0.0) for shape in shapes}
            worst = max(ratios, key=lambda shape: ratios[shape])
            if ratios[worst]:
                values = (found[f"{kind}_ratio_{name}"] for found in (every, batched))
                cells += [*(f"{value:.2f}" for value in values), f"{ratios[worst]:.2f}, {worst}"]
        rows.append([NAMES[name], *cells])
    return table(rows)


def _family(metrics: Mapping[str, float]) -> str:
    """Geometric means over the shapes of each kind of cell, against each contestant."""
    found, names = _found(metrics, "family_ratio")
    rows = [["cell", *names]]
    for kind in dict.fromkeys(shape.partition("-")[2] for shape in found):
        shapes = [shape for shape in found if shape.endswith(f"-{kind}")]
        cells = [[metrics.get(f"family_ratio_{shape}_{name}") for shape in shapes] for name in names]
        values = [[value for value in cell if value is not None] for cell in cells]
        rows.append([kind, *(f"{statistics.geometric_mean(v):.2f}" if v else "" for v in values)])
    return table(rows)


REST = ("without batch 1", "worst shape")
"""The titles after that of a geometric mean."""


def _versions(record: Record) -> str:
    """The versions of packages, and the rivals whose versions an early record does not have."""
    told = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    _, names = _found(record.metrics, "grad_ratio")
    unknown = [PACKAGES[name] for name in names if PACKAGES.get(name, "python") not in record.versions]
    return f"{told}; not recorded: {', '.join(unknown)}" if unknown else told


def _found(metrics: Mapping[str, float], prefix: str) -> tuple[list[str], list[str]]:
    """Shapes and contestants of the metrics ``<prefix>_<shape>_<name>``, in order."""
    matches = [re.fullmatch(rf"{prefix}_(\d[^_]*)_(\w+)", name) for name in metrics]
    pairs = [match.groups() for match in matches if match]
    names = [OURS, *NAMES, "memax", "associative", "gru", "optax"]
    return list(dict.fromkeys(shape for shape, _ in pairs)), sorted(
        {name for _, name in pairs}, key=names.index
    )


def _ratios(metrics: Mapping[str, float], kind: str) -> str:
    shapes, names = _found(metrics, f"{kind}_ratio")
    has_shares = any(name.startswith(f"{kind}_share_") for name in metrics)
    rows = [["shape", "ours, ms", *(["share"] if has_shares else []), *names]]
    for shape in shapes:
        cells = [f"{metrics[f'{kind}_ms_{shape}_{OURS}']:.1f}"]
        if has_shares:
            cells.append(f"{metrics[f'{kind}_share_{shape}']:.2f}")
        for name in names:
            keys = [f"{kind}_{end}_{shape}_{name}" for end in ("ratio", "low", "high")]
            values = [metrics[key] for key in keys if key in metrics]
            cells.append("{:.2f} ({:.2f} to {:.2f})".format(*values) if len(values) == 3 else "")
        rows.append([shape, *cells])
    return table(rows)


def _plain(metrics: Mapping[str, float], prefix: str, form: str) -> str:
    shapes, names = _found(metrics, prefix)
    rows = [["shape", *("ours" if name == OURS else name for name in names)]]
    for shape in shapes:
        values = (metrics.get(f"{prefix}_{shape}_{name}") for name in names)
        rows.append([shape, *("" if value is None else format(value, form) for value in values)])
    return table(rows)


def _loss(metrics: Mapping[str, float]) -> str:
    shapes, _ = _found(metrics, "loss_ratio")
    rows = [["positions x hidden x words", "ours, ms", "optax, ms", "ratio", "ours, MiB", "optax, MiB"]]
    for shape in shapes:
        keys = [f"loss_ms_{shape}_{OURS}", f"loss_ms_{shape}_optax", f"loss_ratio_{shape}_optax"]
        keys += [f"loss_mib_{shape}_{OURS}", f"loss_mib_{shape}_optax"]
        forms = [".0f", ".0f", ".2f", ".0f", ".0f"]
        rows.append([shape, *(format(metrics[key], form) for key, form in zip(keys, forms, strict=True))])
    return table(rows)


def _rates(metrics: Mapping[str, float]) -> str:
    rows = [["what", "figure"]]
    if rates := [rate for name, rate in metrics.items() if name.startswith("product_gflops_")]:
        rows.append(["a large product of matrices, GFLOP/s", f"{statistics.median(rates):.3g}"])
    if ratio := metrics.get("compile_ratio_sixteen_times_the_length"):
        rows.append(["compile time, sixteen times the length over once", f"{ratio:.3g}"])
    return table(rows)


PAGE = Page(page, readme=readme)
