"""One run at a time in a directory of this machine."""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator

from beam_pipelines.errors import OptionError


@contextlib.contextmanager
def only_run_in(directory: str) -> Iterator[None]:
    """Holds a directory for this process; the lock lies elsewhere and goes with the process, however that ends.

    Raises:
        OptionError: another process holds it.
    """
    name = hashlib.sha256(os.path.realpath(directory).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    path = os.path.join(tempfile.gettempdir(), f"museum-image-classifier-{os.getuid()}-{name}.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OptionError(f"another run is at work in {directory}: wait for it, or stop it first") from error
        yield
