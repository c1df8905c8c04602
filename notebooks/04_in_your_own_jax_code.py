# %% [markdown]
# # In your own JAX code
#
# A cell is a value with three pure functions, and its parameters are a tree of arrays. There is nothing to subclass, no
# context and no trainer. So `jax.jit`, `grad`, `vmap` and shardings apply as to any function of JAX. This notebook has four
# short examples: a loss of your own, several seeds at once, a cell of your own, and sharding. The next one,
# [09_a_recurrent_policy](09_a_recurrent_policy.ipynb), has a longer one: recurrent PPO.

# %%
import dataclasses
import functools

import jax

jax.config.update("jax_num_cpu_devices", 2)  # before the first array: two devices to divide a batch over

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import lstmjax

# %% [markdown]
# ## A loss of your own
#
# Which of two words came first in a noisy sequence? Sequences have unequal lengths, only the last valid output counts, and
# the loss is whatever you write. `unroll` returns the state after the last *valid* step of each row, so there is nothing to
# gather.

# %%
cell = lstmjax.lstm(features=8, hidden=32, forget_bias=3.0)


def draw(key, rows=64, time=30):
    """Noise with two marks, their order, and the lengths of the sequences."""
    keys = jax.random.split(key, 4)
    lengths = jax.random.randint(keys[0], (rows,), 10, time + 1)
    first = jax.random.bernoulli(keys[1], shape=(rows,))
    places = jax.random.randint(keys[2], (rows, 2), jnp.array([0, 5]), jnp.array([5, 10]))
    inputs = 0.3 * jax.random.normal(keys[3], (rows, time, 8))
    marks = jax.nn.one_hot(places, time)  # [rows, 2, time]
    inputs = inputs.at[..., 0].add(jnp.where(first[:, None], marks[:, 0], marks[:, 1]))
    inputs = inputs.at[..., 1].add(jnp.where(first[:, None], marks[:, 1], marks[:, 0]))
    return inputs, lengths, first


def init(key):
    """Parameters: a plain dictionary."""
    return {"cell": cell.init(key), "readout": jnp.zeros(32)}


def loss(params, batch):
    """The logistic loss of the answer, and the share of right ones."""
    inputs, lengths, first = batch
    state, _ = lstmjax.unroll(cell, params["cell"], inputs, lengths=lengths)
    logits = state.hidden @ params["readout"]
    right = (logits > 0) == first
    return optax.sigmoid_binary_cross_entropy(logits, first).mean(), right.mean()


# %% [markdown]
# ## Several seeds at once
#
# A whole training run is a function of a key. `vmap` over keys trains eight networks as one program: the products become
# larger, and each operation is dispatched once for all.


