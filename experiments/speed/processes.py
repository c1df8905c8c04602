"""Training steps of several processes on this machine, for the roofline."""

import json
import socket
import subprocess
import sys
from collections.abc import Sequence

from experiments.speed.config import PROCESSES
from experiments.speed.peers import Layer
from lstmjax.training import TrainingError, distributed


def measure_processes(rounds: int, sizes: Sequence[Layer]) -> dict[str, float]:
    """Times of sums and of training steps by so many processes, each with one device.

    Raises:
      TrainingError: a process has failed.
    """
    figures: dict[str, float] = {}
    for count in PROCESSES:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            coordinator = f"127.0.0.1:{free.getsockname()[1]}"
        arguments = [coordinator, str(count), str(rounds), *map(str, sizes)]
        command = [sys.executable, "-c", "from experiments.speed.processes import main; main()"]
        started = [
            subprocess.Popen([*command, str(number), *arguments], stdout=subprocess.PIPE, text=True)
            for number in range(count)
        ]
        outputs = [process.communicate()[0] for process in started]
        if any(process.returncode for process in started):
            raise TrainingError(f"of {count} processes on this machine, one has failed.")
        figures |= json.loads(outputs[0].splitlines()[-1])
    return figures


def main() -> None:
    """Be one of the processes, as the arguments say, and print what it has measured as JSON."""
    from experiments.speed import scaling  # noqa: PLC0415 (it imports this module)

    number, coordinator, count, rounds, *names = sys.argv[1:]
    sizes = [Layer.of(name) for name in names]
    distributed.initialize(coordinator, int(count), int(number))
    figures = scaling.measure_sums(int(rounds), (int(count),), "_processes")
    figures |= scaling.measure_steps(int(rounds), sizes, (int(count),), "_processes")
    print(json.dumps(figures))
