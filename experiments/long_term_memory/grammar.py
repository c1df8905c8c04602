"""The embedded Reber grammar, as a finite automaton.

A string is B, then T or P, then a string of the Reber grammar, then the same T or P again, then E. To predict
the last symbol but one, a network has to remember the second.

Source: Reber 1967 (J. Verbal Learning and Verbal Behavior 6(6)); Cleeremans, Servan-Schreiber and McClelland
1989 (Neural Computation 1(3)); Hochreiter and Schmidhuber 1997, figures 3 and 4.
"""

from typing import NamedTuple

import numpy as np

SYMBOLS = "BTPSXVE"

REBER: dict[int, dict[str, int]] = {
    0: {"B": 1},
    1: {"T": 2, "P": 3},
    2: {"S": 2, "X": 4},
    3: {"T": 3, "V": 5},
    4: {"X": 3, "S": 6},
    5: {"P": 4, "V": 6},
    6: {"E": 7},
}
"""The Reber grammar: for each node, the symbols that may follow, and where each leads; 7 is the end."""

END = 7


class Automaton(NamedTuple):
    """The embedded grammar with its nodes in one row; after E it begins anew, at node 0."""

    following: np.ndarray
    """int [nodes, symbols]: the node that a symbol leads to; -1 if it may not follow."""

    @property
    def legal(self) -> np.ndarray:
        """bool [nodes, symbols]: which symbols may follow."""
        return self.following >= 0

    def walk(self, rng: np.random.Generator, rows: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Random walks from node 0; where two symbols may follow, each has probability 1/2.

        Returns:
          Symbols, int ``[rows, steps]``, and the nodes that they lead to, int ``[rows, steps]``.
        """
        first = self.legal.argmax(axis=1)
        second = len(SYMBOLS) - 1 - self.legal[:, ::-1].argmax(axis=1)
        coins = rng.integers(0, 2, (steps, rows), dtype=bool)
        node, symbols, nodes = np.zeros(rows, int), [], []
        for heads in coins:
            symbol = np.where(heads, first[node], second[node])
            node = self.following[node, symbol]
            symbols.append(symbol)
            nodes.append(node)
        return np.stack(symbols, axis=1), np.stack(nodes, axis=1)


def embedded() -> Automaton:
    """The embedded grammar: a copy of the Reber grammar for each of T and P, between two of that symbol."""
    following = np.full((2 + 2 * (END + 2), len(SYMBOLS)), -1)
    following[0, SYMBOLS.index("B")] = 1
    for copy, symbol in enumerate("TP"):
        start = 2 + copy * (END + 2)
        following[1, SYMBOLS.index(symbol)] = start
        for node, edges in REBER.items():
            for inner, target in edges.items():
                following[start + node, SYMBOLS.index(inner)] = start + target
        following[start + END, SYMBOLS.index(symbol)] = start + END + 1
        following[start + END + 1, SYMBOLS.index("E")] = 0
    return Automaton(following)
