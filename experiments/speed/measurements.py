"""The measurements, which alternate between the contestants."""

import dataclasses
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import lstmjax
from experiments.speed import peers
from experiments.speed.config import Config
from experiments.speed.peers import Layer, Peer
from lstmjax.backends import Backend

OURS: Backend = "auto"


def take_turns(
    functions: dict[str, Callable[[], Any]], rounds: int, warm_up: int = 2
) -> dict[str, list[float]]:
    """Seconds of each function in each round; the order changes from round to round."""
    for function in functions.values():
        for _ in range(warm_up):
            jax.block_until_ready(function())
    order, shuffle = list(functions), random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        shuffle.shuffle(order)
        for name in order:
            time.sleep(0.01)  # lets the threads of the previous function become idle
            begin = time.perf_counter()
            jax.block_until_ready(functions[name]())
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def compare(prefix: str, name: str, seconds: dict[str, list[float]]) -> dict[str, float]:
    """Median times in milliseconds, and medians of the ratios of our times to the others' with intervals."""
    figures: dict[str, float] = {}
    for other, times in seconds.items():
        figures[f"{prefix}_ms_{name}_{other}"] = 1e3 * statistics.median(times)
        if other != OURS:
            ratios = [a / b for a, b in zip(seconds[OURS], times, strict=True)]
            figures[f"{prefix}_ratio_{name}_{other}"] = statistics.median(ratios)
            for end, value in zip(("low", "high"), interval(ratios), strict=True):
                figures[f"{prefix}_{end}_{name}_{other}"] = value
    return figures


def interval(values: Sequence[float]) -> tuple[float, float]:
    """A confidence interval of the median, of 95 %; of fewer than six values their range, which is of less.

    Its ends are order statistics, so that it holds for any distribution.

    Example:
      >>> interval([9, 1, 2, 8, 3, 7, 4, 6, 5])
      (2, 8)
    """
    count, outside = len(values), 0
    while 2 * sum(math.comb(count, below) for below in range(outside + 2)) <= 0.05 * 2**count:
        outside += 1
    return sorted(values)[outside], sorted(values)[count - 1 - outside]


def measure_layer(config: Config, layer: Layer) -> dict[str, float]:
    """All measurements of one layer: equality, times, compile times, memory."""
    keys = jax.random.split(jax.random.key(0), 3)
    params = layer.init(keys[0])
    inputs = jax.random.normal(keys[1], (layer.batch, layer.time, layer.features))
    weights = jax.random.normal(keys[2], (layer.batch, layer.time, layer.output_size))
    made: dict[str, Peer] = {name: peers.ours(layer, name) for name in (OURS, *config.backends)}
    made |= {name: make(layer) for name, make in peers.JAX_PEERS.items() if name in config.rivals}
    check_equal(made, params, inputs, weights)
    forward: dict[str, Callable[[], Any]] = {}
    gradient: dict[str, Callable[[], Any]] = {}
    figures: dict[str, float] = {}
    for name, peer in made.items():
        own = peer.convert(params)
        forward[name] = _bind(jax.jit(peer.apply).lower(own, inputs).compile(), own, inputs)
        begin = time.perf_counter()
        compiled = jax.jit(value_and_gradient(peer)).lower(own, inputs, weights).compile()
        figures[f"compile_seconds_{layer}_{name}"] = time.perf_counter() - begin
        analysis: Any = compiled.memory_analysis()
        figures[f"memory_mib_{layer}_{name}"] = analysis.temp_size_in_bytes / 2**20
        gradient[name] = _bind(compiled, own, inputs, weights)
    if "torch" in config.rivals:
        torch = peers.Torch(layer, params, inputs, weights)
        np.testing.assert_allclose(torch.forward().numpy(), forward[OURS](), atol=1e-4)
        _assert_near("torch", torch.gradient().numpy(), gradient[OURS]()[1][1])
        forward["torch"], gradient["torch"] = torch.forward, torch.gradient
    if config.devices > 1 and layer.batch % config.devices == 0:
        gradient["divided"] = divided(config.devices, made[OURS], params, inputs, weights)
    figures |= compare("forward", str(layer), take_turns(forward, config.rounds))
    seconds = take_turns(gradient | {"product": _large_product()}, config.rounds)
    rates = [PRODUCT_FLOPS / each for each in seconds.pop("product")]
    shares = [layer.gradient_flops / own / rate for own, rate in zip(seconds[OURS], rates, strict=True)]
    figures |= {f"product_gflops_{layer}": 1e-9 * statistics.median(rates)}
    figures |= {f"grad_share_{layer}": statistics.median(shares)}
    return figures | compare("grad", str(layer), seconds)


