"""From the plan to finished shards: one pipeline that writes them, finds equal pictures across the split, and counts.

Only names of shards, hashes of pictures and counts cross a shuffle. Each shard is fetched, checked and written in one
fused step; when all are there, the few that lose a picture for its double on the other side are written anew; then each
is read once more: what lies in it is counted, and the small pictures of the report are made from it.

`check_shards` does the first half alone: pictures are fetched and checked, and only their account is written.
"""

import collections
import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import apache_beam as beam
from apache_beam import metrics, pvalue
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue

from beam_pipelines import files
from beam_pipelines.cache import NO_BOUND, originals_kept
from beam_pipelines.choice import cross_split_losers, key_rank
from beam_pipelines.dataset import Shard
from beam_pipelines.errors import RunError
from beam_pipelines.fetch.fetcher import Fetcher, FetchLimits
from beam_pipelines.image_files import write_image
from beam_pipelines.images import ImageLimits, PixelGate, shrink
from beam_pipelines.memory import keep_freed_memory
from beam_pipelines.plan_files import Account, NamedShard, PlanFiles, read_account
from beam_pipelines.progress import ProgressFile
from beam_pipelines.runners import local_workers, most_processes, new_pipeline, run_pipeline
from beam_pipelines.shards import ShardContent, ShardWriter, read_content, read_rows, without_duplicates
from beam_pipelines.thumbnails import ShardThumbnails

# Shards written at the same time in a process, so that a slow picture at the end of one does not leave threads idle.
_SHARDS_AT_A_TIME = 2
# Decoded pixels held at the same time in a process: 200 MB at three bytes each.
_PIXELS_AT_A_TIME = 64_000_000
_PICTURES_WORTH_A_PROCESS = 100

# Of a picture: the hash of its bytes; its split, the rank of its key and its shard.
_Hash = tuple[bytes, tuple[str, int, str]]
# Class id and rank of a picture that may stand for its class.
_Sample = tuple[int, int]
_SampleOutput: TypeAlias = pvalue.TaggedOutput[Literal["samples"], _Sample]

