import csv
import io
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from beam_pipelines.artwork import stable_hash
from beam_pipelines.errors import OptionError, RunError
from demo import draw, serve
from demo.__main__ import MARK, Step, clean_directory, describe_files, main, run_steps, walk

SMALL = draw.plan_collection(works=draw.MIN_WORKS, seed=1)


def catalogue(collection: draw.Collection, directory: Path) -> bytes:
    draw.write_catalogue(collection, directory / "MetObjects.csv")
    return (directory / "MetObjects.csv").read_bytes()


class TestCollection:
    def test_is_the_same_for_a_seed(self, tmp_path: Path) -> None:
        again = draw.plan_collection(works=draw.MIN_WORKS, seed=1)
        assert again == SMALL
        assert catalogue(again, tmp_path) == catalogue(SMALL, tmp_path)
        work = SMALL.works[3]
        assert draw.draw_picture(work, view=0, seed=1) == draw.draw_picture(work, view=0, seed=1)

    def test_differs_with_the_seed(self) -> None:
        other = draw.plan_collection(works=draw.MIN_WORKS, seed=2)
        assert other.works != SMALL.works
        assert draw.draw_picture(SMALL.works[0], view=0, seed=1) != draw.draw_picture(SMALL.works[0], view=0, seed=2)

    def test_counts(self) -> None:
        collection = draw.plan_collection(works=300, seed=1)
        assert len({work.object_id for work in collection.works}) == len(collection.works) == 300
        cultures = Counter(work.culture for work in collection.works)
        assert cultures["Minoan"] == 6
        assert cultures[""] > 0
        assert min(cultures[name] for name in draw.MOTIFS if name != "Minoan") >= 40
        assert 0 < sum(not work.public_domain for work in collection.works) < 30
        assert 0 < sum(len(work.pictures) == 2 for work in collection.works) < 100

    def test_unseen_works_are_others_and_two_are_no_pictures(self, tmp_path: Path) -> None:
        seen = draw.plan_collection(works=120, seed=1)
        paths = draw.write_unseen(draw.plan_collection(works=120, seed=2), tmp_path / "unseen", works=10)
        assert len(paths) == len(set(paths)) == 12
        assert {path.parent.name for path in paths} <= set(draw.MOTIFS) - {draw.RARE_CULTURE}
        drawn = {draw.draw_picture(work, view=0, seed=seen.seed) for work in seen.works[:20]}
        for path in paths[:10]:
            assert path.read_bytes() not in drawn
            Image.open(path).load()
        for path in paths[10:]:
            with pytest.raises(OSError, match=r"truncated|cannot identify"):
                Image.open(path).load()

    def test_bad_addresses_are_few_and_each_kind_is_there(self) -> None:
        behaviours = Counter(listing.behaviour for listing in SMALL.listings)
        assert behaviours.pop("pictures") > 80
        assert behaviours == draw.TROUBLES
        assert set(draw.TROUBLES) | {draw.WELL} == set(serve.BEHAVIOURS)

    def test_some_addresses_come_twice(self) -> None:
        counts = Counter((listing.behaviour, listing.picture) for listing in SMALL.listings)
        assert sum(count == 2 for count in counts.values()) == draw.REPEATED_ADDRESSES
        assert {name for work in SMALL.works for name in work.pictures} == {name for _, name in counts}

    def test_one_picture_is_equal_to_one_of_another_object(self) -> None:
        [(copy, original)] = SMALL.copies.items()
        owners = {name: work for work in SMALL.works for name in work.pictures}
        assert owners[copy].object_id != owners[original].object_id
        assert owners[copy].culture == owners[original].culture
        shares = [stable_hash(str(owners[name].object_id), salt="split") / 2**63 for name in (original, copy)]
        assert shares[0] < 0.15 < 0.5 < shares[1]
        served = {listing.picture for listing in SMALL.listings if listing.behaviour == draw.WELL}
        assert {copy, original} <= served


