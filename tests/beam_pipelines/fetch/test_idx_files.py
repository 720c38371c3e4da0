import contextlib
import gzip
import io
import os
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from beam_pipelines import files
from beam_pipelines.fetch import idx_files
from beam_pipelines.fetch.fetcher import Fetcher, FetchLimits
from beam_pipelines.fetch.idx_files import IdxFiles
from beam_pipelines.rejects import Reason, RejectedError, Stage
from tests.beam_pipelines.builders import BUCKET, hostile_text, object_store
from tests.beam_pipelines.idx_writer import Pictures, draw_pictures, idx_labels, idx_pictures

PICTURES = draw_pictures(5, side=20)[:, :18]


def pixels_of(png: bytes) -> Pictures:
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        assert image.mode == "L"
        return np.asarray(image)


def rejection(fetcher: Fetcher, uri: str) -> tuple[Reason, str]:
    with pytest.raises(RejectedError) as caught:
        fetcher.fetch(uri)
    assert caught.value.reason.stage is Stage.FETCH
    return caught.value.reason, caught.value.detail


def put(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return f"idx:{path}#0"


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    with Fetcher(FetchLimits(max_retries=0, read_timeout=5, total_timeout=5)) as open_fetcher:
        yield open_fetcher


@pytest.fixture
def unpackings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was unpacked, in order."""
    real, done = idx_files.unpacked, list[object]()

    def counted(file: Any) -> Any:
        done.append(file)
        return real(file)

    monkeypatch.setattr(idx_files, "unpacked", counted)
    return done


@pytest.mark.parametrize(
    "pack", [gzip.compress, bytes, lambda content: gzip.compress(content[:50]) + gzip.compress(content[50:])]
)
def test_every_picture_comes_out_as_it_went_in(
    pack: Callable[[bytes], bytes], fetcher: Fetcher, tmp_path: Path
) -> None:
    path = tmp_path / "a b #1.gz"
    path.write_bytes(pack(idx_pictures(PICTURES)))
    for address in (f"idx:{path}", f"IDX:file://{str(path).replace(' ', '%20').replace('#', '%23')}"):
        found = [pixels_of(fetcher.fetch(f"{address}#{number}")) for number in range(5)]
        assert np.array_equal(found, PICTURES)


def test_a_picture_in_an_object_store(fetcher: Fetcher) -> None:
    with object_store():
        files.write_bytes(f"{BUCKET}/train.gz", gzip.compress(idx_pictures(PICTURES)))
        assert np.array_equal(pixels_of(fetcher.fetch(f"idx:{BUCKET}/train.gz#3")), PICTURES[3])
        assert rejection(fetcher, f"idx:{BUCKET}/test.gz#3")[0] is Reason.NOT_FOUND


def test_the_bound_on_a_picture_is_not_that_of_an_object(tmp_path: Path) -> None:
    with Fetcher(FetchLimits(max_bytes=18 * 20)) as exact, Fetcher(FetchLimits(max_bytes=18 * 20 - 1)) as narrow:
        with object_store():
            files.write_bytes(f"{BUCKET}/train", idx_pictures(PICTURES))
            assert len(idx_pictures(PICTURES)) > 18 * 20
            assert np.array_equal(pixels_of(exact.fetch(f"idx:{BUCKET}/train#3")), PICTURES[3])
        uri = put(tmp_path / "train", idx_pictures(PICTURES))
        assert rejection(narrow, uri) == (Reason.TOO_LARGE, "more than 359 bytes")


def test_files_of_this_machine_and_large_objects_are_not_served(tmp_path: Path) -> None:
    uri = put(tmp_path / "train", idx_pictures(PICTURES))
    with Fetcher(FetchLimits(allow_paths=False)) as fetcher:
        assert rejection(fetcher, uri)[0] is Reason.REFUSED_ADDRESS
        assert rejection(fetcher, f"idx:{BUCKET}/train#0")[0] is Reason.REFUSED_ADDRESS


@pytest.mark.parametrize(
    ("content", "reason", "detail"),
    [
        (b"", Reason.BAD_URI, "no idx file of pictures: it begins with nothing, not 00000803"),
        (idx_labels([1, 2]), Reason.BAD_URI, "no idx file of pictures: it begins with 00000801, not 00000803"),
        (idx_pictures(PICTURES)[:15], Reason.INCOMPLETE_BODY, "the file breaks off in its header"),
        (idx_pictures(PICTURES[:, :0]), Reason.BAD_URI, "pictures of 20 × 0 pixels"),
        (struct.pack(">4I", 0x803, 1, 70_000, 1), Reason.BAD_URI, "pictures of 1 × 70000 pixels"),
        (struct.pack(">4I", 0x803, 2**32 - 1, 28, 28), Reason.TOO_LARGE, "more than 8589934592 bytes"),
        (idx_pictures(PICTURES)[:-1], Reason.INCOMPLETE_BODY, "fewer than the 1800 bytes that its header says"),
        (idx_pictures(PICTURES) + b"\0", Reason.TOO_LARGE, "more than the 1800 bytes that its header says"),
    ],
)
def test_a_file_that_is_not_what_it_should_be(
    content: bytes, reason: Reason, detail: str, fetcher: Fetcher, tmp_path: Path
) -> None:
    assert rejection(fetcher, put(tmp_path / "plain", content)) == (reason, detail)
    assert rejection(fetcher, put(tmp_path / "packed.gz", gzip.compress(content))) == (reason, detail)


@pytest.mark.parametrize("break_it", [lambda packed: packed[:-200], lambda packed: packed[:-6] + b"\0" + packed[-5:]])
def test_compressed_data_that_is_broken(break_it: Callable[[bytes], bytes], fetcher: Fetcher, tmp_path: Path) -> None:
    uri = put(tmp_path / "train.gz", break_it(gzip.compress(idx_pictures(PICTURES))))
    assert rejection(fetcher, uri) == (Reason.INCOMPLETE_BODY, "compressed data is broken")


def test_of_a_bomb_no_more_is_unpacked_than_the_header_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    real = gzip.GzipFile.read

    def counted(file: gzip.GzipFile, size: int | None = -1) -> bytes:
        nonlocal read
        data = real(file, size)
        read += len(data)
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(idx_pictures(PICTURES) + bytes(50_000_000)))
    with Fetcher(FetchLimits()) as fetcher:
        assert rejection(fetcher, f"idx:{path}#0")[0] is Reason.TOO_LARGE
    assert read == len(idx_pictures(PICTURES)) + 1


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("idx:{folder}/train", Reason.BAD_URI),
        ("idx:{folder}/train#", Reason.BAD_URI),
        ("idx:{folder}/train#-1", Reason.BAD_URI),
        ("idx:{folder}/train#1_0", Reason.BAD_URI),
        ("idx:{folder}/train#٣", Reason.BAD_URI),
        ("idx:{folder}/train#" + "9" * 5000, Reason.BAD_URI),
        ("idx:#0", Reason.BAD_URI),
        ("idx:{folder}/\ud800#0", Reason.BAD_URI),
        ("idx:{folder}/a\nb#0", Reason.BAD_URI),
        ("idx:file://other.example/train#0", Reason.BAD_URI),
        ("idx:gs://#0", Reason.BAD_URI),
        ("idx:{folder}/train#5", Reason.NOT_FOUND),
        ("idx:{folder}/train#4294967296", Reason.NOT_FOUND),
        ("idx:{folder}/no#0", Reason.NOT_FOUND),
        ("idx:{folder}/train/no#0", Reason.NOT_FOUND),
        ("idx:{folder}#0", Reason.NOT_FOUND),
        ("idx:{folder}/pipe#0", Reason.NOT_FOUND),
        ("idx:http://museum.example/train#0", Reason.NOT_FOUND),
        ("idx:{folder}/" + "n" * 300 + "#0", Reason.NOT_FOUND),
    ],
)
def test_addresses_that_lead_nowhere(uri: str, reason: Reason, fetcher: Fetcher, tmp_path: Path) -> None:
    put(tmp_path / "train", idx_pictures(PICTURES))
    os.mkfifo(tmp_path / "pipe")
    assert rejection(fetcher, uri.replace("{folder}", str(tmp_path)))[0] is reason


def test_a_file_that_may_not_be_read(fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = put(tmp_path / "train", idx_pictures(PICTURES))

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert rejection(fetcher, uri)[0] is Reason.FORBIDDEN


def test_a_full_disk_is_a_reason_that_passes(fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = put(tmp_path / "train", idx_pictures(PICTURES))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    reason, detail = rejection(fetcher, uri)
    assert (reason, detail, reason.passing) == (Reason.CONNECTION_FAILED, "No space left on device", True)


def test_threads_that_ask_at_once_wait_for_one_unpacking(
    fetcher: Fetcher, tmp_path: Path, unpackings: list[object]
) -> None:
    put(tmp_path / "train.gz", gzip.compress(idx_pictures(PICTURES)))
    together = threading.Barrier(8)

    def fetch(number: int) -> bytes:
        together.wait()
        return fetcher.fetch(f"idx:{tmp_path}/train.gz#{number % 5}")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(fetch, range(8)))
    assert all(np.array_equal(pixels_of(png), PICTURES[number % 5]) for number, png in enumerate(found))
    assert len(unpackings) == 1


def test_a_file_that_failed_is_not_tried_for_every_picture(
    fetcher: Fetcher, tmp_path: Path, unpackings: list[object]
) -> None:
    put(tmp_path / "train.gz", b"no idx file")
    outcomes = {rejection(fetcher, f"idx:{tmp_path}/train.gz#{number}") for number in range(3)}
    assert len(outcomes) == len(unpackings) == 1


def test_few_files_are_kept_and_none_has_a_name(
    fetcher: Fetcher, tmp_path: Path, unpackings: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    uris = [put(tmp_path / f"{number}", idx_pictures(PICTURES[number:])) for number in range(5)]

    def descriptors() -> int:
        return sum(os.readlink(link.path).startswith(str(folder)) for link in os.scandir("/proc/self/fd"))

    for uri in (*uris, *uris):
        fetcher.fetch(uri)
        assert descriptors() <= 4
    assert len(unpackings) == 10
    for uri in (uris[1], uris[0], uris[1]):
        fetcher.fetch(uri)
    assert len(unpackings) == 11
    assert list(folder.iterdir()) == []
    fetcher.close()
    assert descriptors() == 0
    assert np.array_equal(pixels_of(fetcher.fetch(uris[0])), PICTURES[0])


def test_a_failure_that_nobody_thought_of_leaves_no_thread_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Fetcher(FetchLimits()) as fetcher:
        uri = put(tmp_path / "train", idx_pictures(PICTURES))
        monkeypatch.setattr(IdxFiles, "_open", lambda *_: 1 / 0)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                fetcher.fetch(uri)


hostile_header = st.builds(
    lambda magic, sizes: struct.pack(">4I", magic, *sizes),
    st.sampled_from([0x803, 0x801, 0]),
    st.tuples(*[st.sampled_from([0, 1, 2, 3, 65_535, 2**32 - 1])] * 3),
)


@given(
    header=hostile_header | st.binary(max_size=20),
    data=st.binary(max_size=40),
    pack=st.sampled_from([bytes, gzip.compress, lambda content: gzip.compress(content)[:-3]]),
    number=st.integers(0, 4),
)
@example(header=struct.pack(">4I", 0x803, 2, 2, 3), data=bytes(range(12)), pack=gzip.compress, number=1)
def test_any_bytes_give_a_picture_or_a_reason(
    header: bytes, data: bytes, pack: Callable[[bytes], bytes], number: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, Fetcher(FetchLimits()) as fetcher:
        path = Path(folder) / "train"
        path.write_bytes(pack(header + data))
        png = b""
        with contextlib.suppress(RejectedError):
            png = fetcher.fetch(f"idx:{path}#{number}")
    if png:
        count, height, width = struct.unpack(">3I", (header + data)[4:16])
        pixels = (header + data)[16:]
        assert pixels_of(png).tobytes() == pixels[number * height * width :][: height * width]
        assert len(pixels) == count * height * width


@given(hostile_text)
def test_any_address_gives_a_picture_or_a_reason(text: str) -> None:
    with Fetcher(FetchLimits()) as fetcher, pytest.raises(RejectedError) as caught:
        fetcher.fetch(f"idx:/no such folder/{text}")
    assert caught.value.reason.stage is Stage.FETCH