_HASHES = "hashes"
_SAMPLES = "samples"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How workers fetch and shrink.

    Attributes:
        image_size, jpeg_quality: of the pictures written.
        image_limits: what a picture may be.
        fetch: bounds on every fetch.
        fetch_threads: pictures at a time in each process.
        retry_rejected: try again what failed for passing reasons.
        check_only: write no shards, only what became of each picture.
        cache_dir: where fetched pictures are kept; empty for nowhere.
        cache_room: bytes that each process may add to it.
        write_images: directory for the pictures as files; empty for none.
        thumbnails_per_class: how many pictures of each class the report shows.
    """

    image_size: int
    jpeg_quality: int
    image_limits: ImageLimits
    fetch: FetchLimits
    fetch_threads: int
    retry_rejected: bool = False
    check_only: bool = False
    cache_dir: str = ""
    cache_room: int = NO_BOUND
    write_images: str = ""
    thumbnails_per_class: int = 1


def write_shards(
    plan: PlanFiles,
    shards: list[Shard],
    *,
    pictures: int,
    options: WriteOptions,
    beam_options: PipelineOptions,
    publish: Callable[[], object] | None = None,
) -> None:
    """Writes the shards that are not there yet, and counts what lies in all of them to `.plan/counted.json`.

    Args:
        plan: the data set's plan.
        shards: all that are planned.
        pictures: how many are planned.
        options: how workers go about it.
        beam_options: Beam's.
        publish: what a worker does when all is counted; the job is then submitted, and not waited for.
    """
    pipeline, options = _shared_out(shards, pictures, options, beam_options)
    names = pipeline | "ListShards" >> ShardNames(shards)
    written = names | WriteImageShards(plan, options)
    duplicates = written[_HASHES] | FindDuplicateContent()
    samples = (written[_SAMPLES], duplicates) | ChooseSamples(options.thumbnails_per_class)
    counted = (names, duplicates, samples) | CountShards(plan, options)
    if publish:
        counted | "Publish" >> beam.Map(lambda _, do: do(), do=publish)
    run_pipeline(pipeline, wait=publish is None)
    if publish is None:
        files.remove_unfinished(plan.directory)  # of workers that were lost, and whose work others did again


def check_shards(
    plan: PlanFiles, shards: list[Shard], *, pictures: int, options: WriteOptions, beam_options: PipelineOptions
) -> None:
    """Fetches and checks all pictures, and counts what would lie in each shard to `.plan/check-counted.json`."""
    pipeline, options = _shared_out(shards, pictures, options, beam_options)
    names = pipeline | "ListShards" >> ShardNames(shards)
    duplicates = (names | WriteImageShards(plan, options))[_HASHES] | FindDuplicateContent()
    count = beam.FlatMap(_count_checked, plan)
    _ = (names, duplicates) | "ByShard" >> _ByShard() | "CountAndWrite" >> WriteCounted(count, plan.check_counted)
    run_pipeline(pipeline)
    files.remove_unfinished(plan.directory)


def _shared_out(
    shards: list[Shard], pictures: int, options: WriteOptions, beam_options: PipelineOptions
) -> tuple[beam.Pipeline, WriteOptions]:
    """Returns an empty pipeline, and the options with each process' share of what holds for the whole job."""
    useful = max(1, min(len(shards), pictures // _PICTURES_WORTH_A_PROCESS))
    workers = local_workers(beam_options, bundles=useful)
    processes = most_processes(beam_options, local=workers)
    fetch = dataclasses.replace(options.fetch, max_processes=processes)
    room = options.cache_room if options.cache_room == NO_BOUND else options.cache_room // processes
    return new_pipeline(beam_options, workers=workers), dataclasses.replace(options, fetch=fetch, cache_room=room)


class ShardNames(beam.PTransform):
    """Gives the names of the shards, dealt out to the workers."""

    def __init__(self, shards: Sequence[NamedShard]) -> None:
        super().__init__()
        self._shards = shards

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        names = [shard.name for shard in self._shards]
        return pipeline | "Shards" >> beam.Create(names) | "Deal" >> beam.Reshuffle()


class WriteImageShards(beam.PTransform):
    """Writes shards, given their names; gives the hash of every picture in them, and samples of each class."""

    def __init__(self, plan: PlanFiles, options: WriteOptions) -> None:
        super().__init__()
        self._plan = plan
        self._options = options

    def expand(self, names: beam.PCollection) -> pvalue.DoOutputsTuple:
        write = beam.ParDo(_WriteShard(self._plan, self._options)).with_output_types(_Hash, samples=_Sample)
        return names | "FetchCheckWrite" >> write.with_outputs(_SAMPLES, main=_HASHES)


class ChooseSamples(beam.PTransform):
    """Gives the ranks of the pictures that the report shows: of each class the smallest of those that stay."""

    def __init__(self, per_class: int) -> None:
        super().__init__()
        self._per_class = per_class

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection]) -> beam.PCollection:
        samples, duplicates = inputs
        lost = duplicates | "LostRanks" >> beam.MapTuple(lambda shard, rank: (rank, shard))
        return (
            samples
            | "WithoutLost"
            >> beam.Filter(lambda sample, lost: sample[1] not in lost, pvalue.AsDict(lost)).with_output_types(_Sample)
            | "OfEachClass" >> beam.combiners.Top.SmallestPerKey(self._per_class)
        )


class FindDuplicateContent(beam.PTransform):
    """Gives the shard and the rank of each picture that must go because the other side of the split has its bytes."""

    def expand(self, hashes: beam.PCollection) -> beam.PCollection:
        return (
            hashes
            | "GroupByContent" >> beam.GroupByKey()
            | "AcrossSplit"
            >> beam.FlatMapTuple(lambda _, pictures: cross_split_losers(pictures)).with_output_types(tuple[str, int])
        )


class CountShards(beam.PTransform):
    """Takes duplicates out of the shards that have some, counts what lies in every shard and writes it as JSON."""

    def __init__(self, plan: PlanFiles, options: WriteOptions) -> None:
        super().__init__()
        self._plan = plan
        self._options = options

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection, beam.PCollection]) -> beam.PCollection:
        names, duplicates, samples = inputs
        count = beam.FlatMap(_drop_and_count, self._plan, self._options, pvalue.AsDict(samples))
        return (
            (names, duplicates) | "ByShard" >> _ByShard() | "CountAndWrite" >> WriteCounted(count, self._plan.counted)
        )