class TestCatalogue:
    def test_form(self, tmp_path: Path) -> None:
        data = catalogue(SMALL, tmp_path)
        assert data.startswith(b"\xef\xbb\xbfObject Number,Is Highlight,Is Timeline Work,Is Public Domain,Object ID,")
        assert data.partition(b"\r\n")[0].endswith(b",Repository,Tags,Tags AAT URL,Tags Wikidata URL")
        assert len(draw.COLUMNS) == 54
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
        assert {len(row) for row in rows} == {54}
        assert len(rows) == 1 + len(SMALL.works)

    def test_quirks(self, tmp_path: Path) -> None:
        rows = list(csv.DictReader(io.StringIO(catalogue(SMALL, tmp_path).decode("utf-8-sig"), newline="")))
        assert any("\n" in row["Title"] for row in rows)
        assert any("\n" in row["Dimensions"] for row in rows)
        assert any(row["Object End Date"].endswith("  ") for row in rows)
        assert any(row["Culture"] != row["Culture"].strip() for row in rows)
        assert {row["Is Public Domain"] for row in rows} == {"True", "False"}
        assert [row["Culture"].strip() for row in rows] == [work.culture for work in SMALL.works]

    def test_image_list(self, tmp_path: Path) -> None:
        draw.write_image_list(SMALL, tmp_path / "images.csv", address="http://127.0.0.1:9")
        rows = list(csv.DictReader((tmp_path / "images.csv").open(encoding="utf-8", newline="")))
        assert len(rows) == len(SMALL.listings)
        first = SMALL.listings[0]
        assert rows[0] == {
            "object_id": str(first.object_id),
            "image_uri": f"http://127.0.0.1:9/{first.behaviour}/{first.picture}",
        }


class TestPictures:
    @pytest.mark.parametrize("motif", draw.MOTIFS)
    @pytest.mark.parametrize(("name", "kind"), [("1-0.jpg", "JPEG"), ("1-0.png", "PNG")])
    def test_decode(self, motif: str, name: str, kind: str) -> None:
        work = draw.Work(object_id=1, culture="", motif=motif, public_domain=True, pictures=(name,))
        image = Image.open(io.BytesIO(draw.draw_picture(work, view=0, seed=1)))
        image.load()
        assert (image.format, image.mode) == (kind, "RGB")
        assert all(draw.SIDES[0] <= side <= draw.SIDES[1] for side in image.size)

    def test_motif_stands_out_of_the_noise(self) -> None:
        for work in SMALL.works[:12]:
            grey = Image.open(io.BytesIO(draw.draw_picture(work, view=0, seed=1))).convert("L").reduce(4)
            histogram = grey.histogram()
            dark = next(level for level in range(256) if sum(histogram[: level + 1]) > 0.1 * sum(histogram))
            light = next(level for level in range(256) if sum(histogram[: level + 1]) > 0.9 * sum(histogram))
            assert light - dark > 25

    def test_all_are_written(self, tmp_path: Path) -> None:
        few = draw.Collection(
            seed=1,
            works=tuple(
                draw.Work(object_id=number, culture="", motif="Iran", public_domain=True, pictures=(f"{number}.jpg",))
                for number in (1, 2)
            ),
            listings=(),
            copies={"2.jpg": "1.jpg"},
        )
        draw.write_pictures(few, tmp_path)
        assert (tmp_path / "1.jpg").read_bytes() == (tmp_path / "2.jpg").read_bytes()


@pytest.fixture(name="address")
def _address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "1-0.jpg").write_bytes(b"0123456789")
    (tmp_path / "1-0.png").write_bytes(b"png")
    with serve.serve(tmp_path) as address:
        yield address


def get(address: str) -> tuple[int, str, bytes]:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


