"""The pictures that benchmarks fetch: drawn from a seed, as hard to decode and as large in bytes as photographs."""

import concurrent.futures
import csv
import dataclasses
import os
import pathlib

import numpy as np
from PIL import Image

from benchmarks.cache import cache_directory, whole_directory

# Part of the folder's name in the cache: raise it when the drawing changes.
_DRAWING = 1
_LABELS = ("Bowls", "Drawings", "Paintings", "Prints", "Sculpture", "Vases")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of picture.

    Attributes:
        name: the kind's folder, below the cache and in addresses.
        width: in pixels.
        height: in pixels.
        distinct: how many different files there are; addresses are made unique by their query.
        grain: standard deviation of the finest noise, in levels of 0 to 255; it sets the size in bytes.
    """

    name: str
    width: int
    height: int
    distinct: int
    grain: float

    def addresses(self, base: str, count: int) -> list[str]:
        """Returns `count` different addresses below `base`, each `/<kind>/<file>?n=<number>`."""
        return [f"{base}/{self.name}/{_file_name(number % self.distinct)}?n={number:07d}" for number in range(count)]


LARGE = Kind(name="large", width=3000, height=2250, distinct=24, grain=4)
SMALL = Kind(name="small", width=500, height=375, distinct=240, grain=5)
TINY = Kind(name="tiny", width=96, height=72, distinct=240, grain=4)


def drawn(kinds: tuple[Kind, ...]) -> pathlib.Path:
    """Returns the folder that holds a folder for each of `kinds`; what is missing is drawn first."""
    root = cache_directory() / f"pictures-{_DRAWING}"
    for kind in kinds:
        if not (root / kind.name).is_dir():
            with whole_directory(root / kind.name) as folder:
                _draw_all(kind, folder)
    return root


def mean_bytes(folder: pathlib.Path) -> int:
    """Returns the mean size in bytes of the files in `folder`."""
    sizes = [path.stat().st_size for path in folder.iterdir()]
    return sum(sizes) // len(sizes)


def write_manifest(path: pathlib.Path, addresses: list[str]) -> None:
    """Writes a CSV file with the columns `uri` and `label`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["uri", "label"])
        writer.writerows((address, _LABELS[number % len(_LABELS)]) for number, address in enumerate(addresses))


def _draw_all(kind: Kind, folder: pathlib.Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(lambda number: _draw_one(kind, folder / _file_name(number), number), range(kind.distinct)))


def _draw_one(kind: Kind, path: pathlib.Path, seed: int) -> None:
    pixels = _photograph_like(kind.width, kind.height, seed=seed, grain=kind.grain)
    Image.fromarray(pixels).save(path, "JPEG", quality=90)


def _photograph_like(width: int, height: int, *, seed: int, grain: float) -> np.ndarray:
    """Returns uint8 [height, width, 3]: smooth noise at octaves from a third of the width to 8 pixels, plus grain.

    Natural pictures have amplitudes that fall with frequency (https://doi.org/10.1364/JOSAA.4.002379), and a sensor's
    grain on top, which is most of a photograph's bytes.
    """
    generator = np.random.default_rng([seed, width, height])
    canvas = np.full((height, width, 3), 128, np.float32)
    amplitude, cells = 60.0, 3
    while cells * 8 < width:
        noise = generator.normal(scale=amplitude, size=(3, max(2, cells * height // width), cells)).astype(np.float32)
        for channel, plane in enumerate(noise):
            canvas[..., channel] += np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC))
        amplitude, cells = amplitude * 0.6, cells * 2
    canvas += generator.normal(scale=grain, size=(height, width, 1)).astype(np.float32)
    return canvas.clip(0, 255).astype(np.uint8)


def _file_name(number: int) -> str:
    return f"picture-{number:04d}.jpg"
