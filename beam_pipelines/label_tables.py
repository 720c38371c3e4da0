"""What the labels command does: counts, attributes and works of a source, as files and as lines for people.

A source that can count where its rows lie does so. Of any other the rows are read by a pipeline, which keeps what it
finds beside the output, in `<output>.unfinished/`, until all is there.
"""

import contextlib
import csv
import dataclasses
import io
import logging
import os
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeGuard

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines import files
from beam_pipelines.artwork import clean_text
from beam_pipelines.cache import ANSWERS
from beam_pipelines.counts import WriteCounts
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.exclusion import Exclude, check_exclude_file
from beam_pipelines.google_access import check_access
from beam_pipelines.labels_options import LabelsOptions
from beam_pipelines.row_options import Reading
from beam_pipelines.rows import ARTWORKS
from beam_pipelines.runners import beam_options, google_project, is_local, new_pipeline, prepare_cluster, run_pipeline
from beam_pipelines.sources import AttributeSummary, CountingSource, Source, SourceOptions, make_source
from beam_pipelines.text_tables import aligned
from beam_pipelines.value_counts import CountPictures, SummarizeAttributes
from beam_pipelines.worker_paths import check_worker_paths
from beam_pipelines.works import WriteWorks, gather_works

_LOGGER = logging.getLogger(__name__)

_ATTRIBUTE_HEADER = ("attribute", "pictures", "values", "values_of_ten")
_SHOWN = 10
_NAME_CHARACTERS = 60
_FOUND = "found.json"
_WORKS = "works"


def run_labels(options: LabelsOptions, reading: Reading, beam_arguments: Sequence[str]) -> str:
    """Writes what the options ask for; returns a summary for people.

    Raises:
        OptionError: the source cannot be read as asked, or an output cannot be written; nothing was done.
        RunError: a run that began could not end well.
    """
    run = _Run(options, reading, beam_options(beam_arguments, output=options.output or options.works_output))
    paths = {**options.worker_paths(), "output": options.output, "works_output": options.works_output}
    check_worker_paths(run.beam_options, paths, shared_filesystem=reading.shared_filesystem)
    prepare_cluster(run.beam_options)
    written = [*map(os.path.dirname, options.outputs()), reading.cache_dir]
    check_access([*options.worker_paths().values(), options.labels_file], written)
    run.source(all_attributes=options.list_attributes).check()
    if options.exclude_file:
        check_exclude_file(options.exclude_file)
    if not (options.output or options.works_output or is_local(run.beam_options)):
        raise OptionError("--list_attributes on this --runner needs a place that its workers reach: give --output")
    for path in options.outputs():
        _check_writable(path)
    _LOGGER.info("reading %s", options.input)
    told = []
    if options.list_attributes:
        told.append(_list_attributes(run))
    if options.counts_values():
        told.append(_count_values(run))
    if options.works_output:
        told.append(_list_works(run))
    return "\n".join(told)


def commonest_first(counts: Mapping[str, int]) -> dict[str, int]:
    """Returns the counts from the largest to the smallest, those that are equal by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def write_table(path: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV file whole or not at all; what UTF-8 cannot hold becomes an escape."""
    with (
        files.open_to_write(path) as file,
        io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="") as text,
    ):
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def describe_counts(counts: Mapping[str, int], *, attribute: str, threshold: int) -> str:
    """Returns the commonest values as a table, and how many there are in all, in lines for people.

    Args:
        counts: pictures of each value, the commonest first.
        attribute: whose values they are.
        threshold: pictures that a value needs to become a class.
    """
    if not counts:
        return f"no picture has a value of {attribute}"
    shown = [(clean_text(name, max_characters=_NAME_CHARACTERS), f"{count:,}") for name, count in counts.items()]
    frequent = [count for count in counts.values() if count >= threshold]
    return (
        f"{aligned([(attribute, 'pictures'), *shown[:_SHOWN]])}\n"
        f"{len(counts):,} values of {sum(counts.values()):,} pictures, each counted for every value that it has\n"
        f"{len(frequent):,} values have {threshold:,} pictures or more, {sum(frequent):,} pictures"
    )


def describe_attributes(summaries: Iterable[AttributeSummary]) -> str:
    """Returns a table of the attributes that have values, and the names of those that have none, for people."""
    rows = list(summaries)
    filled = [(row.name, f"{row.filled:,}", f"{row.distinct:,}", f"{row.frequent:,}") for row in rows if row.filled]
    empty = ", ".join(row.name for row in rows if not row.filled)
    return aligned([_ATTRIBUTE_HEADER, *filled]) + (f"\nwithout any value: {empty}" if empty else "")


