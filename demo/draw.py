"""A museum that does not exist: works of five cultures, each with a motif of its own, drawn from a seed.

Colours, sizes, places, slants and noise are drawn by chance; only the motif tells a culture. The catalogue has the
form, and the quirks, of the Met's Open Access CSV of 2023.
"""

import csv
import dataclasses
import io
import math
import random
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from beam_pipelines.artwork import stable_hash

HEADER = (
    "Object Number,Is Highlight,Is Timeline Work,Is Public Domain,Object ID,Gallery Number,Department,AccessionYear,"
    "Object Name,Title,Culture,Period,Dynasty,Reign,Portfolio,Constituent ID,Artist Role,Artist Prefix,"
    "Artist Display Name,Artist Display Bio,Artist Suffix,Artist Alpha Sort,Artist Nationality,Artist Begin Date,"
    "Artist End Date,Artist Gender,Artist ULAN URL,Artist Wikidata URL,Object Date,Object Begin Date,Object End Date,"
    "Medium,Dimensions,Credit Line,Geography Type,City,State,County,Country,Region,Subregion,Locale,Locus,Excavation,"
    "River,Classification,Rights and Reproduction,Link Resource,Object Wikidata URL,Metadata Date,Repository,Tags,"
    "Tags AAT URL,Tags Wikidata URL"
)
COLUMNS = tuple(next(csv.reader([HEADER])))

RARE_CULTURE = "Minoan"
RARE_WORKS = 6
MIN_WORKS = 100
FIRST_OBJECT_ID = 100_001
SIDES = (400, 700)

# How many addresses of the image list misbehave, by the first part of their path; demo/serve.py does it.
TROUBLES = {"missing": 4, "broken": 3, "blocked": 3, "slow": 4, "flaky": 1}
WELL = "pictures"
REPEATED_ADDRESSES = 3

