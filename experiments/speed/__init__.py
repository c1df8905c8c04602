"""The layer against every peer, side by side in one process.

Values and gradients of all are first checked to be equal. Then they take turns, in another order in each
round, after a warm-up: forward, and value and gradient to parameters and inputs. A ratio is ours over theirs
within a round; what is reported is the median over rounds, and geometric means over the shapes. Compile
times, memory that XLA sets aside, the latency of a streamed step, and the loss of a large vocabulary are
measured beside.

    python -m experiments speed                    some 15 minutes on two idle cores
    python -m experiments speed --devices 2        our layer also with its batch divided over XLA devices
    python -m experiments speed --backends cudnn pallas fused scan     on a GPU, each against auto

Expected: on CPU, gradients in at most 0.6 of the time of Flax and 0.65 of other JAX packages, 1.0 of PyTorch.
"""

import gc
from collections.abc import Sequence

from experiments.common.experiment import Experiment
from experiments.speed import page
from experiments.speed.config import SHAPES, VARIANTS, VOCABULARIES, Config, prepare, preset
from experiments.speed.measurements import (
    means,
    measure_compilation,
    measure_layer,
    measure_streaming,
    measure_utilization,
    measure_vocabulary,
)
from experiments.speed.peers import Layer
from lstmjax import training
from lstmjax.training.record import Run


def run(config: Config, run: Run) -> None:
    """Measure everything, and write it down."""
    if config.resume is not None:
        raise training.ConfigError("timings cannot be resumed: start anew.")
    shapes: Sequence[Layer] = SHAPES
    variants: Sequence[Layer] = VARIANTS
    if config.quick:
        shapes, variants = (Layer(4, 10, 16, 16),), (Layer(4, 10, 16, 16, depth=2),)
    if config.layers:
        shapes = [layer for layer in shapes if str(layer) in config.layers]
        variants = [layer for layer in variants if str(layer) in config.layers]
    figures: dict[str, float] = {}
    for number, layer in enumerate((*shapes, *variants)):
        found = measure_layer(config, layer)
        figures |= found
        run.log(number, found)
        ratios = {name: value for name, value in found.items() if "_ratio_" in name}
        print(
            layer,
            {name.replace(f"_{layer}", ""): round(value, 2) for name, value in ratios.items()},
            flush=True,
        )
        gc.collect()
    figures |= means(figures, [str(layer) for layer in shapes])
    if not config.layers:
        figures |= measure_utilization(figures, shapes[-1] if config.quick else SHAPES[2])
        figures |= measure_compilation(shapes[0])
        figures |= measure_streaming(config)
        figures |= measure_vocabulary(config, ((40, 8, 100),) if config.quick else VOCABULARIES)
    run.finish(figures)
    print(page.tables(figures))


EXPERIMENT = Experiment(__doc__, Config, run, page.PAGE, preset, prepare=prepare)
