# %% [markdown]
# # In your own JAX code
#
# A cell is a value with three pure functions, and its parameters are a tree of arrays. There is nothing to subclass, no
# context and no trainer. So `jax.jit`, `grad`, `vmap` and shardings apply as to any function of JAX. This notebook has five
# short examples: a loss of your own, several seeds at once, a cell of your own, sharding, and a recurrent policy trained by
# PPO.

# %%
import dataclasses
import functools
import time
from typing import Any, NamedTuple

import jax

jax.config.update("jax_num_cpu_devices", 2)  # before the first array: two devices to divide a batch over

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import linen as nn

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
    places = jnp.sort(
        jax.vmap(lambda k: jax.random.permutation(k, 10)[:2])(jax.random.split(keys[2], rows)), 1
    )
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
print("gradient:", divided["cell"].kernel.sharding.spec or "whole on each device")
distance = max(
    jax.tree.leaves(jax.tree.map(lambda one, other: float(abs(one - other).max()), divided, alone))
)
print(f"largest difference from one device: {distance:.1e}")

# %% [markdown]
# ## A recurrent policy, trained by PPO
#
# In reinforcement learning one row of a batch holds many episodes, one after the other. The state has to be reset where a
# new one begins, in acting and again in each pass of training. JAX code bases such as purejaxrl and JaxMARL write a
# scanned module for it, `ScannedRNN`. Here it is one argument: `unroll(..., resets=new)`.
#
# The world is a corridor. At its entrance a sign shows one of four colours; after 8 to 16 steps there is a door, and whoever
# names the colour there gets 1. Without memory the expected return is 0.25.

# %%
COLOURS, STEPS, EPOCHS, PARTS = 4, 128, 4, 4  # as in purejaxrl's ppo_rnn.py but for the colours


class Corridors(NamedTuple):
    """The state of worlds, arrays [rows]."""

    colour: Any
    time: Any
    length: Any


def enter(key, rows):
    """New corridors."""
    colour, length = jax.random.uniform(key, (2, rows))
    whole = (
        jnp.floor(COLOURS * colour).astype(int),
        jnp.zeros(rows, int),
        8 + jnp.floor(9 * length).astype(int),
    )
    return Corridors(*whole)


def observe(worlds):
    """The sign at the entrance, and whether here is the door."""
    sign = jax.nn.one_hot(worlds.colour, COLOURS) * (worlds.time == 0)[:, None]
    return jnp.concatenate([sign, (worlds.time == worlds.length - 1)[:, None]], axis=1)


def act(key, worlds, action):
    """The next states, the rewards, and whether episodes are over."""
    done = worlds.time == worlds.length - 1
    after = worlds._replace(time=worlds.time + 1)
    worlds = jax.tree.map(lambda new, old: jnp.where(done, new, old), enter(key, len(done)), after)
    return worlds, jnp.where(action == after.colour, 1.0, 0.0) * done, done


# %% [markdown]
# Two memories with the same interface. The first is `unroll`. The second is the module that one writes by hand, after the
# same idea as purejaxrl's, for the LSTM and the GRU of Flax.


# %%
class Unrolled(NamedTuple):
    """A cell of this library."""

    cell: Any

    def init(self, key):
        """Parameters."""
        return self.cell.init(key)

    def start(self, rows):
        """The initial state."""
        return self.cell.initial_state((rows,))

    def run(self, params, state, inputs, new):
        """Over inputs [time, rows, features], from the initial state where an episode is new."""
        return lstmjax.unroll(self.cell, params, inputs, state, resets=new, time_axis=0)


class ScannedRNN(nn.Module):
    """A scan over time of a Flax cell that begins anew where the flag says so."""

    cell: Any
    hidden: int

    @functools.partial(nn.scan, variable_broadcast="params", split_rngs={"params": False})
    @nn.compact
    def __call__(self, state, step):
        """One step of a cell."""
        inputs, new = step
        state = jax.tree.map(lambda leaf: jnp.where(new[:, None], 0.0, leaf), state)
        return self.cell(self.hidden)(state, inputs)


class Scanned(NamedTuple):
    """A cell of Flax in `ScannedRNN`."""

    cell: Any
    hidden: int

    def init(self, key):
        """Parameters."""
        blank = jnp.zeros((1, 1, self.hidden)), jnp.zeros((1, 1), bool)
        return ScannedRNN(*self).init(key, self.start(1), blank)

    def start(self, rows):
        """The initial state."""
        one = self.cell(self.hidden, parent=None)
        return one.initialize_carry(jax.random.key(0), (rows, self.hidden))

    def run(self, params, state, inputs, new):
        """As `Unrolled.run`."""
        return ScannedRNN(*self).apply(params, state, (inputs, new))


