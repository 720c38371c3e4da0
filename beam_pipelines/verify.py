"""Checks a finished data set against its own account: `python -m beam_pipelines.verify DIR`.

Every byte is read: the framing of every shard, its hash, every example's features, its picture or its embedding, its
class; no key twice, no object and no picture on both sides of the split, and the same counts as `dataset_info.json`
says.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PIL import Image

from beam_pipelines import files
from beam_pipelines.artwork import stable_hash
from beam_pipelines.commands import run_command
from beam_pipelines.dataset import (
    COMPLETED_FILE,
    EMBEDDING,
    INFO_FILE,
    LABELS_FILE,
    REJECTED_FILE,
    SPLITS,
    Feature,
    Shard,
)
from beam_pipelines.errors import OptionError
from beam_pipelines.plan_files import PlanFiles, PlannedPicture, planned_shards
from beam_pipelines.shards import read_content
from beam_pipelines.tfrecords import CorruptRecordError

_SHOWN_PROBLEMS = 20
_OF_THE_PICTURE = (Feature.ENCODED, Feature.FORMAT, Feature.HEIGHT, Feature.WIDTH)

_Example = dict[str, list[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Seen:
    """What one shard holds: hashes of keys, of groups and of picture bytes, examples per class, and what is wrong."""

    shard: Shard
    keys: list[int]
    groups: set[int]
    contents: set[int]
    labels: collections.Counter[int]
    problems: list[str]


def verify(directory: str) -> Iterator[str]:
    """Yields what is wrong with the data set in `directory`, one line a problem; nothing if all is well.

    Raises:
        OptionError: there is no finished data set.
    """
    if not files.exists(files.join(directory, COMPLETED_FILE)):
        raise OptionError(f"{directory} has no finished data set: it has no file {COMPLETED_FILE}")
    info = files.read_json(files.join(directory, INFO_FILE))
    labels = list(files.read_lines(files.join(directory, LABELS_FILE)))
    if labels != list(info["labels"]):
        yield f"{LABELS_FILE} does not have the classes of {INFO_FILE}"
    plan = PlanFiles(directory)
    shards = planned_shards(files.read_json(plan.summary))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        seen = list(pool.map(lambda shard: _check_shard(plan, shard, labels, info), shards))
    for shard in seen:
        yield from shard.problems
    yield from _check_identity(seen, split_given=info["split_given"])
    yield from _check_counts(directory, info, seen, labels)


def _check_shard(plan: PlanFiles, shard: Shard, labels: list[str], info: dict[str, Any]) -> _Seen:
    """Reads one shard; what it says of itself is checked against the plan, the classes and the account."""
    planned = {row.artwork.key: row for row in map(PlannedPicture.from_line, files.read_lines(plan.rows(shard)))}
    seen = _Seen(shard=shard, keys=[], groups=set(), contents=set(), labels=collections.Counter(), problems=[])
    data = _embeddings(info["backbone"]["width"]) if "backbone" in info else _PICTURES
    told = {value["name"]: value for value in info["splits"][shard.split]["shards"]}.get(shard.file_name)
    try:
        content = read_content(
            plan, shard, on_example=lambda example: _check_example(example, data, planned, labels, seen)
        )
        if told is None or (content.examples, content.sha256) != (told["examples"], told["sha256"]):
            seen.problems.append(f"{shard.file_name} is not the file that {INFO_FILE} lists")
    except CorruptRecordError as error:
        seen.problems.append(f"{shard.file_name}: {error}")
    except FileNotFoundError:
        seen.problems.append(f"{shard.file_name} is missing")
    return seen


def _check_example(
    example: _Example, data: "_Data", planned: dict[str, PlannedPicture], labels: list[str], seen: _Seen
) -> None:
    missing = [name for name in data.features if not example.get(name)]
    if missing:
        seen.problems.append(f"{seen.shard.file_name}: an example lacks {', '.join(missing)}")
        return
    key = example[Feature.KEY][0].decode("utf-8", "surrogatepass")
    seen.keys.append(stable_hash(key))
    seen.contents.add(stable_hash(example[Feature.SHA256][0].decode()))
    seen.labels.update(example[Feature.LABEL])
    problem = _problem_of(example, planned.get(key), labels) or data.problem_of(example)
    if problem:
        seen.problems.append(f"{seen.shard.file_name}: {key}: {problem}")
    if key in planned:
        seen.groups.add(stable_hash(planned[key].artwork.group))


def _problem_of(example: _Example, planned: PlannedPicture | None, labels: list[str]) -> str:
    if planned is None:
        return "is not planned for this shard"
    texts = tuple(text.decode() for text in example[Feature.TEXT])
    class_ids = tuple(example[Feature.LABEL])
    if (texts, class_ids) != (planned.artwork.labels, planned.class_ids):
        return f"has the classes {class_ids} {texts} instead of {planned.class_ids} {planned.artwork.labels}"
    if texts != tuple(labels[number] if number < len(labels) else "" for number in class_ids):
        return f"has the class ids {class_ids}, which {LABELS_FILE} names otherwise than {texts}"
    return ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Data:
    """What an example holds besides its identity.

    Attributes:
        features: all that it must have.
        problem_of: returns what is wrong with it; empty if nothing is.
    """

    features: Sequence[str]
    problem_of: Callable[[_Example], str]


def _problem_of_picture(example: _Example) -> str:
    size = (example[Feature.WIDTH][0], example[Feature.HEIGHT][0])
    try:
        with Image.open(io.BytesIO(example[Feature.ENCODED][0]), formats=["JPEG"]) as image:
            image.load()
            found = (image.mode, image.size)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        return f"has no whole JPEG ({type(error).__name__})"
    return "" if found == ("RGB", size) else f"is {found} instead of an RGB picture of {size}"


_PICTURES = _Data(features=[feature.value for feature in Feature], problem_of=_problem_of_picture)


def _embeddings(width: int) -> _Data:
    """Returns what is to be checked of embeddings, of `width` numbers each."""

    def problem_of(example: _Example) -> str:
        values = example[EMBEDDING]
        if len(values) != width:
            return f"has an embedding of {len(values)} numbers instead of {width}"
        return "" if all(map(math.isfinite, values)) else "has an embedding with numbers that are not finite"

    identity = [feature.value for feature in Feature if feature not in _OF_THE_PICTURE]
    return _Data(features=[*identity, EMBEDDING], problem_of=problem_of)


def _check_identity(seen: list[_Seen], *, split_given: bool) -> Iterator[str]:
    keys = collections.Counter(key for shard in seen for key in shard.keys)
    if twice := sum(1 for count in keys.values() if count > 1):
        yield f"{twice} keys stand more than once"
    # Where the user gave the split, an object on both sides is the user's wish.
    for what, of in (("pictures", "contents"), *(() if split_given else (("objects", "groups"),))):
        sides = [set().union(*(getattr(shard, of) for shard in seen if shard.shard.split == split)) for split in SPLITS]
        if both := len(sides[0] & sides[1]):
            yield f"{both} {what} are on both sides of the split"


def _check_counts(directory: str, info: dict[str, Any], seen: list[_Seen], labels: list[str]) -> Iterator[str]:
    in_all: collections.Counter[str] = collections.Counter()
    for split in SPLITS:
        shards = [shard for shard in seen if shard.shard.split == split]
        examples = sum(len(shard.keys) for shard in shards)
        if examples != info["splits"][split]["examples"]:
            yield f"{split} has {examples} examples instead of {info['splits'][split]['examples']}"
        of_class = sum((shard.labels for shard in shards), collections.Counter())
        found = {label: of_class[number] for number, label in enumerate(labels) if of_class[number]}
        in_all.update(found)
        if found != info["splits"][split]["labels"]:
            yield f"{split} does not have the pictures of each class that {INFO_FILE} says"
    if {label: in_all[label] for label in labels} != info["labels"]:
        yield f"the classes do not have the pictures that {INFO_FILE} says"
    written = sum(len(shard.keys) for shard in seen)
    if written != info["written"]:
        yield f"{written} examples were found instead of {info['written']}"
    rejected = collections.Counter(line["reason"] for line in _rejected(directory))
    if dict(rejected) != info["rejected"]:
        yield f"{REJECTED_FILE} has {dict(rejected)} instead of {info['rejected']}"
    ended = info["written"] + sum(info["filtered"].values()) + sum(info["rejected"].values())
    if info["read"] != ended:
        yield f"{info['read']} rows were read, but {ended} have an outcome"


def _rejected(directory: str) -> Iterator[dict[str, str]]:
    return map(json.loads, files.read_lines(files.join(directory, REJECTED_FILE)))


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns 0 if all is well, 1 if not, 2 if there is nothing to check."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_pipelines.verify", description="Checks a finished data set against its own account."
    )
    parser.add_argument("directory", help="the data set; local or gs://")
    parsed = parser.parse_args(list(arguments))
    return run_command(lambda: _verify(parsed.directory))


def _verify(directory: str) -> int:
    problems = list(verify(directory))
    for problem in problems[:_SHOWN_PROBLEMS]:
        print(problem)  # noqa: T201
    if len(problems) > _SHOWN_PROBLEMS:
        print(f"… and {len(problems) - _SHOWN_PROBLEMS} more")  # noqa: T201
    print(f"{directory}: " + (f"{len(problems)} problems" if problems else "all is well"))  # noqa: T201
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
