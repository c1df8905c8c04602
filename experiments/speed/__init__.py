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

import dataclasses
import gc
import os
from collections.abc import Sequence

import jax

from experiments.common.command_line import RunConfig
from experiments.common.experiment import Experiment
from experiments.speed import page, peers
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
from lstmjax.backends import Backend
from lstmjax.training.record import Run

SHAPES = (
    Layer(20, 35, 200, 200),
    Layer(20, 35, 650, 650),
    Layer(20, 35, 1500, 1500),
    Layer(32, 256, 128, 128),
    Layer(128, 100, 64, 64),
    Layer(1, 1000, 64, 64),
    Layer(64, 50, 512, 512),
    Layer(8, 2000, 128, 128),
)
"""What the geometric means are taken over: language models, long sequences, large batches, one stream."""


VARIANTS = (
    Layer(20, 35, 650, 650, depth=2),
    Layer(32, 256, 128, 128, depth=2),
    Layer(20, 35, 650, 650, bidirectional=True),
    Layer(32, 256, 128, 128, bidirectional=True),
)


VOCABULARIES = ((400, 200, 10_000), (700, 650, 10_000), (1400, 400, 33_278))
"""Positions, hidden units and words of the losses that are timed: Penn Treebank twice, and WikiText-2."""


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """How it is measured."""

    rounds: int = 9
    """How often each takes its turn."""
    devices: int = 1
    """XLA devices on the CPU; with more than one, our layer is also timed with its batch over all of them."""
    backends: tuple[Backend, ...] = ("scan", "fused")
    """Our own other ways to run the layer, to be timed too."""
    layers: tuple[str, ...] = ()
    """Only these of the layers, such as 20x35x200x200; by default all."""
    rivals: tuple[str, ...] = (*peers.JAX_PEERS, "torch")
    """The packages to compare with: some of linen, nnx, haiku, equinox, keras, torch."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise training.ConfigError(f"rounds must be at least 1, got {self.rounds}.")
        missing = set(self.layers) - set(map(str, (*SHAPES, *VARIANTS)))
        if missing:
            raise training.ConfigError(
                f"there is no layer {sorted(missing)}; there are {[*map(str, SHAPES)]}."
            )
        unknown = set(self.rivals) - {*peers.JAX_PEERS, "torch"}
        if unknown:
            raise training.ConfigError(
                f"there is no peer {sorted(unknown)}; there are {[*peers.JAX_PEERS, 'torch']}."
            )


def preset(config: Config) -> Config:
    """The defaults that belong to the choices in ``config``."""
    return dataclasses.replace(config, rounds=2) if config.quick else config


def prepare(config: Config) -> None:
    """What must be set before JAX is used."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    jax.config.update("jax_num_cpu_devices", config.devices)
    jax.config.update("jax_enable_compilation_cache", False)


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
