from pathlib import Path

import pytest

from serving.model import Model, load_model


@pytest.fixture(scope="session")
def brightness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version directory: two labels, no embeddings."""
    from tests.serving.tiny_model import tiny_model

    return tiny_model(tmp_path_factory.mktemp("brightness"))


@pytest.fixture(scope="session")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version directory: two labels, and the mean colour as the embedding."""
    from tests.serving.tiny_model import tiny_model

    return tiny_model(tmp_path_factory.mktemp("colour"), with_embed=True)


@pytest.fixture(scope="session")
def colour_model(colour: Path) -> Model:
    """The same, loaded."""
    return load_model(str(colour.parent), threads=1)
