import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from beam_pipelines.errors import RunError
from tests.beam_pipelines.builders import BUCKET, killed_at, object_store
from trainer.checkpoints import Checkpoints, best_step, digest, named_variables

STATE = {"step": 3, "best": None, "window": {"loss": 0.1 + 0.2}}


def make_variables(value: float = 0.0) -> dict[str, tf.Variable]:
    return {
        "model/kernel": tf.Variable([[value, 1.0]]),
        "model/seed_generator_state": tf.Variable([7, int(value)]),
        "optimizer/iteration": tf.Variable(int(value), dtype=tf.int64),
    }


def save(checkpoints: Checkpoints, *steps: int, best: int | None = None) -> None:
    for step in steps:
        checkpoints.save(step, make_variables(step), {**STATE, "best_step": best}, best=best)


def files_of(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def test_what_is_saved_is_restored(tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(tmp_path / "checkpoints"))
    assert checkpoints.steps() == []
    saved = make_variables(3)
    checkpoints.save(3, saved, STATE)
    assert files_of(tmp_path / "checkpoints") == ["ckpt-3.data-00000-of-00001", "ckpt-3.index"]
    restored = make_variables()
    assert digest(restored) != digest(saved)
    assert checkpoints.restore(3, restored) == STATE
    assert digest(restored) == digest(saved)
    assert checkpoints.state(3) == STATE


def test_in_an_object_store() -> None:
    with object_store():
        checkpoints = Checkpoints(f"{BUCKET}/run/checkpoints", keep=2)
        save(checkpoints, 1, 2, 3)
        assert checkpoints.steps() == [2, 3]
        assert checkpoints.is_readable(3)
        restored = make_variables()
        checkpoints.restore(3, restored)
        assert digest(restored) == digest(make_variables(3))


@pytest.mark.parametrize(("best", "left"), [(None, [30, 40]), (10, [10, 30, 40]), (40, [30, 40])])
def test_the_newest_and_the_best_are_kept(tmp_path: Path, best: int | None, left: list[int]) -> None:
    checkpoints = Checkpoints(str(tmp_path), keep=2)
    save(checkpoints, 9, 10, 30, 40, best=best)
    assert checkpoints.steps() == left
    assert len(files_of(tmp_path)) == 2 * len(left), "of the others nothing is left"
    assert best_step(checkpoints) == (best or 40)


def test_the_best_of_none(tmp_path: Path) -> None:
    assert best_step(Checkpoints(str(tmp_path / "none"))) is None


@pytest.mark.parametrize("moment", [1, 2])
def test_a_process_killed_while_it_saves_leaves_no_checkpoint_that_looks_whole(tmp_path: Path, moment: int) -> None:
    checkpoints = Checkpoints(str(tmp_path), keep=1)
    save(checkpoints, 1)
    with killed_at(moment):
        save(checkpoints, 2)
    assert checkpoints.steps() == [1]
    (tmp_path / ".unfinished-of-a-killed-process").mkdir()
    (tmp_path / ".unfinished-of-a-killed-process" / "part").touch()
    checkpoints.tidy()
    assert files_of(tmp_path) == ["ckpt-1.data-00000-of-00001", "ckpt-1.index"]
    save(checkpoints, 2)
    assert checkpoints.is_readable(2)


def flip_last_byte(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("ending", "damage"),
    [
        ("data-00000-of-00001", lambda path: path.write_bytes(path.read_bytes()[:20])),
        ("data-00000-of-00001", lambda path: path.write_bytes(b"")),
        ("data-00000-of-00001", flip_last_byte),
        ("data-00000-of-00001", lambda path: path.unlink()),
        ("index", lambda path: path.write_bytes(path.read_bytes()[:20])),
        ("index", lambda path: path.write_bytes(b"")),
    ],
)
def test_a_damaged_one_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str, damage: Callable[[Path], Any]
) -> None:
    checkpoints = Checkpoints(str(tmp_path))
    save(checkpoints, 4, 5)
    damage(tmp_path / f"ckpt-5.{ending}")
    with caplog.at_level(logging.WARNING):
        assert [checkpoints.is_readable(step) for step in (4, 5)] == [True, False]
    assert [record.getMessage().split(": ")[0] for record in caplog.records if record.name.startswith("trainer")] == [
        f"{tmp_path}/ckpt-5 is damaged and passed over"
    ]
    with pytest.raises(RunError, match=r"ckpt-5 cannot be restored .*: delete its files to go on from the one before"):
        checkpoints.restore(5, make_variables())


@pytest.mark.parametrize(
    "change",
    [
        lambda variables: variables.pop("optimizer/iteration"),
        lambda variables: variables.update({"model/bias": tf.Variable(1.0)}),
        lambda variables: variables.update({"model/kernel": tf.Variable([1.0])}),
    ],
)
def test_one_of_other_variables_is_refused(tmp_path: Path, change: Callable[[dict[str, tf.Variable]], Any]) -> None:
    checkpoints = Checkpoints(str(tmp_path))
    save(checkpoints, 1)
    variables = make_variables()
    change(variables)
    with pytest.raises(RunError, match="ckpt-1 cannot be restored"):
        checkpoints.restore(1, variables)


def test_some_variables_can_be_restored_alone() -> None:
    with object_store():
        checkpoints = Checkpoints(f"{BUCKET}/run/checkpoints")
        save(checkpoints, 3)
        restored = make_variables()
        restored.pop("optimizer/iteration")
        checkpoints.restore_some(3, restored)
        assert digest(restored) == digest({name: make_variables(3)[name] for name in restored})
        restored["model/bias"] = tf.Variable(1.0)
        with pytest.raises(RunError, match=r"ckpt-3 cannot be restored \(model/bias: .* choose another --checkpoint"):
            checkpoints.restore_some(3, restored)


def test_the_state_of_dropout_is_among_the_variables() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5, seed=1), keras.layers.Dense(2)], name="m")
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, name="sgd")
    optimizer.build(model.trainable_variables)
    before = named_variables(model=model.variables, optimizer=optimizer.variables)
    assert len(before) == len(model.variables) + len(optimizer.variables)
    assert {"optimizer/sgd/iteration"} < before.keys()
    first = digest(before)
    model(np.ones((1, 3), np.float32), training=True)
    assert digest(before) != first


def test_equal_paths_are_numbered() -> None:
    variables = [keras.Variable([float(number)], name="same") for number in range(3)]
    named = named_variables(model=variables)
    assert {name: float(value.numpy()[0]) for name, value in named.items()} == {
        "model/same": 0.0,
        "model/same_2": 1.0,
        "model/same_3": 2.0,
    }
