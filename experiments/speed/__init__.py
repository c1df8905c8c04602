"""Benchmark of the layer against LSTM layers of other packages, in one process.

Outputs and gradients of all are first checked to be equal. Then, after a warm-up, they are timed in rounds,
in a different order in each round: the forward pass, and the value and gradient with respect to parameters
and inputs. A ratio is our time over theirs within a round; reported are medians over rounds, and geometric
means over the shapes. Compile times, memory that XLA allocates, the latency of a streamed step, the loss of a
large vocabulary, and other cells than the LSTM are measured as well.

    python -m experiments speed                    some 20 minutes on two idle cores
    python -m experiments speed --devices 2        our layer also with its batch sharded over XLA devices
    python -m experiments speed --family           other cells only, some 7 minutes
    python -m experiments speed --scaling          predicted training steps on 1 to 1024 devices, and a check
    python -m experiments speed --backends cudnn pallas fused scan     on a GPU, each against auto

Expected on CPU: gradients in at most 0.6 of the time of Flax, 0.65 of other JAX packages, 1.0 of PyTorch.
"""

import gc
from collections.abc import Sequence

from experiments.common.experiment import Experiment
from experiments.speed import page, scaling, scaling_page
from experiments.speed.config import SHAPES, SIZES, VARIANTS, VOCABULARIES, Config, prepare, preset
from experiments.speed.family import measure_family
from experiments.speed.measurements import (
    means,
    measure_compilation,
    measure_layer,
    measure_small_steps,
    measure_streaming,
    measure_vocabulary,
)
from experiments.speed.peers import Layer
from lstmjax import training
from lstmjax.training.record import Run


def run(config: Config, run: Run) -> None:
    """Run all measurements, and write the results."""
    if config.resume is not None:
        raise training.ConfigError("timings cannot be resumed: start anew.")
    shapes: Sequence[Layer] = SHAPES
    variants: Sequence[Layer] = VARIANTS
    if config.quick:
        shapes, variants = (Layer(4, 10, 16, 16),), (Layer(4, 10, 16, 16, depth=2),)
    if config.layers:
        shapes = [layer for layer in shapes if str(layer) in config.layers]
        variants = [layer for layer in variants if str(layer) in config.layers]
    if config.scaling:
        run.finish(scaling.measure(config.rounds, SIZES[: 1 if config.quick else None]))
        print(scaling_page.tables(run.figures()))
        return
    others = ((4, 10, 16, 16),) if config.quick else None
    if config.family:
        run.finish(measure_family(config, others))
        print(page.tables(run.figures()))
        return
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
    figures |= means(figures, [str(layer) for layer in (*shapes, *variants)])
    if not config.layers:
        figures |= measure_small_steps(config)
        figures |= measure_compilation(shapes[0])
        figures |= measure_streaming(config)
        figures |= measure_family(config, others)
        figures |= measure_vocabulary(config, ((40, 8, 100),) if config.quick else VOCABULARIES)
    run.finish(figures)
    print(page.tables(figures))


EXPERIMENT = Experiment(__doc__, Config, run, page.PAGE, preset, prepare=prepare)