# %%
def train(key, steps=300):
    """The share of right answers in each step of training."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))

    def step(carry, key):
        params, state = carry
        (_, right), gradient = jax.value_and_grad(loss, has_aux=True)(params, draw(key))
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), right

    params = init(key)
    return jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, steps))[1]


curves = np.asarray(jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), 8)))
figure, axes = plt.subplots(figsize=(6, 2.6))
axes.plot(curves.T, color="tab:blue", alpha=0.3, linewidth=0.8)
axes.plot(np.median(curves, axis=0), color="black", label="median of eight seeds")
axes.set(xlabel="step of training", ylabel="share right", ylim=(0.4, 1.02))
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# One seed would have shown one of the thin lines. Which one is luck.
#
# ## A cell of your own
#
# What a cell has to say is one step. Everything else, padding, resets, direction, stacks, any batch, comes from
# `unroll`. Here is a leaky unit in ten lines: each unit has a time constant that is learned.


# %%
@dataclasses.dataclass(frozen=True, repr=False)
class Leaky(lstmjax.Cell):
    """h = a h + (1 - a) tanh(W x + R h), with a = sigmoid(leak) for each unit."""

    features: int
    hidden: int
    input_dtype = jnp.float32
    output_size = property(lambda self: self.hidden)

    def init(self, key):
        """Kernel [features + hidden, hidden], leak [hidden]."""
        return jax.random.normal(key, (self.features + self.hidden, self.hidden)) / 8, jnp.full(
            self.hidden, 2.0
        )

    def initial_state(self, batch_shape=()):
        """Zeros."""
        return jnp.zeros((*batch_shape, self.hidden))

    def step(self, params, state, inputs):
        """One time step."""
        kernel, leak = params
        new = jnp.tanh(jnp.concatenate([inputs, state], axis=-1) @ kernel)
        state = state + jax.nn.sigmoid(-leak) * (new - state)
        return state, state


# %% [markdown]
# Does it keep the contract? The points are short enough to write down.

# %%
leaky = Leaky(features=3, hidden=5)
params = leaky.init(jax.random.key(0))
inputs = jax.random.normal(jax.random.key(1), (2, 12, 3))
run = functools.partial(lstmjax.unroll, leaky, params)


def same(name, one, other):
    """Say whether two results agree."""
    print(f"{name:48}{'yes' if np.allclose(one, other, atol=1e-6) else 'NO'}")


state, rows = leaky.initial_state((2,)), []
for t in range(12):
    state, output = leaky.step(params, state, inputs[:, t])
    rows.append(output)
same("unroll is the loop over steps", run(inputs)[1], jnp.stack(rows, axis=1))
half, _ = run(inputs[:, :5])
same("two halves are the whole", run(inputs[:, 5:], half)[0], run(inputs)[0])
lengths = jnp.array([12, 7])
padded = jnp.where(jnp.arange(12)[:, None] < lengths[:, None, None], inputs, jnp.nan)
same("padding does not matter, NaN included", run(padded, lengths=lengths)[0][1], run(inputs[1, :7])[0])
resets = jnp.zeros((2, 12), bool).at[:, 4].set(True)
same("a reset begins a new sequence", run(inputs, resets=resets)[0], run(inputs[:, 4:])[0])
same("backwards is forwards over the reversed", run(inputs, reverse=True)[0], run(inputs[:, ::-1])[0])
deep = lstmjax.stack(leaky, lstmjax.residual(lstmjax.lstm(5, 5)))
both = lstmjax.bidirectional(leaky, lstmjax.gru(3, 5))
for each in (deep, both):
    shape = jax.eval_shape(functools.partial(lstmjax.unroll, each), each.init(jax.random.key(0)), inputs)[
        1
    ].shape
    print(each, "->", shape)

# %% [markdown]
# ## Divided over devices
#
# A batch that is divided over devices stays divided; the code is the same. XLA sums the gradient of the parameters and
# moves nothing else. (Here the two devices are the cores of a CPU.)

# %%
from jax.sharding import NamedSharding, PartitionSpec

mesh = jax.make_mesh((jax.device_count(),), ("data",))
batch = jax.device_put(draw(jax.random.key(0)), NamedSharding(mesh, PartitionSpec("data")))
whole = jax.device_put(init(jax.random.key(1)), NamedSharding(mesh, PartitionSpec()))
gradient = jax.jit(jax.grad(lambda params, batch: loss(params, batch)[0]))
divided = gradient(whole, batch)
alone = gradient(init(jax.random.key(1)), draw(jax.random.key(0)))
print("batch:", batch[0].sharding.spec, "over", jax.device_count(), "devices")
print("gradient:", divided["cell"].kernel.sharding.spec)
distance = max(
    jax.tree.leaves(jax.tree.map(lambda one, other: float(abs(one - other).max()), divided, alone))
)
print(f"largest difference from one device: {distance:.1e}")

# %% [markdown]
# ## What to try next
#
# - Put `Leaky` into `lstmjax.dropout(..., outputs=0.5)`, and draw its noise by `sample`.
# - Give each of the eight networks another learning rate: `vmap` over keys and rates.
# - `lstmjax.explain(leaky, (2, 12, 3))` says how a cell of your own is run.