class TestServer:
    def test_good_pictures(self, address: str) -> None:
        assert get(f"{address}/pictures/1-0.jpg") == (200, "image/jpeg", b"0123456789")
        assert get(f"{address}/pictures/1-0.png") == (200, "image/png", b"png")

    @pytest.mark.parametrize(
        "path", ["/missing/1-0.jpg", "/pictures/2-0.jpg", "/other/1-0.jpg", "/", "/pictures/../1-0.jpg", "/robots.txt"]
    )
    def test_missing(self, address: str, path: str) -> None:
        assert get(address + path)[0] == 404

    def test_broken(self, address: str) -> None:
        assert get(f"{address}/broken/1-0.jpg") == (200, "image/jpeg", b"01234")

    def test_blocked(self, address: str) -> None:
        assert get(f"{address}/blocked/1-0.jpg") == (200, "image/jpeg", serve.BLOCK_PAGE)

    def test_slow(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(serve, "SLOW_SECONDS", 0.2)
        start = time.monotonic()
        assert get(f"{address}/slow/1-0.jpg") == (200, "image/jpeg", b"0123456789")
        assert time.monotonic() - start >= 0.2

    def test_flaky(self, address: str) -> None:
        assert get(f"{address}/flaky/1-0.jpg")[0] == 500
        assert get(f"{address}/flaky/1-0.jpg") == (200, "image/jpeg", b"0123456789")

    def test_ends_with_its_block(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError), serve.serve(tmp_path) as address:
            raise ZeroDivisionError
        with pytest.raises(urllib.error.URLError):
            get(address)


class TestCommand:
    def test_walk_names_what_was_drawn(self, tmp_path: Path) -> None:
        unseen = tmp_path / "unseen" / "Japan" / "1.jpg"
        commands = [step.command for step in walk(tmp_path, unseen=unseen)]
        assert [command[2] for command in commands[:2]] == ["beam_pipelines.labels"] * 2
        assert commands[2] == commands[3]
        assert commands[4] == ("python", "-m", "beam_pipelines.verify", str(tmp_path / "dataset"))
        assert [command[2] for command in commands[5:8]] == ["trainer.task", "beam_pipelines.embed", "trainer.task"]
        trained = [command[-1] for command in (commands[5], commands[7])]
        assert commands[8:11] == [
            ("python", "-m", "trainer.evaluate", "--run", trained[0]),
            ("python", "-m", "trainer.evaluate", "--run", trained[1]),
            ("python", "-m", "trainer.compare", *trained, "--output", str(tmp_path / "comparison.html")),
        ]
        exported = [command[-1] for command in commands[11:13]]
        assert [command[2:5] for command in commands[11:13]] == [("trainer.export", "--run", run) for run in trained]
        assert commands[13] == ("python", "-m", "serving.classify", "--model", exported[0], str(unseen))
        assert commands[14][2] == "serving.similar"
        assert {exported[1], str(unseen)} < set(commands[14])
        assert commands[15][2] == "beam_pipelines.batch_predict"
        assert {exported[0], str(tmp_path / "unseen")} < set(commands[15])

    def test_steps_are_shown_and_stop_at_the_first_failure(self, capfd: pytest.CaptureFixture[str]) -> None:
        good, bad = (Step(text, ("python", "-c", f"print('did'); exit({code})")) for text, code in [("A", 0), ("B", 3)])
        with pytest.raises(RunError, match="step 2 ended with exit code 3: python -c"):
            run_steps([good, bad, good])
        shown = capfd.readouterr().out
        assert shown.count("did\n") == 2
        assert "1. A\n$ python -c" in shown

    def test_directory_is_made_anew(self, tmp_path: Path) -> None:
        output = tmp_path / "a" / "demo"
        clean_directory(output)
        (output / "dataset").mkdir()
        (output / "dataset" / "labels.txt").touch()
        (output / "link").symlink_to(tmp_path)
        clean_directory(output)
        assert [path.name for path in output.iterdir()] == [MARK]
        assert tmp_path.exists()

    def test_refuses_a_directory_that_is_not_its_own(self, tmp_path: Path) -> None:
        kept = tmp_path / "thesis.txt"
        kept.touch()
        for place in (tmp_path, kept):
            with pytest.raises(OptionError, match="not a directory that the demo made"):
                clean_directory(place)
        assert kept.exists()
        assert main(["--output", str(tmp_path)]) == 2

    def test_refuses_too_few_works(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["--works", "20"])
        assert "--works 20 is too few for five cultures: give 100 or more" in capsys.readouterr().err

    def test_a_failed_step_is_one_line_and_exit_code_1(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(draw, "write_pictures", lambda *_: None)
        monkeypatch.setattr(
            sys.modules["demo.__main__"], "walk", lambda _, unseen: [Step("C", ("python", "-c", "exit(4)"))]
        )
        assert main(["--output", str(tmp_path / "out"), "--works", "100"]) == 1
        assert capfd.readouterr().err == "demo: step 1 ended with exit code 4: python -c 'exit(4)'\n"

    def test_description_gives_sizes_and_leaves_hidden_files_out(self, tmp_path: Path) -> None:
        (tmp_path / ".plan").mkdir()
        (tmp_path / ".plan" / "x").touch()
        (tmp_path / "labels.txt").write_text("abc", encoding="utf-8")
        assert list(describe_files(tmp_path)) == [f"{3:>12}  labels.txt"]
