"""The eye learns to name digits before the LSTMs learn sentences.

The papers take networks that were trained to classify photographs, and train LSTMs on their features. Here a
linear layer tells which digits are in single frames, from the half of the eye's vector that is to know what
there is, and, if places are asked for, another where each of them is, from the other half; afterwards both
are thrown away.
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

PLACES = 10.0
"""The weight of the squared error of places beside the cross entropy of digits."""


def frames_with_digits(
    rng: np.random.Generator, images: Handwriting, digits: int, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames with so many different digits at random places.

    Returns:
      The frames, which digits there are ``[count, 10]``, and where these are ``[count, 10, 2]``, in y and x,
      where 0 and 1 are the borders.
    """
    frames, there, places = [], np.zeros((count, 10), np.float32), np.zeros((count, 10, 2), np.float32)
    for row in range(count):
        chosen = rng.permutation(10)[:digits].tolist()
        actors = tuple(Actor(digit, (rng.random(), rng.random()), ()) for digit in chosen)
        frames.append(render(rng, Story(actors, ""), images, frames=1)[0])
        there[row, chosen] = 1
        places[row, chosen] = [actor.start for actor in actors]
    return np.stack(frames), there, places


def trained(config: Config, model: Functional, images: Handwriting) -> Params:
    """Fresh parameters of a model, but those of its eye, which have learnt to name digits."""
    params = jax.jit(model.init)(jax.random.key(config.seed))
    half = config.features // 2
    sizes = [(half, 10), (config.features - half, 20)][: 1 + config.eye_places]
    heads = [{"kernel": jnp.zeros(size), "bias": jnp.zeros(size[1])} for size in sizes]
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, max(config.eye_steps, 1)))

    @jax.jit
    def step(learned: Any, state: Any, frames: jax.Array, there: jax.Array, places: jax.Array) -> Any:
        def loss(learned: Any) -> jax.Array:
            eye, heads = learned
            seen = jnp.split(model.bind({**params, "frame": eye}).frame(frames), [half], axis=-1)
            told = [x @ head["kernel"] + head["bias"] for x, head in zip(seen, heads, strict=False)]
            total = optax.sigmoid_binary_cross_entropy(told[0], there).mean()
            if config.eye_places:
                error = (told[1].reshape(places.shape) - places) ** 2
                total += PLACES * (error * there[..., None]).sum() / (2 * there.sum())
            return total

        value, gradients = jax.value_and_grad(loss)(learned)
        updates, state = optimizer.update(gradients, state, learned)
        return optax.apply_updates(learned, updates), state, value

    learned = (params["frame"], heads)
    state, value = optimizer.init(learned), jnp.inf
    for number in range(config.eye_steps):
        rng = np.random.default_rng((config.seed, number))
        learned, state, value = step(learned, state, *frames_with_digits(rng, images, config.digits, FRAMES))
    print(f"the eye has learnt, with a loss of {float(value):.3f}")
    return {**params, "frame": learned[0]}
