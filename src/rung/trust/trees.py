"""Boosted trees as plain numbers: small complete trees evaluated by numpy alone.

A tree of depth d is stored complete: 2^d - 1 splits (feature and threshold; a row goes right when
its value is above) and 2^d leaf values. The sum over all trees is added to an offset, in log odds.
How trees are grown is `fitting`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Tree(msgspec.Struct, frozen=True):
    """One complete tree.

    Attributes:
        features: column looked at by each split, breadth first; length 2^depth - 1.
        thresholds: a row goes right where its value is above.
        values: of the leaves from left to right; length 2^depth.
    """

    features: tuple[int, ...]
    thresholds: tuple[float, ...]
    values: tuple[float, ...]


def sum_of_trees(trees: Sequence[Tree], columns: Floats) -> Floats:
    """The trees' total for every row.

    Args:
        columns: shape (features, rows), C-contiguous, without NaN.

    Returns:
        Shape (rows,). The order of additions is that of the trees, so a row's total does not depend
        on the rows beside it.
    """
    rows = columns.shape[1]
    everyone = np.arange(rows)
    total = np.zeros(rows)
    for tree in trees:
        features = np.array(tree.features, dtype=np.intp)
        thresholds = np.array(tree.thresholds)
        splits = len(features)
        node = np.zeros(rows, dtype=np.intp)
        for _ in range(len(tree.values).bit_length() - 1):
            node = 2 * node + 1 + (columns[features[node], everyone] > thresholds[node])
        total += np.array(tree.values)[node - splits]
    return total
