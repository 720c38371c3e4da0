"""What the model is not good for, in plain words, as far as the figures tell. Imports no TensorFlow."""

import dataclasses
from collections.abc import Mapping, Sequence

from beam_pipelines.dataset import TRAIN
from beam_pipelines.pages import percent, thousands
from beam_pipelines.report.texts import clipped
from trainer.card.data_set import DataFacts
from trainer.evaluation.figures import ClassFigures, Evaluation
from trainer.evaluation.page import confidence
from trainer.models import IMAGENET
from trainer.saved_run import BEST, SavedRun

# Below so many, what is learned of a class, and what is measured of it, is by chance.
FEW_TO_LEARN = 50
FEW_TO_TEST = 20

_MOST_NAMED = 8
_WEAK = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limit:
    """A limit of the model.

    Attributes:
        title: what it is about.
        text: a sentence or two.
        names: of the classes that it is about, with a note each.
        more: how many classes are not named.
    """

    title: str
    text: str
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    more: int = 0


def limits(data: DataFacts, evaluation: Evaluation | None, saved: SavedRun) -> list[Limit]:
    """Returns what there is to say, the most important first.

    Args:
        data: that the model was trained on.
        evaluation: of it; None if there is none.
        saved: the run that it comes from.
    """
    found = [_tested_on(data, evaluation), _only_these(saved.labels, saved.multi_label)]
    if evaluation and not saved.multi_label:
        found.append(_against_guessing(evaluation))
    found += [*_small_classes(data, saved.labels), *_classes_tested(evaluation), *_scores(evaluation)]
    found += [*_not_had(data), *_weights(data, saved), _not_measured()]
    return found


def is_own_split(data: DataFacts, evaluation: Evaluation) -> bool:
    """Tells whether an evaluation is on a split of the data that the run was trained on, wherever they lay then."""
    return evaluation.data == data.place or evaluation.examples == data.totals.get(evaluation.split)


def _tested_on(data: DataFacts, evaluation: Evaluation | None) -> Limit:
    title = "What it was tested on"
    if evaluation is None:
        return Limit(title=title, text="This checkpoint was not evaluated: how good it is on each class is unknown.")
    if evaluation.split == TRAIN:
        text = (
            "Its figures are those on the pictures that it was trained on, which it may know by heart: on others it "
            "does worse."
        )
    elif not is_own_split(data, evaluation):
        text = f"It was tested on pictures that are not of its own data set, and on no others: {evaluation.data}."
    else:
        text = (
            "It was tested on pictures of the source that it was trained on, and on no others: pictures taken or "
            "scanned in another way, or from other collections, may go worse."
        )
        if evaluation.checkpoint == BEST:
            text += " The same pictures chose the checkpoint, which flatters its figures a little."
    return Limit(title=title, text=text)


def _only_these(labels: Sequence[str], multi_label: bool) -> Limit:
    if multi_label:
        text = (
            f"It knows {_classes(len(labels))} and scores each by itself. Of whatever else is in a picture it says "
            "nothing."
        )
    else:
        text = (
            f"It knows {_classes(len(labels))} and gives every picture one of them, also a picture of something else "
            "entirely, and at times with a high score."
        )
    return Limit(title="Only these classes", text=text)


def _against_guessing(evaluation: Evaluation) -> Limit:
    commonest = max(evaluation.classes, key=lambda row: row.examples)
    guessed = commonest.examples / max(evaluation.examples, 1)
    text = (
        f"Always guessing “{clipped(commonest.label, 60)}”, the commonest class, would be right for "
        f"{percent(guessed, 1)}; the model is right for {percent(evaluation.accuracy, 1)}."
    )
    if evaluation.accuracy <= guessed:
        text += " It is of no use as it is."
    return Limit(title="Against guessing", text=text)


