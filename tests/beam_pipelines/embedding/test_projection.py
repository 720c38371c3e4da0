import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from beam_pipelines.embedding.projection import Array, project


def elongated(vectors: int, width: int) -> Array:
    """Returns vectors whose directions of greatest variance stand out, around a mean that is not 0."""
    drawn = np.random.default_rng(5)
    return drawn.normal(3, 1, (vectors, width)) * (1 + np.arange(width)[::-1]) / width


@pytest.mark.parametrize(("vectors", "width"), [(40, 300), (300, 40), (30, 30), (5, 2), (2, 5)])
def test_points_are_those_of_the_singular_value_decomposition(vectors: int, width: int) -> None:
    values = elongated(vectors, width)
    left, sizes, right = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    signs = np.sign(right[range(len(right)), np.abs(right).argmax(axis=1)])
    projection = project(values)
    np.testing.assert_allclose(projection.points, (left * sizes * signs)[:, :2], atol=1e-4 * sizes[0])
    np.testing.assert_allclose(projection.explained, sizes[:2] ** 2 / (sizes**2).sum(), atol=1e-6)


def test_a_component_keeps_its_sign_when_vectors_come_in_another_order() -> None:
    values = elongated(50, 200)
    np.testing.assert_allclose(project(values[::-1]).points[::-1], project(values).points, atol=1e-6)


def test_the_same_vectors_give_the_same_points() -> None:
    values = np.random.default_rng(5).normal(size=(100, 100))
    assert project(values).points.tobytes() == project(values.copy()).points.tobytes()


@pytest.mark.parametrize(
    "values",
    [np.zeros((0, 4)), np.zeros((3, 0)), np.full((1, 4), 7.0), np.full((9, 3), 0.1, np.float32), np.full((7, 2), 1e30)],
)
def test_where_nothing_varies_all_points_are_one(values: Array) -> None:
    projection = project(values)
    assert projection.points.tolist() == [[0, 0]] * len(values)
    assert projection.explained == (0, 0)


def test_what_varies_along_one_line_has_one_component() -> None:
    projection = project(np.array([[1.0, 1, 4], [2, 2, 4], [4, 4, 4]]))
    np.testing.assert_allclose(projection.points[:, 0] - projection.points[0, 0], np.sqrt(2) * np.array([0, 1, 3]))
    assert projection.points[:, 1].tolist() == [0, 0, 0]
    assert projection.explained[0] == pytest.approx(1)
    assert projection.explained[1] == 0


@pytest.mark.parametrize("size", [1e-42, 1e-20, 1.0, 1e19, 1e38])
def test_vectors_may_be_of_any_size(size: float) -> None:
    values = (np.array([[0, 0], [2, 0], [1, 1]]) * size).astype(np.float32)
    points = project(values).points / size
    np.testing.assert_allclose(points[:, 0] - points[0, 0], [0, 2, 1], rtol=1e-2)
    np.testing.assert_allclose(points[:, 1] - points[0, 1], [0, 0, 1], atol=1e-2)


@given(
    st_numpy.arrays(
        np.float32,
        st_numpy.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=30),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_any_finite_vectors_have_finite_points(values: Array) -> None:
    projection = project(values)
    assert projection.points.shape == (len(values), 2)
    assert np.isfinite(projection.points).all()
    assert 0 <= projection.explained[1] <= projection.explained[0] <= 1
    assert sum(projection.explained) <= 1 + 1e-9
