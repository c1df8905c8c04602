r"""The time of a training step of an LSTM on n devices: arithmetic, memory, a chain of steps, and a sum.

With batch B, time T, features F, hidden units H, and 4 bytes a number, a device has b = B / n rows, and

    FLOPs         C = 3 * 2 b T 4H (F + H)                     forward, and twice that backward
    bytes         M = 3 * 4 (b T (F + 6H) + 4H (F + H))        activations and weights, thrice
    gradient      G = 4 * 4H (F + H + 1)                       bytes of its parameters
    computing     t = C / rate + M / bandwidth + 2 T latency
    the sum       s = 2 (n - 1) / n G / link + 2 (n - 1) hop   a ring; 0 for one device
    a step        t + s

The recurrent weights are taken to stay on the chip. ``latency`` is that of one step of the recurrence, which
no device divides: however few its rows, a device takes 2 T latency. Nothing overlaps: products and functions
of single numbers are passes of their own, steps wait for each other, and the gradient of the weights is
complete only when the loop over time ends. (In a roofline the first two overlap: t has their maximum.)
Beyond one host, link and hop are the network's. Virtual devices of one CPU share its rate and bandwidth: t is
that of all rows.

Source: Williams, Waterman and Patterson 2009 (CACM 52(4)) for the roofline; Patarasuk and Yuan 2009
(J. Parallel Distrib. Comput. 69(2)) for the ring.
"""

from typing import NamedTuple

from experiments.speed.peers import Layer


class Kind(NamedTuple):
    """A kind of device, and how devices are connected."""

    name: str
    rate: float
    """FLOP/s of products of matrices."""
    bandwidth: float
    """Bytes/s of its memory."""
    link: float
    """Bytes/s to another device of the host, in one direction."""
    hop: float
    """Seconds until the first byte arrives there."""
    latency: float
    """Seconds of one step of the recurrence."""
    host: int
    """Devices of a host, or of whatever the link connects."""
    network: float
    """Bytes/s of a device to another host."""
    network_hop: float
    """Seconds until the first byte arrives there."""
    source: str


KINDS = (
    Kind(
        *("NVIDIA A100 SXM, TF32", 156e12, 2.039e12, 300e9, 3e-6, 3e-6, 8, 25e9, 6e-6),
        source="NVIDIA A100 datasheet, 2021 (TF32 156 TFLOP/s, 2,039 GB/s, NVLink 600 GB/s both ways); "
        "DGX A100 datasheet (8 devices, 200 Gb/s each)",
    ),
    Kind(
        *("NVIDIA H100 SXM, TF32", 494e12, 3.35e12, 450e9, 3e-6, 3e-6, 8, 50e9, 6e-6),
        source="NVIDIA H100 datasheet, 2023 (TF32 989 TFLOP/s with sparsity, half without; 3.35 TB/s; NVLink "
        "900 GB/s both ways); DGX H100 datasheet (8 devices, 400 Gb/s each)",
    ),
    Kind(
        *("Google TPU v5e, bfloat16", 197e12, 819e9, 200e9, 2e-6, 3e-6, 256, 3.125e9, 2e-5),
        source="Cloud TPU v5e documentation (197 TFLOP/s, 819 GB/s, 400 GB/s between chips both ways, pods "
        "of 256, whose network has 6.4 Tb/s)",
    ),
)
"""Numbers of datasheets, which are upper bounds. Hops and latencies are assumed: no datasheet has them."""

COUNTS = tuple(2**power for power in range(11))
"""1 to 1024 devices."""


class Prediction(NamedTuple):
    """Seconds of a training step."""

    compute: float
    bound: str
    """The largest part of it: rate, memory or latency."""
    communication: float

    @property
    def total(self) -> float:
        """The seconds of the step."""
        return self.compute + self.communication


def computing(layer: Layer, rows: float, rate: float, bandwidth: float, latency: float) -> tuple[float, str]:
    """Seconds of value and gradient of so many rows, and the largest part of them."""
    weights = 4 * layer.hidden * (layer.features + layer.hidden)
    steps = rows * layer.time
    seconds = {
        "rate": 6 * steps * weights / rate,
        "memory": 12 * (steps * (layer.features + 6 * layer.hidden) + weights) / bandwidth,
        "latency": 2 * layer.time * latency,
    }
    bound = max(seconds, key=lambda name: seconds[name])
    return sum(seconds.values()), bound


def gradient_bytes(layer: Layer) -> int:
    """Bytes of the gradient of the parameters."""
    return 4 * 4 * layer.hidden * (layer.features + layer.hidden + 1)


def predict(kind: Kind, layer: Layer, devices: int) -> Prediction:
    """A training step whose rows are divided over devices."""
    seconds, bound = computing(layer, layer.batch / devices, kind.rate, kind.bandwidth, kind.latency)
    is_near = devices <= kind.host
    link, hop = (kind.link, kind.hop) if is_near else (kind.network, kind.network_hop)
    hops = 2 * (devices - 1)
    return Prediction(seconds, bound, hops / devices * gradient_bytes(layer) / link + hops * hop)


def pays_until(kind: Kind, layer: Layer, saves: float = 0.1) -> int:
    """The number of devices up to which each doubling saves at least a share of the time of a step."""
    last = 1
    for devices in COUNTS[1:]:
        before, after = (predict(kind, layer, count).total for count in (last, devices))
        if devices > layer.batch or after > (1 - saves) * before:
            break
        last = devices
    return last
