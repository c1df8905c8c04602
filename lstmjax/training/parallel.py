"""Training on several devices: where the arrays of a task lie. And the memory of the host.

There is one mesh with one axis. A task of one model divides the rows of its batches over it, and each device
has all parameters; XLA then sums the gradient over the devices, and computes what a single one would. A task
of several models (`Task.models`) divides the models, and each device has the whole batch.
"""

import ctypes
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lstmjax.training.config import ConfigError

AXIS = "data"
"""The axis of the mesh."""

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # of mallopt(3)


class Placement(NamedTuple):
    """Where the arrays of a task lie; without a mesh, on the one device."""

    mesh: Mesh | None = None
    models: int | None = None

    def rows(self, tree: Any) -> Any:
        """Divide arrays with a leading axis of rows: a batch, or a carry.

        Rows that do not divide evenly are on every device, which is right, and no faster than one device.
        """
        if self.models is not None:
            return self.state(tree)
        return self._put(tree, lambda shape: bool(shape) and shape[0] % self._size == 0)

    def state(self, tree: Any) -> Any:
        """Parameters, and what is kept beside them: on every device, or divided by models."""
        divides = self.models is not None and self.models % self._size == 0
        return self._put(tree, lambda shape: divides and shape[:1] == (self.models,))

    def everywhere(self, tree: Any) -> Any:
        """On every device."""
        return self._put(tree, lambda shape: False)

    @property
    def _size(self) -> int:
        return 1 if self.mesh is None else self.mesh.size

    def _put(self, tree: Any, is_divided: Callable[[tuple[int, ...]], bool]) -> Any:
        if self.mesh is None:
            return tree
        mesh = self.mesh

        def one(leaf: Any) -> Any:
            sharding = NamedSharding(mesh, PartitionSpec(AXIS) if is_divided(leaf.shape) else PartitionSpec())
            if isinstance(leaf, jax.core.Tracer):
                return jax.lax.with_sharding_constraint(leaf, sharding)
            if jax.process_count() == 1:
                return jax.device_put(leaf, sharding)
            return jax.make_array_from_callback(leaf.shape, sharding, np.asarray(leaf).__getitem__)

        return jax.tree.map(one, tree)


def placement(devices: int = 0, models: int | None = None) -> Placement:
    """The placement of a task.

    Args:
      devices: how many; 0 for all accelerators, or one CPU, whose cores one device uses. Of several processes
        (`distributed`) all devices are used.
      models: `Task.models`; of the devices, as many are used as divide them evenly.

    Raises:
      ConfigError: there are not so many devices.
    """
    found = jax.devices()
    uses_one = jax.default_backend() == "cpu" and jax.process_count() == 1
    count = devices or (1 if uses_one else len(found))
    if jax.process_count() > 1 and count != len(found):
        raise ConfigError(f"train.devices is {count}, but the processes have {len(found)}: leave it out.")
    if count > len(found):
        raise ConfigError(
            f"train.devices is {count}, but JAX has {len(found)} of kind {found[0].platform}. Those of a CPU "
            "are made when JAX starts: set JAX_NUM_CPU_DEVICES."
        )
    count = count if models is None or jax.process_count() > 1 else math.gcd(models, count)
    return Placement(Mesh(np.array(found[:count]), (AXIS,)) if count > 1 else None, models)


def placement_of(params: Any, models: int | None) -> Placement:
    """The placement that parameters have."""
    for leaf in jax.tree.leaves(params):
        sharding = getattr(leaf, "sharding", None)
        if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
            return Placement(sharding.mesh if sharding.mesh.axis_names == (AXIS,) else None, models)
    return Placement(None, models)


def keep_memory() -> bool:
    """Let glibc keep freed memory instead of returning it to the kernel after each computation.

    XLA on CPU allocates its buffers anew for each call. Those of a training step are so large that glibc
    requests them from the kernel and returns them every time, so each step waits for pages to be mapped and
    zeroed. All threads share one heap: in those that threads have of their own, glibc requests and returns
    all that is larger than 64 MiB, whatever the other settings. The cost is that the process stays at its
    peak size, and that many threads which allocate at once wait for each other. Call it before anything is
    computed, and before threads are started: they keep the heaps that they have, and give them to others. For
    all of the effect in any case, set MALLOC_ARENA_MAX=1 in the environment.

    Returns:
      Whether the setting was applied; it has no effect on C libraries other than glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 64 * 2**20, _ARENA_MAX: 1}
    done = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(done)
