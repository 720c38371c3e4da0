"""A catalogue as large and as untidy as the Met's `MetObjects.csv`, drawn from a seed: 54 columns, 590 bytes a row.

It begins with a byte order mark and ends rows with CRLF; some texts have newlines, quotes or letters beyond ASCII. Half
of the works are in the public domain. Four in ten have no culture, the others have one of 4,257 with a long tail.
"""

import csv
import itertools
import pathlib
import random
from collections.abc import Callable, Iterator

from benchmarks.cache import cache_directory, whole_directory
from demo.draw import COLUMNS

# Part of the file's place in the cache: raise it when the drawing changes.
_DRAWING = 1
_SEED = 1870
_FILE = "MetObjects.csv"
_CULTURES = 4257
_SOUNDS = (
    "an ar ba be bo ca chi da de el fra ga gre hi in ja ka la lo ma me mi na ne no o pa pe po ra ri ro sa se si ta te "
    "ti to u va ve vi yo ze"
)
_DEPARTMENTS = ("Drawings and Prints", "European Sculpture and Decorative Arts", "Asian Art", "Photographs", "Costumes")
_MEDIA = ("Etching", "Gelatin silver print", "Porcelain painted in enamels", "Silk, metal thread", "Oil on canvas")
_SYLLABLES = tuple(_SOUNDS.split())


def drawn(rows: int) -> pathlib.Path:
    """Returns the catalogue of so many rows; it is drawn first if it is missing."""
    folder = cache_directory() / f"catalogue-{_DRAWING}-{rows}"
    if not folder.is_dir():
        with whole_directory(folder) as unfinished:
            _write(unfinished / _FILE, rows)
    return folder / _FILE


def _write(path: pathlib.Path, rows: int) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(itertools.islice(_rows(), rows))


def _rows() -> Iterator[list[str]]:
    draw = random.Random(_SEED)
    words = ["".join(draw.choices(_SYLLABLES, k=draw.randint(1, 4))) for _ in range(5000)]
    cultures = sorted({" ".join(draw.choices(words, k=1 + number % 3)).title() for number in range(2 * _CULTURES)})
    draw.shuffle(cultures)
    tail = list(itertools.accumulate((rank + 2) ** -1.15 for rank in range(_CULTURES)))

    def text(least: int, most: int) -> str:
        return " ".join(draw.choices(words, k=draw.randint(least, most)))

    for number in itertools.count(1):
        culture = draw.choices(cultures[:_CULTURES], cum_weights=tail)[0] if draw.random() < 0.57 else ""
        yield _row(number, culture, draw, text)


def _row(number: int, culture: str, draw: random.Random, text: Callable[[int, int], str]) -> list[str]:
    artist = text(2, 3).title() if draw.random() < 0.55 else ""
    tags = [text(1, 1) for _ in range(draw.choice((0, 0, 1, 3)))]
    year = draw.randint(-500, 2000)
    title = text(2, 7).capitalize()
    if number % 7 == 0:
        title += f',\r\n"{text(1, 3)}"'
    if number % 11 == 0:
        title += " Vénus 草"
    cells = {
        "Object Number": f"{draw.randint(1870, 2020)}.{number % 900}.{number % 77}",
        "Is Highlight": "False",
        "Is Timeline Work": str(number % 50 == 0),
        "Is Public Domain": str(draw.random() < 0.5),
        "Object ID": str(number),
        "Gallery Number": str(draw.randint(100, 999)) if number % 10 == 0 else "",
        "Department": draw.choice(_DEPARTMENTS),
        "AccessionYear": str(draw.randint(1870, 2020)),
        "Object Name": text(1, 1).capitalize(),
        "Title": title,
        "Culture": culture,
        "Period": text(2, 4) if number % 5 == 0 else "",
        "Medium": f"{draw.choice(_MEDIA)}, {text(1, 2)}",
        "Dimensions": f"{draw.randint(1, 99)} x {draw.randint(1, 99)} in. ({draw.random():.1f} cm); {text(3, 8)}",
        "Credit Line": f"Gift of {text(3, 6).title()}, {draw.randint(1870, 2020)}",
        "Classification": text(1, 2).capitalize(),
        "Link Resource": f"http://www.metmuseum.org/art/collection/search/{number}",
        "Object Wikidata URL": f"https://www.wikidata.org/wiki/Q{number + 20_000_000}" if number % 7 == 0 else "",
        "Object Date": f"ca. {year}      ",
        "Object Begin Date": str(year),
        "Object End Date": str(year + draw.randint(0, 40)),
        "Repository": "Metropolitan Museum of Art, New York, NY",
        "Tags": "|".join(tags),
        "Tags AAT URL": "|".join(f"http://vocab.getty.edu/page/aat/{300_000_000 + number}" for _ in tags),
        "Tags Wikidata URL": "|".join(f"https://www.wikidata.org/wiki/Q{number}" for _ in tags),
    }
    if artist:
        cells |= {
            "Constituent ID": str(number % 40_000),
            "Artist Role": "Artist",
            "Artist Display Name": artist,
            "Artist Display Bio": f"{text(1, 2).title()}, {year}–{year + 60} {text(1, 1).title()}",
            "Artist Alpha Sort": ", ".join(reversed(artist.split(" "))),
            "Artist Nationality": text(1, 1).title(),
            "Artist Begin Date": f"{year:<10}",
            "Artist End Date": f"{year + 60:<10}",
            "Artist ULAN URL": f"http://vocab.getty.edu/page/ulan/{500_000_000 + number % 40_000}",
            "Artist Wikidata URL": f"https://www.wikidata.org/wiki/Q{number % 40_000}",
        }
    return [cells.get(name, "") for name in COLUMNS]
