"""The shard writer of batch_predict: fetches the pictures of a shard, has them predicted, and accounts for every row.

A shard has the rows of its plan in their order, and batches never reach beyond it, so that it comes out the same in
every run. First comes its account, then the shard itself, whole, under its final name: the shard is the mark that it is
done. While the model works on a batch, threads fetch what comes after it.
"""

import dataclasses
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from beam_pipelines import files
from beam_pipelines.cache import Originals
from beam_pipelines.errors import RunError
from beam_pipelines.images import ImageHeader
from beam_pipelines.outcomes import HashedFile, is_whole
from beam_pipelines.picture_threads import PictureThreads, WorkAhead, timed_fetch
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.prediction.output import OutputFormat, PredictedRow, PredictionShard, significant
from beam_pipelines.prediction.rows import PlannedRow, PredictionAccount, RejectedRow, read_account
from beam_pipelines.rejects import Dropped, Kind, Reason, RejectedError
from serving.model import Predictions, batches_of

# Of a batch, and of pictures that wait for their batch.
_MAX_PIXELS = 64_000_000
_MAX_WAITING_BYTES = 256 << 20
_BATCHES_AHEAD = 4

_Outcome = PredictedRow | Dropped


class Classifier(Protocol):
    """Says what pictures show."""

    @property
    def path(self) -> str:
        """Where it lies."""

    def predict(self, keys: Sequence[str], images: Sequence[bytes]) -> Predictions:
        """Returns what it says of a batch of pictures."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Ready:
    """A row on its way: either its picture, or what became of it already.

    Attributes:
        number: of the row, from 0.
        row: the row.
        image: the picture's file.
        weight: what the picture counts in its batch: pixels, or bytes if those are more.
        outcome: what became of the row; None for one whose picture is to be predicted.
    """

    number: int
    row: PlannedRow
    image: bytes = b""
    weight: int = 0
    outcome: _Outcome | None = None


class PredictionWriter(PictureThreads):
    """Writes shards of predictions, one after the other.

    It counts `fetch/ok`, `fetch/bytes`, `fetch/msec`, `predict/ok`, `predict/msec` and `rejected/…`.

    Args:
        plan: of the predictions.
        written: the format of their files.
        originals: how pictures are fetched, and kept.
        check: returns the header of a picture that may be predicted; raises RejectedError for any other.
        model: returns the model; called when there is a picture to predict.
        batch_size: the most pictures that it sees at a time.
        all_scores: whether the scores of all classes are written.
        threads: how many pictures are fetched at the same time.
        on_outcome: called with the number of rows done and of those rejected, from any thread.
    """

    def __init__(
        self,
        plan: PlanFiles,
        *,
        written: OutputFormat,
        originals: Originals,
        check: Callable[[bytes], ImageHeader],
        model: Callable[[], Classifier],
        batch_size: int,
        all_scores: bool,
        threads: int,
        on_outcome: Callable[[int, int], None] = lambda done, rejected: None,
    ) -> None:
        super().__init__(threads, on_outcome=on_outcome)
        self._plan = plan
        self._written = written
        self._originals = originals
        self._check = check
        self._model = model
        self._batch_size = batch_size
        self._all_scores = all_scores
        self._threads = threads

    def ensure(self, shard: PredictionShard, *, retry_rejected: bool = False) -> PredictionAccount:
        """Writes the shard unless it is there and true to its account; one shard at a time.

        Args:
            shard: which one.
            retry_rejected: try again the rows that were rejected for passing reasons.

        Raises:
            RunError: the model gives numbers that are not finite.
        """
        account = read_account(self._plan.account(shard))
        if account is None or not is_whole(self._plan, shard, account):
            return self._write(shard, {})
        if retry_rejected and any(row.dropped.reason.passing for row in account.rejected):
            return self._write(shard, self._settled(shard, account))
        self._on_outcome(account.predicted + len(account.rejected), len(account.rejected))
        return account

    def _settled(self, shard: PredictionShard, account: PredictionAccount) -> dict[int, _Outcome]:
        """Returns by its number what became of each row of a finished shard that is not to be tried again."""
        rejected = {row.number: row.dropped for row in account.rejected}
        settled: dict[int, _Outcome] = {
            number: dropped for number, dropped in rejected.items() if not dropped.reason.passing
        }
        numbers = (number for number in range(account.predicted + len(rejected)) if number not in rejected)
        with files.open_to_read(self._plan.shard(shard)) as file:
            predicted = self._written.decode(io.TextIOWrapper(file, encoding="utf-8", newline="\n"))
            settled.update(zip(numbers, predicted, strict=True))
        return settled

    def _write(self, shard: PredictionShard, settled: Mapping[int, _Outcome]) -> PredictionAccount:
        """Writes the shard and its account; what is settled is neither fetched nor predicted."""
        rejected: list[RejectedRow] = []
        predicted = 0
        with files.staged(self._plan.shard(shard)) as path:
            with open(path, "wb") as raw:
                file = HashedFile(raw)
                file.write(self._written.header())
                for number, outcome in enumerate(self._outcomes(shard, settled)):
                    if isinstance(outcome, PredictedRow):
                        file.write(self._written.encode(outcome))
                        predicted += 1
                    else:
                        rejected.append(RejectedRow(number=number, dropped=outcome))
                    self._on_outcome(1, int(isinstance(outcome, Dropped) and outcome.reason.kind is Kind.REJECTED))
                size, sha256 = file.finish()
            account = PredictionAccount(size=size, sha256=sha256, predicted=predicted, rejected=tuple(rejected))
            files.write_json(self._plan.account(shard), account.to_json())
        return account

    def _outcomes(self, shard: PredictionShard, settled: Mapping[int, _Outcome]) -> Iterator[_Outcome]:
        """Yields what becomes of each planned row, in order."""

        def begin(numbered: tuple[int, PlannedRow]) -> _Ready:
            number, row = numbered
            if number in settled:
                return _Ready(number=number, row=row, outcome=settled[number])
            return self._fetched(number, row)

        rows = enumerate(map(PlannedRow.from_line, files.read_lines(self._plan.rows(shard))))
        with WorkAhead(
            begin,
            rows,
            pool=self._pool,
            at_a_time=self._threads,
            window=_BATCHES_AHEAD * self._batch_size,
            max_weight=_MAX_WAITING_BYTES,
            weight=lambda ready: len(ready.image),
        ) as ahead:
            # Rows without a picture keep their place in a batch: a failed fetch does not change all that follow.
            for batch in batches_of(
                ahead, size=self._batch_size, max_pixels=_MAX_PIXELS, pixels=lambda ready: ready.weight
            ):
                yield from self._predicted(batch)

    def _fetched(self, number: int, row: PlannedRow) -> _Ready:
        counters: dict[str, int] = {}
        try:
            image = timed_fetch(self._originals.fetch, row.uri, counters)
            header = self._check(image)
            self._originals.keep(row.uri, image)
            counters["fetch/ok"] = 1
        except RejectedError as error:
            counters[f"rejected/{error.reason}"] = 1
            return _Ready(number=number, row=row, outcome=_dropped(row, error.reason, error.detail))
        finally:
            self._counters.add(counters)
        return _Ready(number=number, row=row, image=image, weight=max(header.width * header.height, len(image)))

    def _predicted(self, batch: Sequence[_Ready]) -> Iterator[_Outcome]:
        """Yields what becomes of the rows of a batch, in order; those that need it are predicted."""
        pictures = [ready for ready in batch if ready.outcome is None]
        outcomes = iter(self._ask(pictures) if pictures else ())
        for ready in batch:
            yield next(outcomes) if ready.outcome is None else ready.outcome

    def _ask(self, pictures: Sequence[_Ready]) -> list[_Outcome]:
        model = self._model()
        started = time.perf_counter()
        said = model.predict([str(ready.number) for ready in pictures], [ready.image for ready in pictures])
        counters = {"predict/msec": round(1000 * (time.perf_counter() - started))}
        finite = np.isfinite(said.scores).all(axis=1)
        if not finite.all():
            key = pictures[int(np.argmin(finite))].row.key
            raise RunError(f"the model {model.path} gives scores that are not finite for {key}: give another --model")
        outcomes = [self._outcome(ready.row, said, place) for place, ready in enumerate(pictures)]
        undecodable = sum(isinstance(outcome, Dropped) for outcome in outcomes)
        counters["predict/ok"] = len(outcomes) - undecodable
        self._counters.add({**counters, f"rejected/{Reason.CORRUPT_IMAGE}": undecodable})
        return outcomes

    def _outcome(self, row: PlannedRow, said: Predictions, place: int) -> _Outcome:
        class_id = int(said.class_ids[place])
        if class_id < 0:
            return _dropped(row, Reason.CORRUPT_IMAGE, "the model cannot decode it")
        scores = said.scores[place]
        return PredictedRow(
            row.key,
            class_id,
            said.labels[place],
            significant(float(scores[class_id])),
            row.labels,
            tuple(map(significant, scores.tolist())) if self._all_scores else (),
        )


def _dropped(row: PlannedRow, reason: Reason, detail: str) -> Dropped:
    return Dropped(key=row.key, uri=row.uri, reason=reason, detail=detail)
