# %% [markdown]
# # A recurrent policy, trained by PPO
#
# In reinforcement learning one row of a batch holds many episodes, one after the other. The state has to be reset where a
# new one begins, in acting and again in each pass of training. JAX code bases such as purejaxrl and JaxMARL write a
# scanned module for it, `ScannedRNN`. Here it is one argument: `unroll(..., resets=new)`.
#
# The world is a corridor. At its entrance a sign shows one of four colours; after 8 to 16 steps there is a door, and whoever
# names the colour there gets 1. Without memory the expected return is 0.25.

# %%
import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import linen as nn

import lstmjax

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
# ## Equal return
#
# Small policies of 32 units in 16 worlds, three seeds each.


# %%
def returns(memory, seeds=3, updates=30):
    """The mean return in each update, for each seed."""
    train_policy = jax.jit(
        lambda learner, keys: jax.lax.scan(functools.partial(update, memory), learner, keys)[1]
    )
    start = jax.jit(functools.partial(begin, memory, 32, 16))
    keys = [jax.random.key(seed) for seed in range(seeds)]
    return np.stack([train_policy(start(key), jax.random.split(key, updates)) for key in keys])


memories = {
    "unroll, LSTM": Unrolled(lstmjax.lstm(32, 32, forget_bias=0.0)),  # as Flax has it
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
# Both find out what to remember, within the spread of three seeds equally well: with a forget bias of 0 they are the same function, into which
# [08_bringing_your_weights](08_bringing_your_weights.ipynb) converts either, and only the initial weights differ.
#
# ## Seconds an update
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
# Against the same cell in `ScannedRNN` an update takes less time, because both directions of the recurrence run as compiled
# C++ on a CPU and the backward pass has its matrix products outside of the loop. (The machine that built this page was
# busy with much else, so the time of the processor says more than the clock.) The rest of an update is equal for all:
# dense layers, Adam, and acting, where `unroll` has one step and cannot gain. With shorter rollouts or smaller
# policies acting takes a larger share, and the gain shrinks. purejaxrl and JaxMARL take Flax's GRU. It is another
# model, with three gates where an LSTM has four, and by the clock an LSTM of ours gains nothing over it here.
#
# ## What to try next
#
# - Take the default forget bias of 1 in place of 0: a gate that begins half shut forgets the sign before it is of use.
#   How many updates does it save?
# - Time 16 and 64 worlds. Where does a row cost nothing?
# - Make corridors of 30 to 40 steps. Which `forget_bias` learns them first?
# - Leave out `resets=new` in `Unrolled.run`. Does the return fall? The sign itself may tell the network to forget.
# - Put the cell of [04_in_your_own_jax_code](04_in_your_own_jax_code.ipynb) into `Unrolled`.
