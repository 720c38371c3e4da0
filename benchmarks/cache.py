"""Where benchmarks keep what is worth keeping between runs: drawn pictures, environments of other programs."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator


def cache_directory() -> pathlib.Path:
    """Returns the benchmarks' folder in the user's cache (`XDG_CACHE_HOME`, else `~/.cache`)."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(home, "museum-image-classifier", "benchmarks")


@contextlib.contextmanager
def whole_directory(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives an empty folder that is renamed to `path` if the block ends well, and removed if it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