@dataclasses.dataclass(frozen=True)
class _Run:
    """What is asked for, and how to get it."""

    options: LabelsOptions
    reading: Reading
    beam_options: PipelineOptions

    def source(self, *, all_attributes: bool = False, carry_attributes: bool = True) -> Source:
        """Returns the source."""
        answers = files.join(self.reading.cache_dir, ANSWERS) if self.reading.cache_dir else ""
        reading = self.reading.read_options(project=google_project(self.beam_options), answers=answers)
        return make_source(
            self.options.source,
            SourceOptions.of(
                self.options, reading=reading, all_attributes=all_attributes, carry_attributes=carry_attributes
            ),
        )

    def can_count(self, source: Source) -> TypeGuard[CountingSource]:
        """Tells whether the source can count where its rows lie, and may."""
        if not isinstance(source, CountingSource):
            return False
        if self.options.exclude_file:
            _LOGGER.info("--exclude_file: every row is read, instead of counts where the rows lie")
            return False
        return True

    def read(self, source: Source, transform: beam.PTransform) -> None:
        """Runs `transform` on the rows of the source that are not excluded."""
        pipeline = new_pipeline(self.beam_options)
        rows = (pipeline | "Read" >> source)[ARTWORKS]
        if self.options.exclude_file:
            rows = (rows | Exclude(self.options.exclude_file))[ARTWORKS]
        rows | transform
        run_pipeline(pipeline)


class _WriteList(beam.PTransform):
    """Writes all elements, which are dataclasses, as one JSON array."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        return (
            rows
            | "AsDictionaries" >> beam.Map(dataclasses.asdict)
            | "Gather" >> beam.combiners.ToList()
            | "WriteJson" >> beam.Map(lambda gathered, path: files.write_json(path, gathered), path=self._path)
        )


def _count_values(run: _Run) -> str:
    options = run.options
    source = run.source(carry_attributes=False)
    if run.can_count(source):
        counts = source.count_values()
    else:
        with _unfinished(options.output) as directory:
            path = files.join(directory, _FOUND)
            run.read(source, CountPictures() | WriteCounts(path))
            counts = files.read_json(path)
    if not counts and options.bin:
        raise RunError(f"no picture has a whole number as its {options.attribute}, and --bin {options.bin} needs one")
    counts = commonest_first(counts)
    write_table(options.output, ("value", "count"), counts.items())
    if chart := options.chart_path():
        from beam_pipelines.label_chart import draw_label_chart  # Matplotlib is only needed, and only paid for, here

        draw_label_chart(counts, chart, attribute=options.attribute, threshold=options.min_images_per_label)
    return describe_counts(counts, attribute=options.attribute, threshold=options.min_images_per_label)


def _list_attributes(run: _Run) -> str:
    source = run.source(all_attributes=True)
    if run.can_count(source):
        summaries = source.summarize_attributes()
    else:
        with _unfinished(run.options.output) as directory:
            path = files.join(directory, _FOUND)
            run.read(source, SummarizeAttributes(split_values=run.options.split_values) | _WriteList(path))
            found = {row["name"]: AttributeSummary(**row) for row in files.read_json(path)}
        nothing = AttributeSummary(name="", filled=0, distinct=0, frequent=0)
        names = dict.fromkeys([*source.attribute_names(), *sorted(found)])
        summaries = [found.get(name, dataclasses.replace(nothing, name=name)) for name in names]
    if run.options.output:
        write_table(run.options.output, _ATTRIBUTE_HEADER, map(dataclasses.astuple, summaries))
    return describe_attributes(summaries)


def _list_works(run: _Run) -> str:
    path = run.options.works_output
    with _unfinished(path) as directory:
        run.read(run.source(), WriteWorks(directory))
        count, separator = gather_works(directory, path, split_values=run.options.split_values)
    several = f" --split_values {shlex.quote(separator)}" if separator else ""
    return f"{count:,} pictures listed; to ingest them: --source manifest --input {shlex.quote(path)}{several}"


@contextlib.contextmanager
def _unfinished(output: str) -> Iterator[str]:
    """Gives a directory beside `output`, or a local one if that is empty, and deletes it when the block ends."""
    if not output:
        with tempfile.TemporaryDirectory() as directory:
            yield directory
        return
    directory = f"{output}.unfinished"
    files.remove_tree(directory)
    try:
        yield directory
    finally:
        files.remove_tree(directory)


def _check_writable(path: str) -> None:
    if not files.is_remote(path) and os.path.isdir(path):
        raise OptionError(f"cannot write {path}: it is a directory")
    try:
        with _unfinished(path) as directory:
            files.write_bytes(files.join(directory, _FOUND), b"")
    except Exception as error:  # every file system has errors of its own
        raise OptionError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
