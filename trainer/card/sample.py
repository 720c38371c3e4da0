"""A few examples of many classes, chosen by hash: the same whatever the order in which they come."""

import heapq
from collections.abc import Sequence

from beam_pipelines.artwork import stable_hash
from trainer.evaluation.figures import Judged

_MOST = 24
_MOST_OF_CLASS = 6


class HashSample:
    """About 24 of the examples that are added: a few of each class, or one of so many classes."""

    def __init__(self, labels: Sequence[str]) -> None:
        """Begins without any.

        Args:
            labels: the classes, in the order of their ids.
        """
        self._numbers = {label: number for number, label in enumerate(labels)}
        self._most_of_class = min(max(_MOST // max(len(labels), 1), 1), _MOST_OF_CLASS)
        self._chosen: dict[int, list[tuple[int, str, Judged]]] = {}

    def add(self, judged: Judged) -> None:
        """Adds an example, by the first of its labels; one without a key or a label of these classes is passed over."""
        number = self._numbers.get(judged.labels[0]) if judged.key and judged.labels else None
        if number is not None:
            of_class = self._chosen.setdefault(number, [])
            ranked = (-stable_hash(judged.key, salt="card"), judged.key, judged)
            (heapq.heappush if len(of_class) < self._most_of_class else heapq.heappushpop)(of_class, ranked)

    def examples(self) -> tuple[Judged, ...]:
        """Returns those chosen, by class."""
        ranked = ((rank, number, judged) for number, rows in self._chosen.items() for rank, _, judged in rows)
        first = heapq.nlargest(_MOST, ranked, key=lambda row: (row[0], row[2].key))
        return tuple(judged for rank, number, judged in sorted(first, key=lambda row: (row[1], -row[0], row[2].key)))
