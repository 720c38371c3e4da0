import concurrent.futures
import dataclasses
import io
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from beam_pipelines.fetch.fetcher import FetchLimits
from beam_pipelines.images import ImageHeader
from beam_pipelines.rejects import Reason
from serving.picture_options import PictureOptions
from serving.pictures import Picture, Refusal, complain, picture_batches, reading, undecodable
from tests.hostile_server import CASES, HostileServer, jpeg
from tests.serving.builders import WHITE, noisy_png, picture, png

QUICK = FetchLimits(
    connect_timeout=2, read_timeout=1, total_timeout=2, backoff=0.01, max_bytes=1 << 20, allow_private_addresses=True
)


def read(*addresses: object, fetch: FetchLimits = QUICK, resize: int = 0, **options: int) -> list[Picture | Refusal]:
    picture_options = PictureOptions(addresses=tuple(map(str, addresses)), fetch=fetch, **options)
    with reading(picture_options, resize=resize) as pictures:
        return list(pictures)


def refusal(key: object, reason: Reason, detail: str = "") -> Refusal:
    return Refusal(key=str(key), reason=reason, detail=detail)


def test_pictures_come_as_they_are_in_the_order_asked_for(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number} é.png" for number in range(20)]
    for number, path in enumerate(paths):
        path.write_bytes(png(WHITE, width=number + 1))
    found = read(*paths, fetch_threads=3)
    assert found == [
        Picture(key=str(path), data=path.read_bytes(), header=ImageHeader("PNG", number + 1, 20))
        for number, path in enumerate(paths)
    ]
    assert [picture.pixels for picture in found[:2]] == [20, 40]


def test_what_cannot_be_had_is_among_them_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(WHITE))
    (tmp_path / "page.png").write_bytes(b"<html>")
    (tmp_path / "large.png").write_bytes(noisy_png(seed=1, side=600))
    (tmp_path / "wide.png").write_bytes(png(WHITE, width=1001, height=1))
    paths = [tmp_path / name for name in ("a.png", "none.png", "page.png", "large.png", "wide.png")]
    found = read(*paths, "ftp://example.org/a.jpg", max_image_pixels=1000)
    assert isinstance(found[0], Picture)
    assert isinstance(found[-1], Refusal)
    assert found[-1].reason is Reason.BAD_URI
    assert found[1:-1] == [
        refusal(paths[1], Reason.NOT_FOUND, "no such file"),
        refusal(paths[2], Reason.HTML_PAGE),
        refusal(paths[3], Reason.TOO_LARGE, f"more than {1 << 20} bytes"),
        refusal(paths[4], Reason.TOO_MANY_PIXELS, "1001x1 pixels"),
    ]


CHOSEN = ("good", "good_png", "redirect", "not_found", "blocked_as_jpeg", "empty", "noai", "png_bomb", "endless_body")


def test_the_web_is_read_as_in_ingest() -> None:
    cases = [CASES[name] for name in CHOSEN]
    with HostileServer() as server:
        found = read(*(server.url(case.path) for case in cases))
    assert [getattr(one, "reason", "written") for one in found] == [case.outcome for case in cases]


def test_private_addresses_are_refused_unless_they_are_allowed() -> None:
    with HostileServer() as server:
        (found,) = read(server.url("/case/good"), fetch=dataclasses.replace(QUICK, allow_private_addresses=False))
        assert server.visits == {}
    assert found == refusal(found.key, Reason.REFUSED_ADDRESS, "the host's address is not public")


def test_pictures_can_be_shrunk(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(1, width=300, height=200))
    (tmp_path / "b.png").write_bytes(png(WHITE)[:50])
    good, bad = read(tmp_path / "a.jpg", tmp_path / "b.png", resize=20)
    assert isinstance(good, Picture)
    assert good.header == ImageHeader("JPEG", 30, 20)
    assert Image.open(io.BytesIO(good.data)).size == (30, 20)
    assert isinstance(bad, Refusal)
    assert bad.reason is Reason.CORRUPT_IMAGE


def test_fetching_begins_before_anybody_asks_for_a_picture() -> None:
    deadline = time.monotonic() + 60
    with HostileServer() as server:
        options = PictureOptions(addresses=(server.url("/case/good"),), fetch=QUICK)
        with reading(options) as pictures:
            while not server.visits:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert len(list(pictures)) == 1


def test_no_more_are_fetched_than_are_held_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []

    class Counted(concurrent.futures.ThreadPoolExecutor):
        def submit(self, *arguments: Any, **options: Any) -> Any:
            begun.append(arguments)
            return super().submit(*arguments, **options)

    monkeypatch.setattr(concurrent.futures, "ThreadPoolExecutor", Counted)
    addresses = tuple(str(tmp_path / f"{number}.png") for number in range(12))
    with reading(PictureOptions(addresses=addresses, fetch_threads=2)) as pictures:
        next(pictures)
        next(pictures)
        assert 2 <= len(begun) <= 4
        assert len(list(pictures)) == 10
    assert len(begun) == 12


def test_batches_are_of_pictures_that_fit_into_memory_together() -> None:
    large = [picture(name, width=8_000, height=8_000) for name in "abc"]
    small = [picture(name) for name in "def"]
    missing = refusal("x", Reason.NOT_FOUND)
    batches = list(picture_batches([*large, missing, *small], size=3))
    assert [[one.key for one in batch] for batch in batches] == [["a"], ["b"], ["c", "x", "d"], ["e", "f"]]


def test_a_refusal_is_told_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    complain(refusal("a\n\x1b[1m.jpg", Reason.NOT_FOUND, "status 404"))
    complain(refusal("b", Reason.EMPTY))
    told = capsys.readouterr()
    assert told.err.splitlines() == ["error: a\\n\\x1b[1m.jpg: fetch: not_found: status 404", "error: b: image: empty"]
    assert told.out == ""


def test_a_picture_whose_pixels_are_damaged_is_a_corrupt_image() -> None:
    assert undecodable(picture("a")) == refusal("a", Reason.CORRUPT_IMAGE, "JPEG: cannot be decoded")


def test_a_picture_may_come_through_a_pipe() -> None:
    code = (
        "from serving.picture_options import *; from serving.pictures import *\n"
        "options = PictureOptions(addresses=('-',), fetch=FetchLimits(max_bytes=1000))\n"
        "with reading(options) as pictures: print(list(pictures)[0])\n"
        "import sys; print(sorted({'apache_beam', 'tensorflow', 'trainer'} & set(sys.modules)))"
    )

    def piped(data: bytes) -> str:
        ended = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
        return ended.stdout.decode()

    good = piped(png(WHITE))
    assert good.startswith("Picture(key='-', data=b'\\x89PNG")
    assert good.endswith("header=ImageHeader(kind='PNG', width=24, height=20))\n[]\n")
    assert piped(bytes(1001)).startswith("Refusal(key='-', reason=<Reason.TOO_LARGE")
