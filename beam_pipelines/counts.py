"""Counting in a pipeline: what was counted is taken from the rows themselves, never from a runner's counters."""

from collections.abc import Iterable

import apache_beam as beam

from beam_pipelines import files


class WriteCounts(beam.PTransform):
    """Adds up (name, number) pairs by name and writes them as one JSON object."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def expand(self, pairs: beam.PCollection) -> beam.PCollection:
        return (
            pairs
            | "SumByName" >> beam.CombinePerKey(sum)
            | "Gather" >> beam.combiners.ToList()
            | "WriteJson" >> beam.Map(_write, path=self._path)
        )


def _write(pairs: Iterable[tuple[str, int]], *, path: str) -> None:
    files.write_json(path, dict(sorted(pairs)))


def below(counts: dict[str, int], prefix: str) -> dict[str, int]:
    """Returns the counts whose names begin with `prefix/`, by the rest of their names."""
    start = f"{prefix}/"
    return {name.removeprefix(start): count for name, count in counts.items() if name.startswith(start)}
