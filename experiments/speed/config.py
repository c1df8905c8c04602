"""Flags of speed, and the shapes that are timed."""

import dataclasses
import os

import jax

from experiments.common.command_line import RunConfig
from experiments.speed import peers
from experiments.speed.peers import Layer
from lstmjax import training
from lstmjax.backends import Backend

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
