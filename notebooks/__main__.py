"""`python -m notebooks [NAME ...]`: execute scripts, and write each with its outputs as a notebook.

python -m notebooks                 all of them
python -m notebooks 01 07           those whose names begin so
"""

import sys
import time
from collections.abc import Sequence

from notebooks import pairing


def main(prefixes: Sequence[str]) -> int:
    """Build the notebooks whose names begin with one of the prefixes; returns the exit status."""
    if any(prefix.startswith("-") for prefix in prefixes):
        print(__doc__)
        return 0
    chosen = [script for script in pairing.SCRIPTS if script.name.startswith(tuple(prefixes) or "")]
    for script in chosen:
        start = time.perf_counter()
        path = pairing.write(pairing.execute(pairing.read_script(script)), script)
        seconds, size = time.perf_counter() - start, path.stat().st_size / 1000
        print(f"{path.name}: {seconds:.0f} s, {size:.0f} kB", flush=True)
    if not chosen:
        names = ", ".join(script.stem for script in pairing.SCRIPTS)
        print(f"no notebook begins with {' or '.join(prefixes)}; there are {names}.", file=sys.stderr)
    return int(not chosen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
