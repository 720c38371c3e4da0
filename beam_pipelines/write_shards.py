"""From the plan to finished shards: one pipeline that writes them, finds equal pictures across the split, and counts.

Only names of shards, hashes of pictures and counts cross a shuffle. Each shard is fetched, checked and written in one
fused step; when all are there, the few that lose a picture for its double on the other side are written anew; then each
is read once more, and what lies in it is counted.
"""

import collections
import concurrent.futures
import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam import metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beam_pipelines import files
from beam_pipelines.choice import cross_split_losers, key_rank
from beam_pipelines.dataset import Shard
from beam_pipelines.errors import RunError
from beam_pipelines.fetch.fetcher import Fetcher, FetchLimits
from beam_pipelines.images import ImageLimits, PixelGate, shrink
from beam_pipelines.memory import keep_freed_memory
from beam_pipelines.plan_files import Account, PlanFiles, read_account
from beam_pipelines.progress import ProgressFile
from beam_pipelines.runners import local_workers, most_processes, new_pipeline, run_pipeline
from beam_pipelines.shards import ShardWriter, read_content

# Shards written at the same time in a process, so that a slow picture at the end of one does not leave threads idle.
_SHARDS_AT_A_TIME = 2
# Decoded pixels held at the same time in a process: 200 MB at three bytes each.
_PIXELS_AT_A_TIME = 64_000_000
_PICTURES_WORTH_A_PROCESS = 100

# Of a picture: the hash of its bytes; its split, the rank of its key and its shard.
_Hash = tuple[bytes, tuple[str, int, str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How workers fetch and shrink.

    Attributes:
        image_size, jpeg_quality: of the pictures written.
        image_limits: what a picture may be.
        fetch: bounds on every fetch.
        fetch_threads: pictures at a time in each process.
        retry_rejected: try again what failed for passing reasons.
    """

    image_size: int
    jpeg_quality: int
    image_limits: ImageLimits
    fetch: FetchLimits
    fetch_threads: int
    retry_rejected: bool = False


def write_shards(
    plan: PlanFiles, shards: list[Shard], *, pictures: int, options: WriteOptions, beam_options: PipelineOptions
) -> None:
    """Writes the shards that are not there yet, and counts what lies in all of them to `.plan/counted.json`."""
    useful = max(1, min(len(shards), pictures // _PICTURES_WORTH_A_PROCESS))
    workers = local_workers(beam_options, bundles=useful)
    processes = most_processes(beam_options, local=workers)
    options = dataclasses.replace(options, fetch=dataclasses.replace(options.fetch, max_processes=processes))
    pipeline = new_pipeline(beam_options, workers=workers)
    names = pipeline | "Shards" >> beam.Create([shard.name for shard in shards]) | "Deal" >> beam.Reshuffle()
    hashes = names | WriteImageShards(plan, options)
    duplicates = hashes | FindDuplicateContent()
    _ = (names, duplicates) | CountShards(plan, options)
    run_pipeline(pipeline)


class WriteImageShards(beam.PTransform):
    """Writes shards, given their names; gives the hash of every picture in them."""

    def __init__(self, plan: PlanFiles, options: WriteOptions) -> None:
        super().__init__()
        self._plan = plan
        self._options = options

    def expand(self, names: beam.PCollection) -> beam.PCollection:
        return names | "FetchCheckWrite" >> beam.ParDo(_WriteShard(self._plan, self._options)).with_output_types(_Hash)


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

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection]) -> beam.PCollection:
        names, duplicates = inputs
        every = names | "EveryShard" >> beam.Map(lambda name: (name, -1)).with_output_types(tuple[str, int])
        return (
            (every, duplicates)
            | "WithDuplicates" >> beam.Flatten()
            | "GroupByShard" >> beam.GroupByKey()
            | "DropAndCount" >> beam.FlatMapTuple(functools.partial(_drop_and_count, self._plan))
            | "GatherCounts" >> beam.combiners.ToList()
            | "WriteCounted" >> beam.Map(_write_counted, path=self._plan.counted)
        )


class _WriteShard(beam.DoFn):
    """Keeps the fetcher, the threads and the bound on pixels of one worker."""

    def __init__(self, plan: PlanFiles, options: WriteOptions) -> None:
        self._plan = plan
        self._options = options

    def setup(self) -> None:
        keep_freed_memory()
        options = self._options
        self._fetcher = Fetcher(options.fetch)
        self._progress = ProgressFile(self._plan.progress)
        self._writer = ShardWriter(
            self._plan,
            fetch=self._fetcher.fetch,
            shrink=functools.partial(
                shrink,
                size=options.image_size,
                quality=options.jpeg_quality,
                limits=options.image_limits,
                pixel_gate=PixelGate(_PIXELS_AT_A_TIME),
            ),
            threads=options.fetch_threads,
            on_outcome=lambda done, rejected: self._progress.add(done=done, rejected=rejected),
        )
        self._shards = concurrent.futures.ThreadPoolExecutor(_SHARDS_AT_A_TIME, thread_name_prefix="shard")

    def start_bundle(self) -> None:
        self._running: collections.deque[tuple[Shard, concurrent.futures.Future[Account]]] = collections.deque()

    def process(self, name: str) -> Iterator[_Hash]:
        shard = Shard.parse(name)
        work = self._shards.submit(self._writer.ensure, shard, retry_rejected=self._options.retry_rejected)
        self._running.append((shard, work))
        if len(self._running) > _SHARDS_AT_A_TIME:
            yield from self._next_hashes()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        window = GlobalWindow()
        while self._running:
            for value in self._next_hashes():
                yield WindowedValue(value, window.max_timestamp(), [window])
        self._progress.tell()

    def teardown(self) -> None:
        self._writer.close()
        self._shards.shutdown(cancel_futures=True)
        self._fetcher.close()

    def _next_hashes(self) -> Iterator[_Hash]:
        shard, work = self._running.popleft()
        account = work.result()
        for name, number in self._writer.take_counters().items():
            metrics.Metrics.counter("ingest", name).inc(number)
        return _hashes(shard, account)


def _hashes(shard: Shard, account: Account) -> Iterator[_Hash]:
    """Yields the hashes of a shard's pictures, and of those left out for their doubles, so that the answer stays."""
    doubles = ((picture.dropped.key, picture.sha256) for picture in account.dropped if picture.sha256)
    for key, sha256 in (*account.written, *doubles):
        yield bytes.fromhex(sha256), (shard.split, key_rank(key), shard.name)


def _drop_and_count(plan: PlanFiles, name: str, ranks: Iterable[int]) -> Iterator[dict[str, Any]]:
    shard = Shard.parse(name)
    account = read_account(plan, shard)
    if account is None:
        raise RunError(f"{plan.account(shard)} is gone: another run may be at work in {plan.directory}")
    losers = set(ranks)
    keys = {key for key, _ in account.written if key_rank(key) in losers}
    if keys:
        account = _drop_duplicates(plan, shard, keys)
    content = read_content(plan, shard)
    if (content.examples, content.sha256) != (len(account.written), account.sha256):
        raise RunError(f"{shard.file_name} is not what its account says: run the same command again to mend it")
    yield {
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
    files.write_json(path, sorted(counted, key=lambda value: Shard.parse(value["shard"])))