class _ByShard(beam.PTransform):
    """Gives every shard's name with the ranks of the pictures that it loses."""

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection]) -> beam.PCollection:
        names, duplicates = inputs
        every = names | "EveryShard" >> beam.Map(lambda name: (name, -1)).with_output_types(tuple[str, int])
        return (every, duplicates) | "WithDuplicates" >> beam.Flatten() | "GroupByShard" >> beam.GroupByKey()


class WriteCounted(beam.PTransform):
    """Counts in every shard and writes the counts as one JSON list.

    Args:
        count: gives the counts of each shard, as `count_shard` returns them, for what there is of it.
        path: of the JSON file.
    """

    def __init__(self, count: beam.PTransform, path: str) -> None:
        super().__init__()
        self._count = count
        self._path = path

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        return (
            shards
            | "CountEach" >> self._count
            | "GatherCounts" >> beam.combiners.ToList()
            | "WriteCounted" >> beam.Map(_write_counted, path=self._path)
        )


class _Worker:
    """The fetcher, the threads and the bound on pixels of one process; shared by all that it does at the same time."""

    def __init__(self, plan: PlanFiles, options: WriteOptions) -> None:
        keep_freed_memory()
        originals = originals_kept(Fetcher(options.fetch).fetch, options.cache_dir, room=options.cache_room)
        self.progress = ProgressFile(plan.progress)
        self.writer = ShardWriter(
            plan,
            fetch=originals.fetch,
            keep=originals.keep,
            shrink=functools.partial(
                shrink,
                size=options.image_size,
                quality=options.jpeg_quality,
                limits=options.image_limits,
                pixel_gate=PixelGate(_PIXELS_AT_A_TIME),
            ),
            threads=options.fetch_threads,
            on_outcome=lambda done, rejected: self.progress.add(done=done, rejected=rejected),
        )


class _WriteShard(beam.DoFn):
    """Writes shards with the means of its process, which other copies of it in the process use, too.

    So the limits hold for the process, however many bundles a runner gives it at the same time.
    """

    def __init__(self, plan: PlanFiles, options: WriteOptions) -> None:
        self._plan = plan
        self._options = options
        self._shared = Shared()

    def setup(self) -> None:
        self._worker: _Worker = self._shared.acquire(lambda: _Worker(self._plan, self._options))
        self._writer, self._progress = self._worker.writer, self._worker.progress
        self._shards = concurrent.futures.ThreadPoolExecutor(_SHARDS_AT_A_TIME, thread_name_prefix="shard")

    def start_bundle(self) -> None:
        self._running: collections.deque[tuple[Shard, concurrent.futures.Future[Account]]] = collections.deque()

    def process(self, name: str) -> Iterator[_Hash | _SampleOutput]:
        shard = Shard.parse(name)
        do = self._writer.check if self._options.check_only else self._writer.ensure
        work = self._shards.submit(do, shard, retry_rejected=self._options.retry_rejected)
        self._running.append((shard, work))
        if len(self._running) > _SHARDS_AT_A_TIME:
            yield from self._next_written()

    def finish_bundle(self) -> Iterator[Any]:
        while self._running:
            yield from map(_in_global_window, self._next_written())
        self._progress.tell()

    def teardown(self) -> None:
        self._shards.shutdown(cancel_futures=True)

    def _next_written(self) -> Iterator[_Hash | _SampleOutput]:
        shard, work = self._running.popleft()
        account = work.result()
        for name, number in self._writer.take_counters().items():
            metrics.Metrics.counter("ingest", name).inc(number)
        yield from _hashes(shard, account)
        if not self._options.check_only:
            yield from (pvalue.TaggedOutput(_SAMPLES, sample) for sample in _samples(self._plan, shard, account))


def _in_global_window(value: Any) -> Any:
    window = GlobalWindow()
    if isinstance(value, pvalue.TaggedOutput):
        return pvalue.TaggedOutput(value.tag, _in_global_window(value.value))
    return WindowedValue(value, window.max_timestamp(), [window])


def _samples(plan: PlanFiles, shard: Shard, account: Account) -> Iterator[_Sample]:
    """Yields the classes of each picture in a shard, with its rank."""
    written = {picture.key for picture in account.written}
    for row in read_rows(plan, shard):
        if row.artwork.key in written:
            yield from ((class_id, key_rank(row.artwork.key)) for class_id in row.class_ids)


