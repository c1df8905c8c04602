"""The eye learns to name digits before the LSTMs learn sentences.

The papers take networks that were trained to classify photographs, and train LSTMs on their features. Here a
linear layer tells which digits are in single frames, from the half of the eye's vector that is to know what
there is; afterwards it is thrown away.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.video_to_text.config import Config
from experiments.video_to_text.grammar import Actor, Story
from experiments.video_to_text.rendering import Handwriting, render
from lstmjax.nnx import Functional
from lstmjax.types import Params

FRAMES, RATE = 128, 3e-3
"""Frames of a step, and the first learning rate, which falls to 0 as a cosine."""


def frames_with_digits(
    rng: np.random.Generator, images: Handwriting, digits: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Frames with so many different digits at random places, and which digits there are ``[count, 10]``."""
    frames, there = [], np.zeros((count, 10), np.float32)
    for row in range(count):
        chosen = rng.permutation(10)[:digits].tolist()
        actors = tuple(Actor(digit, (rng.random(), rng.random()), ()) for digit in chosen)
        frames.append(render(rng, Story(actors, ""), images, frames=1)[0])
        there[row, chosen] = 1
    return np.stack(frames), there


def trained(config: Config, model: Functional, images: Handwriting) -> Params:
    """Fresh parameters of a model, but those of its eye, which have learnt to name digits."""
    params = jax.jit(model.init)(jax.random.key(config.seed))
    head = {"kernel": jnp.zeros((config.features // 2, 10)), "bias": jnp.zeros(10)}
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, max(config.eye_steps, 1)))

    @jax.jit
    def step(learned: Any, state: Any, frames: jax.Array, there: jax.Array) -> Any:
        def loss(learned: Any) -> jax.Array:
            eye, head = learned
            what = model.bind({**params, "frame": eye}).frame(frames)[:, : config.features // 2]
            logits = what @ head["kernel"] + head["bias"]
            return optax.sigmoid_binary_cross_entropy(logits, there).mean()

        value, gradients = jax.value_and_grad(loss)(learned)
        updates, state = optimizer.update(gradients, state, learned)
        return optax.apply_updates(learned, updates), state, value

    learned = (params["frame"], head)
    state, value = optimizer.init(learned), jnp.inf
    for number in range(config.eye_steps):
        rng = np.random.default_rng((config.seed, number))
        learned, state, value = step(learned, state, *frames_with_digits(rng, images, config.digits, FRAMES))
    print(f"the eye names digits with a loss of {float(value):.3f}")
    return {**params, "frame": learned[0]}
