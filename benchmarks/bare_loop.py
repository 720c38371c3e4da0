"""The limit to measure ingest against: the same fetch and the same pixels on threads, and nothing else.

No Beam, no retry, no accounting, no checks: `requests`, `beam_pipelines.images.shrink`, and every JPEG appended to a
file (a file a process, each JPEG after its length) in whatever order it comes.
"""

import argparse
import csv
import multiprocessing
import multiprocessing.pool
import pathlib
import struct
import threading
from collections.abc import Callable, Iterator

import requests

from beam_pipelines.images import shrink

_LENGTH = struct.Struct("<I")


def read_pictures(folder: pathlib.Path) -> Iterator[bytes]:
    """Yields the JPEGs that a bare loop wrote."""
    for path in sorted(folder.glob("*.jpegs")):
        with path.open("rb") as file:
            while header := file.read(_LENGTH.size):
                yield file.read(_LENGTH.unpack(header)[0])


def _fetcher(*, image_size: int, jpeg_quality: int) -> Callable[[str], bytes]:
    """Returns a function from an address to a shrunken JPEG; each thread keeps a connection of its own."""
    local = threading.local()

    def fetch(address: str) -> bytes:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        response = local.session.get(address, timeout=10)
        response.raise_for_status()
        return shrink(response.content, size=image_size, quality=jpeg_quality).jpeg

    return fetch


def _loop(addresses: list[str], path: pathlib.Path, options: argparse.Namespace) -> None:
    """Fetches and shrinks all of `addresses` on threads and writes the JPEGs to `path`."""
    fetch = _fetcher(image_size=options.image_size, jpeg_quality=options.jpeg_quality)
    with path.open("wb") as file, multiprocessing.pool.ThreadPool(options.threads) as pool:
        for jpeg in pool.imap_unordered(fetch, addresses):
            file.write(_LENGTH.pack(len(jpeg)) + jpeg)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare_loop", description=__doc__)
    parser.add_argument("--input", type=pathlib.Path, required=True, help="CSV file with the columns uri and label")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder to write to")
    parser.add_argument("--image_size", type=int, default=299, help="shorter side in pixels")
    parser.add_argument("--jpeg_quality", type=int, default=90)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=16, help="threads a process")
    return parser.parse_args()


def main() -> int:
    """Runs the loop in each process over its part of the list; returns 0 if all of them ended well."""
    options = _parse()
    options.output.mkdir(parents=True)
    with options.input.open(newline="", encoding="utf-8") as file:
        addresses = [row["uri"] for row in csv.DictReader(file)]
    workers = [
        multiprocessing.get_context("fork").Process(
            target=_loop,
            args=(addresses[part :: options.processes], options.output / f"part-{part}.jpegs", options),
        )
        for part in range(options.processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(abs(worker.exitcode or 0) for worker in workers)


if __name__ == "__main__":
    raise SystemExit(main())
