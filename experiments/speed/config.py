"""Flags of speed, and the benchmark shapes."""

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
"""Shapes of one layer: language models, long sequences, large batches, a single stream."""


VARIANTS = (
    Layer(20, 35, 650, 650, depth=2),
    Layer(32, 256, 128, 128, depth=2),
    Layer(20, 35, 650, 650, bidirectional=True),
    Layer(32, 256, 128, 128, bidirectional=True),
)
"""Shapes of several layers or directions."""

RIVALS = (*peers.JAX_PEERS, "torch", "memax")
"""The packages that can be compared with; memax has other cells only (`family.py`)."""

DEVICES, PROCESSES = (1, 2, 4, 8), (2, 4)
SIZES = (Layer(64, 50, 64, 64), Layer(64, 50, 256, 256), Layer(256, 100, 64, 64), Layer(64, 50, 512, 512))
"""Virtual devices, numbers of processes, and training steps of ``--scaling``."""

VOCABULARIES = ((400, 200, 10_000), (700, 650, 10_000), (1400, 400, 33_278))
"""Positions, hidden units and words of the benchmarked losses: Penn Treebank twice, and WikiText-2."""


@dataclasses.dataclass(frozen=True)
class Config(RunConfig):
    """Settings of the measurements."""

    rounds: int = 9
    """Number of rounds of measurements."""
    devices: int = 1
    """XLA devices on the CPU; if several, our layer is also timed with its batch sharded over them."""
    backends: tuple[Backend, ...] = ("scan", "fused")
    """Other backends of our layer to time as well."""
    layers: tuple[str, ...] = ()
    """Only these of the layers, such as 20x35x200x200; by default all."""
    rivals: tuple[str, ...] = RIVALS
    """The packages to compare with: some of linen, nnx, haiku, equinox, keras, torch, memax."""
    family: bool = False
    """Instead, measure the other cells only (`family.py`)."""
    scaling: bool = False
    """Instead, check the prediction of training steps on several devices (`roofline.py`)."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise training.ConfigError(f"rounds must be at least 1, got {self.rounds}.")
        missing = set(self.layers) - set(map(str, (*SHAPES, *VARIANTS)))
        if missing:
            raise training.ConfigError(
                f"there is no layer {sorted(missing)}; there are {[*map(str, SHAPES)]}."
            )
        unknown = set(self.rivals) - set(RIVALS)
        if unknown:
            raise training.ConfigError(f"there is no peer {sorted(unknown)}; there are {[*RIVALS]}.")


def preset(config: Config) -> Config:
    """The defaults for the choices in ``config``."""
    return dataclasses.replace(config, rounds=2) if config.quick else config


def prepare(config: Config) -> None:
    """Settings that must be made before JAX is used."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    jax.config.update("jax_num_cpu_devices", max(DEVICES) if config.scaling else config.devices)
    jax.config.update("jax_enable_compilation_cache", False)