SIDES = (700, 1500, 6000)
"""A large product of matrices, that of the inputs of 20x35x1500x1500: its rate is what could be reached."""
PRODUCT_FLOPS = 2 * math.prod(SIDES)


def _large_product() -> Callable[[], jax.Array]:
    """A function of nothing that computes it; its operands are made once, and not timed."""
    rows, inner, columns = SIDES
    operands = jnp.ones((rows, inner)), jnp.ones((inner, columns))
    return _bind(jax.jit(jnp.matmul).lower(*operands).compile(), *operands)


def value_and_gradient(peer: Peer) -> Callable[..., Any]:
    """The weighted sum of a peer's outputs, and its gradient with respect to parameters and inputs."""

    def loss(params: Any, inputs: jax.Array, weights: jax.Array) -> jax.Array:
        return jnp.sum(peer.apply(params, inputs) * weights)

    return jax.value_and_grad(loss, argnums=(0, 1))


def _bind(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: function(*arguments)


def check_equal(made: dict[str, Peer], params: Any, inputs: jax.Array, weights: jax.Array) -> None:
    """Raise AssertionError unless all have the outputs of our scan backend, and its parameter gradients."""

    def results(name: str, peer: Peer) -> Any:
        def apply(params: Any, inputs: jax.Array) -> jax.Array:
            return peer.apply(peer.convert(params), inputs)

        outputs = jax.jit(apply)(params, inputs)
        return outputs, jax.jit(value_and_gradient(Peer(apply, list)))(params, inputs, weights)[1]

    layer_results = {name: results(name, peer) for name, peer in made.items()}
    reference = layer_results["scan"] if "scan" in layer_results else layer_results[OURS]
    for name, result in layer_results.items():
        for ours, theirs in zip(jax.tree.leaves(reference), jax.tree.leaves(result), strict=True):
            _assert_near(name, theirs, ours)


def _assert_near(name: str, theirs: Any, ours: Any) -> None:
    scale = float(np.abs(ours).max())
    np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-4 * scale, err_msg=name)


def divided(
    devices: int, peer: Peer, params: Any, inputs: jax.Array, weights: jax.Array
) -> Callable[[], Any]:
    """Our gradient with the batch sharded over XLA devices."""
    mesh = Mesh(np.array(jax.devices()[:devices]), ("batch",))
    rows, whole = PartitionSpec("batch"), PartitionSpec()

    def loss(params: Any, inputs: jax.Array, weights: jax.Array) -> jax.Array:
        return jax.lax.psum(jnp.sum(peer.apply(params, inputs) * weights), "batch")

    function = jax.jit(
        jax.shard_map(
            jax.value_and_grad(loss, argnums=(0, 1)),
            mesh=mesh,
            in_specs=(whole, rows, rows),
            out_specs=(whole, (whole, rows)),
        )
    )
    shards = [jax.device_put(x, NamedSharding(mesh, rows)) for x in (inputs, weights)]
    return _bind(function, jax.device_put(peer.convert(params), NamedSharding(mesh, whole)), *shards)


def means(figures: Mapping[str, float], layers: Sequence[str]) -> dict[str, float]:
    """Geometric means over layers, the worst layer, and both against the faster of the JAX packages."""
    found = {}
    for kind in ("grad", "forward"):
        ratios: dict[str, list[float]] = {}
        for layer in layers:
            prefix = f"{kind}_ratio_{layer}_"
            own = {
                name.removeprefix(prefix): value for name, value in figures.items() if name.startswith(prefix)
            }
            groups = {"flax": ("linen", "nnx"), "jax": tuple(peers.JAX_PEERS)}
            for group, members in groups.items():
                there = [own[name] for name in members if name in own]
                if there:
                    own[f"best_{group}"] = max(there)
            for name, value in own.items():
                ratios.setdefault(name, []).append(value)
        for name, values in ratios.items():
            found[f"{kind}_ratio_{name}"] = math.exp(statistics.fmean(map(math.log, values)))
            found[f"{kind}_worst_{name}"] = max(values)
    return found


def measure_small_steps(config: Config) -> dict[str, float]:
    """Microseconds of a step of few units, which takes as long as the runtime needs to begin its operations.

    What XLA's CPU runtime adds to small scans: https://github.com/jax-ml/jax/issues/40150.
    """
    layer = Layer(1, 1000, 4, 4)
    found = measure_layer(config, layer)
    return {
        f"small_microseconds_{layer}-{kind}_{name.removeprefix(prefix)}": 1e3 * value / layer.time
        for kind, prefix in ((kind, f"{kind}_ms_{layer}_") for kind in ("forward", "grad"))
        for name, value in found.items()
        if name.startswith(prefix)
    }