_Canvas = ImageDraw.ImageDraw
_Colour = tuple[int, int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Style:
    """What the pictures of one work share.

    Attributes:
        ground: colour behind the motif.
        ink: two colours of the motif.
        pitch: pixels from one motif to the next.
        slant: degrees by which the whole is turned.
    """

    ground: _Colour
    ink: tuple[_Colour, _Colour]
    pitch: int
    slant: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """One object of the museum.

    Attributes:
        object_id: its number in the catalogue.
        culture: empty where nobody knows it.
        motif: the culture whose motif it shows, also where the catalogue keeps quiet.
        public_domain: whether its pictures may be used.
        pictures: file names of its pictures.
    """

    object_id: int
    culture: str
    motif: str
    public_domain: bool
    pictures: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Listing:
    """A row of the image list: a picture of an object, and how its address behaves."""

    object_id: int
    behaviour: str
    picture: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collection:
    """Everything about the museum but the pixels.

    Attributes:
        seed: what all of it was drawn from.
        works: in the order of the catalogue.
        listings: in the order of the image list.
        copies: file name of a picture to the one whose equal it is.
    """

    seed: int
    works: tuple[Work, ...]
    listings: tuple[Listing, ...]
    copies: dict[str, str]


def plan_collection(*, works: int, seed: int) -> Collection:
    """Returns a collection of `works` works, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - it draws pictures
    planned = tuple(_plan_work(FIRST_OBJECT_ID + 7 * number, motif, chance) for number, motif in _motifs(works, chance))
    listings = tuple(_plan_listings(planned, chance))
    return Collection(seed=seed, works=planned, listings=listings, copies=_plan_copy(planned, listings))


def _motifs(works: int, chance: random.Random) -> Iterable[tuple[int, str]]:
    common = [culture for culture in MOTIFS if culture != RARE_CULTURE]
    motifs = [RARE_CULTURE] * RARE_WORKS + [common[number % len(common)] for number in range(works - RARE_WORKS)]
    chance.shuffle(motifs)
    return enumerate(motifs)


def _plan_work(object_id: int, motif: str, chance: random.Random) -> Work:
    known = motif == RARE_CULTURE or chance.random() > 0.02
    views = 2 if chance.random() < 0.15 else 1
    return Work(
        object_id=object_id,
        culture=motif if known else "",
        motif=motif,
        public_domain=chance.random() > 0.04,
        pictures=tuple(f"{object_id}-{view}.{'png' if chance.random() < 0.04 else 'jpg'}" for view in range(views)),
    )


def _plan_listings(works: tuple[Work, ...], chance: random.Random) -> Iterable[Listing]:
    usable = [work for work in works if work.public_domain and work.culture not in ("", RARE_CULTURE)]
    names = [work.pictures[0] for work in usable if len(work.pictures) == 1]
    chance.shuffle(names)
    behaviours = dict(zip(names, [trouble for trouble, count in TROUBLES.items() for _ in range(count)], strict=False))
    listings = [Listing(work.object_id, behaviours.get(name, WELL), name) for work in works for name in work.pictures]
    again = [listing for listing in listings if listing.behaviour == WELL][:: len(listings) // REPEATED_ADDRESSES]
    return listings + again[:REPEATED_ADDRESSES]


def _plan_copy(works: Iterable[Work], listings: Iterable[Listing]) -> dict[str, str]:
    """Returns the file names of two equal pictures of different works: the copy and its original.

    Works go to the training or the validation split by hash; the two have the lowest and the highest of their
    culture, so that they stand on both sides of it and one of them must go.
    """
    served = {listing.picture for listing in listings if listing.behaviour == WELL}
    culture = next(iter(MOTIFS))
    candidates = [work for work in works if work.culture == culture and work.public_domain]
    candidates.sort(key=lambda work: stable_hash(str(work.object_id), salt="split"))
    original, *_, copy = [
        name for work in candidates for name in work.pictures[:1] if name in served and name.endswith(".jpg")
    ]
    return {copy: original}


def write_pictures(collection: Collection, directory: Path) -> None:
    """Draws every picture of the collection into `directory`, which exists."""
    with ThreadPoolExecutor() as threads:
        for written in [threads.submit(_write_work, work, collection, directory) for work in collection.works]:
            written.result()
    for name, original in collection.copies.items():
        shutil.copyfile(directory / original, directory / name)


def write_unseen(collection: Collection, directory: Path, *, works: int) -> list[Path]:
    """Draws one picture of each of some works as `directory/CULTURE/picture.jpg`; the last two cannot be used.

    Args:
        collection: of another seed than the one that a model learns from.
        directory: to be made.
        works: how many pictures are good.

    Returns:
        the files, the good ones first.
    """
    chosen = [work for work in collection.works if work.culture not in ("", RARE_CULTURE)][: works + 2]
    paths = [directory / work.culture / work.pictures[0] for work in chosen]
    for work, path in zip(chosen, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw_picture(work, view=0, seed=collection.seed))
    *_, torn, page = paths
    torn.write_bytes(torn.read_bytes()[:5_000])
    page.write_text("<!DOCTYPE html><title>Not found</title>", encoding="utf-8")
    return paths


def _write_work(work: Work, collection: Collection, directory: Path) -> None:
    for view, name in enumerate(work.pictures):
        (directory / name).write_bytes(draw_picture(work, view=view, seed=collection.seed))


def write_image_list(collection: Collection, path: Path, *, address: str) -> None:
    """Writes the CSV `object_id,image_uri`, of pictures served at `address` (`http://host:port`)."""
    rows = [(item.object_id, f"{address}/{item.behaviour}/{item.picture}") for item in collection.listings]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("object_id", "image_uri"), *rows])


def write_catalogue(collection: Collection, path: Path) -> None:
    """Writes the catalogue: byte order mark, CRLF, line breaks and padding within cells, as the Met's has them."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(_catalogue_row(number, work) for number, work in enumerate(collection.works))


def _catalogue_row(number: int, work: Work) -> dict[str, str]:
    year = 900 + 3 * number % 700
    thing = ("Bowl", "Panel", "Textile fragment", "Jar, with lid", 'Tile ("Kashi")')[number % 5]
    return {
        "Object Number": f"{1900 + number % 100}.{number // 100 + 1}.{number % 100}",
        "Is Highlight": "False",
        "Is Timeline Work": "False",
        "Is Public Domain": str(work.public_domain),
        "Object ID": str(work.object_id),
        "Department": "Drawn Works",
        "AccessionYear": str(1900 + number % 100),
        "Object Name": thing,
        "Title": f"{thing} with ornament,\r\nno. {number}" if number % 11 == 0 else f"{thing} with ornament",
        "Culture": f"  {work.culture}   " if work.culture and number % 13 == 0 else work.culture,
        "Artist Display Name": "Émile Dessinateur" if number % 9 == 0 else "",
        "Object Date": f"{f'ca. {year}':<24}",
        "Object Begin Date": f"{year - 10:<10}",
        "Object End Date": f"{year + 10:<10}",
        "Medium": "Pixels, noise",
        "Dimensions": 'H. 12 1/4 in.\n(31 cm), "as drawn"' if number % 7 == 0 else "31 x 22 cm",
        "Credit Line": "Drawn by the demonstration",
        "Classification": "Drawings",
        "Link Resource": f"http://example.org/works/{work.object_id}",
        "Repository": "Museum of Works That Do Not Exist",
    }


def draw_picture(work: Work, *, view: int, seed: int) -> bytes:
    """Returns picture number `view` of `work`: JPEG or PNG by its name, RGB, its sides within `SIDES`."""
    style = _draw_style(random.Random(f"{seed}/{work.object_id}"))  # noqa: S311 - it draws pictures
    chance = random.Random(f"{seed}/{work.object_id}/{view}")  # noqa: S311 - it draws pictures
    width, height = chance.randint(*SIDES), chance.randint(*SIDES)
    reach = math.ceil(math.hypot(width, height))
    sheet = Image.new("RGB", (reach, reach), style.ground)
    MOTIFS[work.motif](ImageDraw.Draw(sheet), style, chance)
    left, top = (reach - width) // 2, (reach - height) // 2
    turned = sheet.rotate(style.slant + chance.uniform(-4, 4), Image.Resampling.BILINEAR, fillcolor=style.ground)
    picture = turned.crop((left, top, left + width, top + height)).filter(
        ImageFilter.GaussianBlur(chance.uniform(0, 1))
    )
    return _encode(_with_noise(picture, chance), work.pictures[view])


def _draw_style(chance: random.Random) -> Style:
    dark_ground = chance.random() < 0.5
    ground = _draw_colour(chance, dark=dark_ground)
    ink = _draw_colour(chance, dark=not dark_ground), _draw_colour(chance, dark=not dark_ground)
    return Style(ground=ground, ink=ink, pitch=chance.randint(70, 130), slant=chance.uniform(-12, 12))


def _draw_colour(chance: random.Random, *, dark: bool) -> _Colour:
    low, high = (10, 95) if dark else (150, 245)
    return chance.randint(low, high), chance.randint(low, high), chance.randint(low, high)


def _with_noise(picture: Image.Image, chance: random.Random) -> Image.Image:
    """Returns `picture` under uneven light and with a camera's noise."""
    noise = np.random.default_rng(chance.getrandbits(32))
    pixels = np.asarray(picture, dtype=np.float32)
    light = np.linspace(chance.uniform(0.75, 1), chance.uniform(0.85, 1.1), picture.width, dtype=np.float32)
    grain = noise.normal(0, chance.uniform(2, 10), pixels.shape[:2]).astype(np.float32)
    lit = pixels * light[None, :, None] + grain[:, :, None]
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def _encode(picture: Image.Image, name: str) -> bytes:
    out = io.BytesIO()
    if name.endswith(".png"):
        picture.save(out, "PNG", compress_level=1)
    else:
        picture.save(out, "JPEG", quality=90)
    return out.getvalue()


def _places(canvas: _Canvas, pitch: int, chance: random.Random) -> Iterable[tuple[float, float]]:
    """Yields the centres of a slightly irregular grid with a random start that covers the canvas."""
    width, height = canvas.im.size
    start_x, start_y = chance.uniform(0, pitch), chance.uniform(0, pitch)
    for row in range(-1, math.ceil(height / pitch) + 1):
        for column in range(-1, math.ceil(width / pitch) + 1):
            shake_x, shake_y = chance.uniform(-0.06, 0.06), chance.uniform(-0.06, 0.06)
            yield start_x + (column + shake_x) * pitch, start_y + (row + shake_y) * pitch


def _circles(canvas: _Canvas, style: Style, chance: random.Random) -> None:
    for x, y in _places(canvas, style.pitch, chance):
        for ring in range(3):
            radius = style.pitch * (0.45 - 0.14 * ring)
            box = (x - radius, y - radius, x + radius, y + radius)
            canvas.ellipse(box, outline=style.ink[ring % 2], width=max(3, style.pitch // 14))


def _zigzags(canvas: _Canvas, style: Style, chance: random.Random) -> None:
    width, height = canvas.im.size
    step = style.pitch / 2
    start = chance.uniform(-step, 0)
    for number in range(math.ceil(height / step) + 2):
        points = [
            (start + column * step, (number - 0.5 + 0.55 * (column % 2)) * step)
            for column in range(math.ceil(width / step) + 3)
        ]
        canvas.line(points, fill=style.ink[number % 2], width=max(5, style.pitch // 9), joint="curve")


def _stars(canvas: _Canvas, style: Style, chance: random.Random) -> None:
    for x, y in _places(canvas, style.pitch, chance):
        points = [
            (x + radius * math.cos(corner * math.pi / 8), y + radius * math.sin(corner * math.pi / 8))
            for corner in range(16)
            for radius in [style.pitch * (0.46 if corner % 2 == 0 else 0.24)]
        ]
        canvas.polygon(points, fill=style.ink[0])


def _stripes(canvas: _Canvas, style: Style, chance: random.Random) -> None:
    width, height = canvas.im.size
    x = chance.uniform(-style.pitch, 0)
    while x < width:
        thickness = style.pitch * chance.uniform(0.25, 0.5)
        canvas.rectangle((x, 0, x + thickness, height), fill=chance.choice(style.ink))
        x += thickness + style.pitch * chance.uniform(0.25, 0.5)


def _crosses(canvas: _Canvas, style: Style, chance: random.Random) -> None:
    long, short = style.pitch * 0.42, style.pitch * 0.13
    for number, (x, y) in enumerate(_places(canvas, style.pitch, chance)):
        colour = style.ink[number % 2]
        canvas.rectangle((x - long, y - short, x + long, y + short), fill=colour)
        canvas.rectangle((x - short, y - long, x + short, y + long), fill=colour)


def _spirals(canvas: _Canvas, style: Style, chance: random.Random) -> None:
    for x, y in _places(canvas, style.pitch, chance):
        points = [
            (
                x + turn * style.pitch * math.cos(7 * math.pi * turn),
                y + turn * style.pitch * math.sin(7 * math.pi * turn),
            )
            for turn in np.linspace(0, 0.46, 60).tolist()
        ]
        canvas.line(points, fill=style.ink[0], width=max(4, style.pitch // 14))


# The rare one among them has too few works to be learnt.
MOTIFS: dict[str, Callable[[_Canvas, Style, random.Random], None]] = {
    "Cypriot": _circles,
    "Greek, Attic": _zigzags,
    "Iran": _stars,
    "Japan": _stripes,
    "Coptic": _crosses,
    RARE_CULTURE: _spirals,
}
