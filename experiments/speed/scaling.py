"""Measurements for the roofline: what this machine can do, and training steps on several devices."""

import functools
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import lstmjax
from experiments.speed.config import DEVICES
from experiments.speed.measurements import take_turns
from experiments.speed.peers import Layer
from experiments.speed.processes import measure_processes
from lstmjax import training
from lstmjax.training.parallel import AXIS

NUMBERS = (2**10, 2**21)
"""Sizes of the arrays whose sum is timed."""


def measure(rounds: int, sizes: Sequence[Layer]) -> dict[str, float]:
    """Rates of the machine, times of sums over devices, and times of training steps."""
    figures = measure_machine(rounds) | measure_sums(rounds, DEVICES[1:])
    return figures | measure_steps(rounds, sizes, DEVICES) | measure_processes(rounds, sizes)


def measure_machine(rounds: int) -> dict[str, float]:
    """FLOP/s of a product, bytes/s of a copy, and seconds of a step of the recurrence, by one device."""
    square, long = jnp.ones((2048, 2048)), jnp.ones(2**25)
    cell = lstmjax.lstm(8, 8)
    params, inputs = cell.init(jax.random.key(0)), jnp.ones((1, TIME, 8))
    gradient = jax.jit(jax.grad(lambda params: lstmjax.unroll(cell, params, inputs)[1].sum()))
    product, copy = jax.jit(jnp.matmul), jax.jit(lambda array: array + 1)
    functions: dict[str, Callable[[], Any]] = {
        "product": lambda: product(square, square),
        "copy": lambda: copy(long),
        "chain": lambda: gradient(params),
    }
    seconds = {name: statistics.median(each) for name, each in take_turns(functions, rounds).items()}
    return {
        "scaling_rate_gflops": 2 * 2048**3 / seconds["product"] / 1e9,
        "scaling_bandwidth_gb": 2 * 4 * 2**25 / seconds["copy"] / 1e9,
        "scaling_latency_us": 1e6 * seconds["chain"] / (2 * TIME),
    }


TIME = 2000
"""Steps of the recurrence whose latency is measured."""


def measure_sums(rounds: int, counts: Sequence[int], suffix: str = "") -> dict[str, float]:
    """Microseconds of the sum of arrays over so many devices, each of which then has the result."""
    functions: dict[str, Callable[[], Any]] = {}
    for count in counts:
        mesh = Mesh(np.array(jax.devices()[:count]), (AXIS,))
        divided, everywhere = (NamedSharding(mesh, spec) for spec in (PartitionSpec(AXIS), PartitionSpec()))
        total = jax.jit(lambda array: array.sum(axis=0), out_shardings=everywhere)
        for numbers in NUMBERS:
            ones = np.ones((count, numbers), np.float32)
            array = jax.make_array_from_callback(ones.shape, divided, ones.__getitem__)
            functions[f"{count}{suffix}_{numbers}"] = functools.partial(total, array)
    times = take_turns(functions, rounds)
    return {f"scaling_sum_us_{name}": 1e6 * statistics.median(each) for name, each in times.items()}


def measure_steps(
    rounds: int, sizes: Sequence[Layer], counts: Sequence[int], suffix: str = ""
) -> dict[str, float]:
    """Milliseconds of a training step of each size on so many devices, as the training loop does it."""
    figures = {}
    for layer in sizes:
        functions = {str(count): _training_step(layer, count) for count in counts}
        for count, times in take_turns(functions, rounds).items():
            figures[f"scaling_step_ms_{layer}_{count}{suffix}"] = 1e3 * statistics.median(times)
    return figures


def _training_step(layer: Layer, devices: int) -> Callable[[], Any]:
    cell = lstmjax.lstm(layer.features, layer.hidden)

    def loss(params: Any, batch: Any, key: jax.Array) -> Any:
        return jnp.square(lstmjax.unroll(cell, params, batch)[1]).mean(), {}

    shape = (layer.batch, layer.time, layer.features)
    inputs = np.random.default_rng(0).standard_normal(shape, np.float32)
    task = training.Task.plain(
        init=cell.init,
        loss=loss,
        batch=lambda seed, step: inputs,
        evaluate=lambda params, batch: {},
        valid=lambda: (),
    )
    config = training.TrainConfig(devices=devices)
    optimizer = training.adam(config)
    step = training.make_step(task, config, optimizer)
    state = training.init_state(task, config, optimizer)

    def run() -> Any:
        nonlocal state
        state, metrics = step(state, inputs)
        return metrics

    return run