def measure_compilation(layer: Layer) -> dict[str, float]:
    """Compile time of our gradient at sixteen times the sequence length over that at the length itself."""
    seconds = []
    for stretch in (1, 16, 1, 16):
        longer = dataclasses.replace(layer, time=stretch * layer.time)
        peer = peers.ours(longer, OURS)
        own = peer.convert(longer.init(jax.random.key(0)))
        inputs = jnp.zeros((longer.batch, longer.time, longer.features))
        weights = jnp.zeros((longer.batch, longer.time, longer.output_size))
        begin = time.perf_counter()
        jax.jit(value_and_gradient(peer)).lower(own, inputs, weights).compile()
        seconds.append(time.perf_counter() - begin)
    return {"compile_ratio_sixteen_times_the_length": seconds[3] / seconds[2]}


def measure_streaming(config: Config) -> dict[str, float]:
    """Latency of one step, with the state carried from call to call."""
    figures: dict[str, float] = {}
    for batch, hidden in ((1, 200), (32, 128)):
        layer = Layer(batch, 1, hidden, hidden)
        (params,), inputs = layer.init(jax.random.key(0)), jnp.ones((batch, hidden))
        cell = lstmjax.lstm(hidden, hidden)
        steps: dict[str, Callable[[], Any]] = {}
        steps[OURS] = _stepper(jax.jit(cell.step), (params,), cell.initial_state((batch,)), inputs)
        if "linen" in config.rivals:
            steps["linen"] = _linen_stepper(layer, params, inputs)
        if "torch" in config.rivals:
            steps["torch"] = _torch_stepper(hidden, batch)
        for name, times in take_turns(steps, config.rounds).items():
            figures[f"step_microseconds_{batch}x{hidden}_{name}"] = 1e6 * statistics.median(times) / STEPS
    return figures


STEPS = 200
"""Steps of streaming per round."""


def _stepper(step: Callable[..., Any], first: tuple[Any, ...], state: Any, inputs: Any) -> Callable[[], Any]:
    def steps() -> Any:
        carry = state
        for _ in range(STEPS):
            carry, output = step(*first, carry, inputs)
        return output

    return steps


def _linen_stepper(layer: Layer, params: Any, inputs: jax.Array) -> Callable[[], Any]:
    from flax import linen  # noqa: PLC0415

    cell = linen.OptimizedLSTMCell(layer.hidden)
    own = {"params": peers.linen(layer).convert([params])["params"]["layers_0"]["cell"]}
    carry = cell.initialize_carry(jax.random.key(0), inputs.shape)
    return _stepper(jax.jit(cell.apply), (own,), carry, inputs)


def _torch_stepper(hidden: int, batch: int) -> Callable[[], Any]:
    import torch  # noqa: PLC0415

    cell, inputs = torch.nn.LSTMCell(hidden, hidden), torch.ones(batch, hidden)

    def step(state: Any, inputs: Any) -> Any:
        state = cell(inputs, state)
        return state, state[0]

    run = _stepper(step, (), (torch.zeros(batch, hidden), torch.zeros(batch, hidden)), inputs)

    def without_gradient() -> Any:
        with torch.no_grad():
            return run()

    return without_gradient


def measure_vocabulary(config: Config, sizes: Sequence[tuple[int, int, int]]) -> dict[str, float]:
    """Value and gradient of the chunked loss of a large vocabulary, against optax on all logits."""
    figures: dict[str, float] = {}
    for rows, hidden, words in sizes:
        keys = jax.random.split(jax.random.key(0), 3)
        arrays = (
            jax.random.normal(keys[0], (20, rows // 20, hidden)),
            jax.random.normal(keys[1], (hidden, words)),
        )
        targets = jax.random.randint(keys[2], (20, rows // 20), 0, words)

        def chunked(h: jax.Array, k: jax.Array, t: jax.Array) -> jax.Array:
            return lstmjax.losses.vocabulary_cross_entropy(h, k, jnp.zeros(k.shape[1]), t)

        def plain(h: jax.Array, k: jax.Array, t: jax.Array) -> jax.Array:
            return optax.losses.softmax_cross_entropy_with_integer_labels(h @ k, t).sum()

        functions = {}
        name = f"{rows}x{hidden}x{words}"
        for which, loss in ((OURS, chunked), ("optax", plain)):
            compiled = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*arrays, targets).compile()
            analysis: Any = compiled.memory_analysis()
            figures[f"loss_mib_{name}_{which}"] = analysis.temp_size_in_bytes / 2**20
            functions[which] = _bind(compiled, *arrays, targets)
        figures |= compare("loss", name, take_turns(functions, config.rounds))
    return figures
