"""Vectors on a plane: principal components by numpy alone, for a few thousand vectors."""

import dataclasses
from typing import Any

import numpy as np

Array = np.ndarray[tuple[int, int], np.dtype[np.float64]]

_DIMENSIONS = 2
# Of what is iterated upon, so that the two are found however close the third is.
_BLOCK = 24
_MAX_ROUNDS = 12
_ITERATIONS_PER_ROUND = 5
_PRECISION = 1e-10
# What is less than this share of the values is rounding.
_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Projection:
    """Vectors on their first two principal components.

    Attributes:
        points: float64 [vectors, 2], of mean 0; the first column has the greater variance.
        explained: the share of the whole variance that each column has, 0 to 1.
    """

    points: Array
    explained: tuple[float, float]


def project(vectors: np.ndarray[tuple[int, int], np.dtype[Any]]) -> Projection:
    """Returns the projection of finite vectors [number, width], however few or alike; where nothing varies it is 0.

    Equal vectors give equal points, their signs too.
    """
    centred, scale = _centred(vectors)
    points = np.zeros((len(vectors), _DIMENSIONS))
    if not scale:
        return Projection(points=points, explained=(0.0, 0.0))
    axes, variances = _axes(centred)
    points[:, : axes.shape[1]] = centred @ axes * scale
    shares = [*np.minimum(variances / np.square(centred).sum(), 1), 0.0]
    return Projection(points=points, explained=(float(shares[0]), float(shares[1])))


def _centred(vectors: np.ndarray[tuple[int, int], np.dtype[Any]]) -> tuple[Array, float]:
    """Returns what vectors are apart from their mean, at most 1 in size, and by how much they were divided."""
    if not vectors.size:
        return np.zeros(vectors.shape), 0.0
    values = vectors.astype(np.float64)
    most = np.abs(values).max()
    values -= values.mean(axis=0)
    scale = float(np.abs(values).max())
    return (values / scale, scale) if scale > _ROUNDING * most else (values, 0.0)


def _axes(centred: Array) -> tuple[Array, np.ndarray[Any, Any]]:
    """Returns one or two unit vectors, as columns, and the sum of squares along each, falling.

    The element of a vector that is largest in size is positive.
    """
    tall = centred.shape[0] > centred.shape[1]
    values, vectors = _largest(centred.T @ centred if tall else centred @ centred.T)
    axes = vectors if tall else centred.T @ vectors
    axes /= np.linalg.norm(axes, axis=0)
    return axes * np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])]), values


def _largest(gram: Array) -> tuple[np.ndarray[Any, Any], Array]:
    """Returns the largest eigenvalues of a symmetric matrix, two unless the others are 0, and their eigenvectors.

    Subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4) from a start that is always the same: a small
    part of the time of a whole decomposition. Matrices of up to 24 rows are decomposed exactly.
    """
    start = np.random.default_rng(0).standard_normal((len(gram), min(_BLOCK, len(gram))))
    basis, found = np.linalg.qr(start)[0], np.zeros(min(_DIMENSIONS, len(gram)))
    for _ in range(_MAX_ROUNDS):
        for _ in range(_ITERATIONS_PER_ROUND):
            basis = np.linalg.qr(gram @ basis)[0]
        before = found
        values, vectors = np.linalg.eigh(basis.T @ gram @ basis)
        found = values[::-1][:_DIMENSIONS]
        if np.allclose(found, before, rtol=_PRECISION, atol=0):
            break
    number = int((found > _ROUNDING * found[0]).sum())
    return found[:number], (basis @ vectors)[:, ::-1][:, :number]
