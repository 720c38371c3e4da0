"""A version appears whole or not at all, and what killed exports left goes away."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from beam_pipelines import files
from beam_pipelines.errors import OptionError, RunError
from tests.beam_pipelines.builders import BUCKET, object_store
from trainer.exporting import versions
from trainer.exporting.versions import check_version, new_version

LEFT_BEHIND = ".unfinished-{version}-4194305-0123abcd"
# Beyond the highest that Linux gives.
NO_PROCESS = 4_194_305


def write(directory: str, content: bytes = b"model") -> None:
    for name in ("saved_model.pb", "assets/labels.txt", "variables/variables.index"):
        files.write_bytes(os.path.join(directory, name), content)


def go_wrong() -> None:
    raise RunError("something went wrong")


def fail_in(output: str, meanwhile: Callable[[], None] = go_wrong) -> None:
    """Makes a version, while something happens."""
    with new_version(output) as directory:
        write(directory)
        meanwhile()


class TestCheck:
    @pytest.mark.parametrize("name", ["model", "model/", "model/v1", "model/01", "model/0", "model/-1", "model/1.0"])
    def test_what_is_no_version(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(OptionError) as caught:
            check_version(f"{tmp_path}/{name}")
        told = f"--output {tmp_path}/{name} does not end in the number of a version: give --output {tmp_path}/model/1"
        assert str(caught.value) == told

    def test_the_next_one_of_a_model_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "3").mkdir()
        (tmp_path / "20").mkdir()
        (tmp_path / "notes").mkdir()
        with pytest.raises(OptionError, match=f"give --output {tmp_path}/21"):
            check_version(str(tmp_path))

    def test_one_that_is_there(self, tmp_path: Path) -> None:
        (tmp_path / "1").mkdir()
        (tmp_path / "2").mkdir()
        with pytest.raises(OptionError) as caught:
            check_version(f"{tmp_path}/1")
        assert str(caught.value) == f"{tmp_path}/1 is there already: give --output {tmp_path}/3"
        with pytest.raises(OptionError, match="is there already"):
            check_version(f"{tmp_path}/1/")

    def test_one_that_is_free(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "1").mkdir()
        check_version(f"{tmp_path}/2")
        check_version(f"{tmp_path}/new/1")
        monkeypatch.chdir(tmp_path)
        check_version("7")
        with pytest.raises(OptionError, match=r"^1 is there already: give --output \./2$"):
            check_version("1")

    def test_a_model_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "model").write_text("")
        with pytest.raises(OptionError, match="model is a file, give a directory"):
            check_version(f"{tmp_path}/model/1")


class TestLocal:
    def test_it_appears_whole(self, tmp_path: Path) -> None:
        output = tmp_path / "model" / "1"
        with new_version(str(output)) as directory:
            write(directory)
            assert not output.exists()
            assert os.path.dirname(directory) == str(tmp_path / "model")
        assert files.list_files(str(output)) == ["assets/labels.txt", "saved_model.pb", "variables/variables.index"]
        assert os.listdir(tmp_path / "model") == ["1"]

    def test_nothing_appears_if_it_fails(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="something went wrong"):
            fail_in(f"{tmp_path}/1")
        assert os.listdir(tmp_path) == []

    def test_what_was_made_meanwhile_stays(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match=f"made by others meanwhile: give --output {tmp_path}/2"):
            fail_in(f"{tmp_path}/1", lambda: write(f"{tmp_path}/1", b"of others"))
        assert (tmp_path / "1" / "saved_model.pb").read_bytes() == b"of others"
        assert os.listdir(tmp_path) == ["1"]

    def test_two_at_once(self, tmp_path: Path) -> None:
        with new_version(f"{tmp_path}/1") as directory:
            with pytest.raises(OptionError, match=f"another run is at work in {tmp_path}/1"):
                fail_in(f"{tmp_path}/1")
            with new_version(f"{tmp_path}/2") as other:
                write(other)
            write(directory)
        assert sorted(os.listdir(tmp_path)) == ["1", "2"]

    def test_what_killed_exports_left_goes_away(self, tmp_path: Path) -> None:
        for version in (1, 2):
            write(str(tmp_path / LEFT_BEHIND.format(version=version)))
        (tmp_path / ".unfinished-notes").mkdir()
        with new_version(f"{tmp_path}/1") as directory:
            write(directory)
        assert sorted(os.listdir(tmp_path)) == [".unfinished-notes", "1"]

    def test_another_export_at_work_is_left_alone(self, tmp_path: Path) -> None:
        with new_version(f"{tmp_path}/2") as directory:
            with new_version(f"{tmp_path}/1") as other:
                write(other)
            write(directory)
        assert sorted(os.listdir(tmp_path)) == ["1", "2"]


class TestRemote:
    output = f"{BUCKET}/model/1"

    def test_the_graph_comes_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        written = []
        real = files.open_to_write

        @contextlib.contextmanager
        def spy(path: str) -> Iterator[BinaryIO]:
            if files.is_remote(path):
                written.append(path)
            with real(path) as file:
                yield file

        monkeypatch.setattr(files, "open_to_write", spy)
        with object_store():
            check_version(self.output)
            with new_version(self.output) as directory:
                write(directory)
            assert written[-1] == f"{self.output}/saved_model.pb"
            assert len(written) == 3
            assert len(files.list_files(f"{BUCKET}/model")) == 3
            with pytest.raises(OptionError, match=f"1 is there already: give --output {BUCKET}/model/2"):
                check_version(self.output)

    def test_nothing_appears_if_it_fails(self) -> None:
        with object_store():
            with pytest.raises(RunError, match="something went wrong"):
                fail_in(self.output)
            assert files.list_files(f"{BUCKET}/model") == []

    def test_what_a_killed_export_left_goes_away(self) -> None:
        with object_store():
            files.write_bytes(f"{self.output}/variables/variables.data-00000-of-00009", b"left behind")
            claim = {"host": socket.gethostname(), "pid": NO_PROCESS}
            files.write_json(f"{BUCKET}/model/{LEFT_BEHIND.format(version=1)}", claim)
            with new_version(self.output) as directory:
                write(directory)
            assert len(files.list_files(f"{BUCKET}/model")) == 3

    def test_another_export_at_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        claim = f"{BUCKET}/model/{LEFT_BEHIND.format(version=1)}"
        with object_store():
            files.write_json(claim, {"host": "another machine", "pid": 1})
            files.write_bytes(f"{self.output}/assets/labels.txt", b"of others")
            with pytest.raises(OptionError, match=f"another export is at work in {self.output}: .*delete {claim}"):
                fail_in(self.output)
            assert files.list_files(f"{BUCKET}/model") == [LEFT_BEHIND.format(version=1), "1/assets/labels.txt"]
            with new_version(f"{BUCKET}/model/2") as directory:
                write(directory)
            monkeypatch.setattr(versions, "_FORGOTTEN_SECONDS", -1.0)
            with new_version(self.output) as directory:
                write(directory)
            assert len(files.list_files(f"{BUCKET}/model")) == 6