def _small_classes(data: DataFacts, labels: Sequence[str]) -> list[Limit]:
    trained = data.counts.get(TRAIN)
    if not trained:
        return []
    counts = {label: trained.get(label, 0) for label in labels}
    few = dict(sorted(((label, count) for label, count in counts.items() if count < FEW_TO_LEARN), key=_by_count))
    if few:
        text = (
            f"{_classes(len(few), have=True)} fewer than {FEW_TO_LEARN} pictures to learn from, and may be missed or "
            "mistaken:"
        )
        return [_named("Little to learn from", text, {label: thousands(count) for label, count in few.items()})]
    smallest = dict(sorted(counts.items(), key=_by_count)[:3])
    text = "The classes with the fewest pictures to learn from:"
    named = {label: thousands(count) for label, count in smallest.items()}
    return [_named("Smallest classes", text, named)] if len(labels) > len(named) else []


def _classes_tested(evaluation: Evaluation | None) -> list[Limit]:
    if evaluation is None:
        return []
    tested = [row for row in evaluation.classes if row.examples]
    never = [row for row in evaluation.classes if not row.predicted]
    weak = sorted((row for row in tested if row.predicted and row.recall < _WEAK), key=lambda row: row.recall)
    few = sorted((row for row in evaluation.classes if row.examples < FEW_TO_TEST), key=lambda row: row.examples)
    found = []
    if never:
        text = f"{_classes(len(never), have=None)} never predicted in the test:"
        found.append(_named("Never predicted", text, {row.label: f"{thousands(row.examples)} tested" for row in never}))
    if weak:
        text = f"Of the pictures of {_classes(len(weak))}, more are missed than found:"
        found.append(_named("Often missed", text, {row.label: f"{percent(row.recall, 1)} found" for row in weak}))
    if few:
        found.append(_named("Little to test with", _few_tested(few), {row.label: str(row.examples) for row in few}))
    return found


def _few_tested(few: Sequence[ClassFigures]) -> str:
    return (
        f"{_classes(len(few), have=True)} fewer than {FEW_TO_TEST} pictures to be tested with, so that the figures of "
        "those may well be chance:"
    )


def _scores(evaluation: Evaluation | None) -> list[Limit]:
    found = confidence(evaluation.calibration) if evaluation else None
    if found is None or found.kind == "even":
        return []
    text = (
        f"On the whole, scores promise too {'much' if found.kind == 'over' else 'little'}: they are "
        f"{percent(found.score, 1)} on average, and {percent(found.right, 1)} is right. Do not read them as "
        "probabilities."
    )
    return [Limit(title="Scores", text=text)]


def _not_had(data: DataFacts) -> list[Limit]:
    rejected = sum(row.count for row in data.account.reasons if row.reason.kind == "rejected") if data.account else 0
    if not data.account or not rejected:
        return []
    text = (
        f"{thousands(rejected)} of {thousands(data.account.read)} rows ({percent(rejected, data.account.read)}) could "
        "not be had, and nothing was learned from them; the data set below says why."
    )
    return [Limit(title="What is missing", text=text)]


def _weights(data: DataFacts, saved: SavedRun) -> list[Limit]:
    """Returns what a backbone brings along."""
    if data.embeddings and data.embeddings.weights == "none":
        text = "The backbone that made its embeddings has random weights: it has learned nothing of pictures."
        return [Limit(title="Random backbone", text=text)]
    weights = data.embeddings.weights if data.embeddings else saved.options.weights
    if weights != IMAGENET:
        return []
    text = (
        "Its backbone learned first from ImageNet, photographs of the web of around 2010, and takes over what is "
        "common and what is missing there."
    )
    return [Limit(title="ImageNet", text=text)]


def _not_measured() -> Limit:
    text = (
        "How it does on parts of the data, such as periods, places, makers or ways of taking the picture, is not "
        "measured here. Where a wrong label does harm, let a person look first."
    )
    return Limit(title="Not measured", text=text)


def _named(title: str, text: str, names: Mapping[str, str]) -> Limit:
    first = dict(list(names.items())[:_MOST_NAMED])
    return Limit(title=title, text=text, names=first, more=len(names) - len(first))


def _classes(count: int, *, have: bool | None = False) -> str:
    """Returns `3 classes`, with `have` True `3 classes have`, with None `3 classes are`."""
    verb = {False: ("", ""), True: (" has", " have"), None: (" is", " are")}[have]
    return f"1 class{verb[0]}" if count == 1 else f"{thousands(count)} classes{verb[1]}"


def _by_count(row: tuple[str, int]) -> int:
    return row[1]