def _hashes(shard: Shard, account: Account) -> Iterator[_Hash]:
    """Yields the hashes of a shard's pictures, and of those left out for their doubles, so that the answer stays."""
    doubles = ((picture.dropped.key, picture.sha256) for picture in account.dropped if picture.sha256)
    pictures = ((picture.key, picture.sha256) for picture in account.written)
    for key, sha256 in (*pictures, *doubles):
        yield bytes.fromhex(sha256), (shard.split, key_rank(key), shard.name)


def _drop_and_count(
    losing: tuple[str, Iterable[int]], plan: PlanFiles, options: WriteOptions, samples: Mapping[int, Sequence[int]]
) -> Iterator[dict[str, Any]]:
    """Yields what lies in a shard, after it lost the pictures of the ranks that come with its name."""
    shard = Shard.parse(losing[0])
    account = account_of(plan, shard, plan.account(shard))
    keys = _lost(account, losing[1])
    if keys:
        account = _drop_duplicates(plan, shard, keys)
    thumbnails = ShardThumbnails(samples)

    def on_example(example: dict[str, list[Any]]) -> None:
        thumbnails.add(example)
        if options.write_images:
            write_image(options.write_images, example)

    counted = count_shard(plan, shard, account, on_example=on_example)
    thumbnails.write(plan, shard)
    yield counted


def count_shard(
    plan: PlanFiles,
    shard: Shard,
    account: Account,
    *,
    on_example: Callable[[dict[str, list[Any]]], None] = lambda example: None,
) -> dict[str, Any]:
    """Reads a finished shard and returns what lies in it, as `.plan/counted.json` has it.

    Args:
        plan: the data set's plan.
        shard: which one.
        account: the shard's.
        on_example: called with the features of each example, in order.

    Raises:
        RunError: the shard is not what its account says.
    """
    content = read_content(plan, shard, on_example=on_example)
    if (content.examples, content.sha256) != (len(account.written), account.sha256):
        raise RunError(f"{shard.file_name} is not what its account says: run the same command again to mend it")
    return _counted(shard, content)


def _count_checked(losing: tuple[str, Iterable[int]], plan: PlanFiles) -> Iterator[dict[str, Any]]:
    """Yields what a shard would hold; takes the pictures that it would lose to their doubles out of its account."""
    shard = Shard.parse(losing[0])
    account = account_of(plan, shard, plan.check(shard))
    keys = _lost(account, losing[1])
    if keys:
        account = without_duplicates(account, keys, read_rows(plan, shard))
        files.write_json(plan.check(shard), account.to_json())
    written = {picture.key for picture in account.written}
    rows = (row for row in read_rows(plan, shard) if row.artwork.key in written)
    labels = collections.Counter(class_id for row in rows for class_id in row.class_ids)
    yield _counted(shard, ShardContent(examples=len(account.written), size=0, sha256="", labels=labels))


def account_of(plan: PlanFiles, shard: Shard, path: str) -> Account:
    """Returns the account of a shard in the file `path`; raises RunError if it is not there."""
    account = read_account(path)
    if account is None:
        raise RunError(f"the account of {shard.name} is gone: another run may be at work in {plan.directory}")
    return account


def _lost(account: Account, ranks: Iterable[int]) -> set[str]:
    """Returns the keys of the pictures that an account loses."""
    losers = set(ranks)
    return {picture.key for picture in account.written if key_rank(picture.key) in losers}


def _counted(shard: Shard, content: ShardContent) -> dict[str, Any]:
    return {
        "shard": shard.name,
        "examples": content.examples,
        "size": content.size,
        "sha256": content.sha256,
        "labels": {str(label): count for label, count in sorted(content.labels.items())},
    }


def _drop_duplicates(plan: PlanFiles, shard: Shard, keys: set[str]) -> Account:
    def refuse(uri: str) -> bytes:
        raise RunError(f"{shard.file_name} has lost {uri}: run the same command again")

    writer = ShardWriter(plan, fetch=refuse, shrink=shrink, threads=1)
    try:
        return writer.drop_duplicates(shard, keys)
    finally:
        writer.close()


def _write_counted(counted: list[dict[str, Any]], *, path: str) -> None:
    files.write_json(path, sorted(counted, key=lambda value: value["shard"]))