# %% [markdown]
# PPO itself, in less than a hundred lines. It knows nothing of either memory but `init`, `start` and `run`.


# %%
class Seen(NamedTuple):
    """What was seen in a step; arrays [time, rows]."""

    sight: Any
    new: Any
    action: Any
    log_probability: Any
    value: Any
    reward: Any
    done: Any


class Learner(NamedTuple):
    """All that goes from update to update."""

    params: Any
    optimizer_state: Any
    worlds: Any
    state: Any
    done: Any


optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(3e-3, eps=1e-5))


def begin(memory, hidden, rows, key):
    """A new policy, and as many worlds as rows: dense, memory, and two heads of two layers."""
    keys = jax.random.split(key, 5)
    dense = jax.nn.initializers.he_normal()
    params = {
        "memory": memory.init(keys[0]),
        "in": dense(keys[1], (COLOURS + 1, hidden)),
        "policy": dense(keys[2], (hidden, hidden)),
        "value": dense(keys[3], (hidden, hidden)),
        "logits": jnp.zeros((hidden, COLOURS)),
        "return": jnp.zeros((hidden, 1)),
    }
    worlds, state = enter(keys[4], rows), memory.start(rows)
    return Learner(params, optimizer.init(params), worlds, state, jnp.ones(rows, bool))


def policy(memory, params, state, sight, new):
    """The next state, and logits and values of observations [time, rows, 5]."""
    state, hidden = memory.run(params["memory"], state, jax.nn.relu(sight @ params["in"]), new)
    logits = jax.nn.relu(hidden @ params["policy"]) @ params["logits"]
    return state, logits, (jax.nn.relu(hidden @ params["value"]) @ params["return"])[..., 0]


def log_probabilities(logits, action):
    """Of the actions that were taken."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]


def rollout(memory, learner, key):
    """Act for `STEPS` steps."""

    def step(carry, key):
        worlds, state, new = carry
        keys = jax.random.split(key)
        sight = observe(worlds)
        state, logits, value = policy(memory, learner.params, state, sight[None], new[None])
        action = jax.random.categorical(keys[0], logits[0])
        worlds, reward, done = act(keys[1], worlds, action)
        return (worlds, state, done), Seen(
            sight, new, action, log_probabilities(logits[0], action), value[0], reward, done
        )

    return jax.lax.scan(step, (learner.worlds, learner.state, learner.done), jax.random.split(key, STEPS))


def advantages(seen, last, discount=0.99, decay=0.95):
    """Generalized advantage estimation (Schulman et al. 2016)."""

    def back(carry, step):
        advantage, following = carry
        lives = discount * (1 - step.done)
        advantage = step.reward + lives * following - step.value + decay * lives * advantage
        return (advantage, step.value), advantage

    return jax.lax.scan(back, (jnp.zeros_like(last), last), seen, reverse=True)[1]


def ppo_loss(memory, params, state, seen, advantage):
    """The clipped losses of policy and value, and the entropy (Schulman et al. 2017)."""
    _, logits, value = policy(memory, params, state, seen.sight, seen.new)
    ratio = jnp.exp(log_probabilities(logits, seen.action) - seen.log_probability)
    scaled = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    gain = jnp.minimum(ratio * scaled, jnp.clip(ratio, 0.8, 1.2) * scaled).mean()
    wanted, near = advantage + seen.value, seen.value + jnp.clip(value - seen.value, -0.2, 0.2)
    error = jnp.maximum(jnp.square(value - wanted), jnp.square(near - wanted)).mean()
    entropy = -(jax.nn.softmax(logits) * jax.nn.log_softmax(logits)).sum(axis=-1).mean()
    return 0.25 * error - gain - 0.01 * entropy


def update(memory, learner, key):
    """Act, then learn from it in some epochs over parts of the rows; also the mean return of an episode."""
    keys = jax.random.split(key)
    (worlds, state, done), seen = rollout(memory, learner, keys[0])
    last = policy(memory, learner.params, state, observe(worlds)[None], done[None])[2][0]
    advantage = advantages(seen, last)

    def learn(carry, rows):
        params, optimizer_state = carry
        start, taken = jax.tree.map(lambda leaf: leaf[rows], learner.state), (seen, advantage)
        taken = jax.tree.map(lambda leaf: leaf[:, rows], taken)
        gradient = jax.grad(functools.partial(ppo_loss, memory))(params, start, *taken)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state)
        return (optax.apply_updates(params, updates), optimizer_state), None

    order = jnp.argsort(jax.random.uniform(keys[1], (EPOCHS, len(done))), axis=1)
    (params, optimizer_state), _ = jax.lax.scan(
        learn, (learner.params, learner.optimizer_state), order.reshape(EPOCHS * PARTS, -1)
    )
    return Learner(params, optimizer_state, worlds, state, done), seen.reward.sum() / seen.done.sum()


# %% [markdown]
# ### Equal return
#
# Small policies of 32 units in 16 worlds, three seeds each.


# %%
def returns(memory, seeds=3, updates=20):
    """The mean return in each update, for each seed."""
    train_policy = jax.jit(
        lambda learner, keys: jax.lax.scan(functools.partial(update, memory), learner, keys)[1]
    )
    start = jax.jit(functools.partial(begin, memory, 32, 16))
    keys = [jax.random.key(seed) for seed in range(seeds)]
    return np.stack([train_policy(start(key), jax.random.split(key, updates)) for key in keys])


memories = {
    "unroll, LSTM": Unrolled(lstmjax.lstm(32, 32)),
    "ScannedRNN, Flax LSTM": Scanned(nn.OptimizedLSTMCell, 32),
}
figure, axes = plt.subplots(figsize=(6, 2.8))
for (name, memory), colour in zip(memories.items(), ("tab:blue", "tab:orange"), strict=True):
    curves = returns(memory)
    axes.plot(curves.T, color=colour, alpha=0.3, linewidth=0.8)
    axes.plot(curves.mean(axis=0), color=colour, label=name)
    print(f"{name:24} mean return of the last five updates {curves[:, -5:].mean():.3f}")
axes.axhline(1 / COLOURS, color="black", linestyle=":", label="without memory")
axes.set(xlabel="update", ylabel="return of an episode", ylim=(0, 1.05))
axes.legend()
plt.show()

# %% [markdown]
# ### Seconds an update
#
# Now policies of 128 units, as in purejaxrl, in 32 worlds, on one device. All are compiled, then timed in turn, and the least of several
# times counts, since whatever else the machine does only adds; the time of the processor leaves that out altogether. An update acts for 128 steps and then goes 16
# times through a quarter of the rows.

# %%
wide = {
    "unroll, LSTM": Unrolled(lstmjax.lstm(128, 128)),
    "ScannedRNN, Flax LSTM": Scanned(nn.OptimizedLSTMCell, 128),
    "ScannedRNN, Flax GRU": Scanned(nn.GRUCell, 128),
}


def seconds(rows, repeats=4):
    """Least seconds of an update with each memory: on the clock, and of the processor."""
    runs, found = {}, {name: [] for name in wide}
    for name, memory in wide.items():
        learner = jax.jit(functools.partial(begin, memory, 128, rows))(jax.random.key(0))
        runs[name] = functools.partial(jax.jit(functools.partial(update, memory)), learner, jax.random.key(0))
        jax.block_until_ready(runs[name]())  # compiles
    for _ in range(repeats):
        for name, run in runs.items():
            before = time.perf_counter(), time.process_time()
            jax.block_until_ready(run())
            found[name].append((time.perf_counter() - before[0], time.process_time() - before[1]))
    return {name: np.min(times, axis=0) for name, times in found.items()}


found = seconds(rows=32)
print("memory                   seconds      ratio   of the processor   ratio")
for name, least in found.items():
    clock, processor = least / found["unroll, LSTM"]
    print(f"{name:22}{least[0]:10.3f} {clock:10.2f} {least[1]:18.3f} {processor:7.2f}")

# %% [markdown]
# Against the same cell in `ScannedRNN` the update is faster, because both directions of the recurrence run as compiled C++
# on a CPU and the backward pass has its matrix products outside of the loop. The rest of an update is equal for all:
# acting, dense layers, Adam. Acting alone cannot gain: there `unroll` has one step. A GRU has three gates where an LSTM has four, so Flax's GRU, which purejaxrl and JaxMARL
# take, does less work than both; compare it as another model. With shorter rollouts or smaller policies acting
# takes a larger share, and the gain shrinks.
#
# ## What to try next
#
# - Time 16 and 64 worlds. Where does a row cost nothing?
# - Make corridors of 30 to 40 steps. Which `forget_bias` learns them first?
# - Leave out `resets=new` in `Unrolled.run`. The return falls, but not to 0.25: why not?
# - Put `Leaky` into `Unrolled`. It runs by `scan`; `lstmjax.explain` says so.
