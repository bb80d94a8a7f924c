"""Bring studies from a server to a folder, in parallel, and go on where an earlier pull ended."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeVar

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pacs.inbox import Inbox
from monai_cxrpair.pacs.query import Instance, Query, Server, Study
from monai_cxrpair.pacs.retry import Retry, TransientError, UnavailableError

# So many studies in a row without a single instance: the server is down, and trying 100,000 more is of no use.
_HOPELESS = 10
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Failures = dict[str, TransientError | UnavailableError]  # by instance


@dataclass
class PullResult:
    """What a pull did; instances = fetched + already_there + failed."""

    studies: int = 0  # that have an instance we want
    instances: int = 0
    fetched: int = 0
    already_there: int = 0
    failed: int = 0
    bytes: int = 0  # of what was fetched
    studies_failed: int = 0  # whose instances could not even be listed
    unwanted: int = 0  # arrived without being asked for, and were thrown away
    not_found: tuple[str, ...] = ()  # accession numbers without a study
    reasons: Counter[str] = field(default_factory=Counter)  # of the failures; no identifiers
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, int]:
        """The counts for `--json`."""
        names = ("studies", "instances", "fetched", "already_there", "failed", "bytes", "studies_failed", "unwanted")
        return {**{name: getattr(self, name) for name in names}, "accessions_not_found": len(self.not_found)}


@dataclass
class _StudyOutcome:
    instances: int = 0
    fetched: int = 0
    bytes: int = 0
    failures: _Failures = field(default_factory=dict)
    unlisted: TransientError | UnavailableError | None = None  # why the study could not be listed

    @property
    def unreachable(self) -> bool:
        """Whether nothing came, and not because these objects are not there."""
        errors = [self.unlisted, *self.failures.values()]
        return not self.fetched and any(isinstance(error, TransientError) for error in errors)


class Puller:
    """A pull of one query from one server into one inbox.

    Args:
        server: The server.
        inbox: The folder.
        query: What is wanted.
        retry: How often a request is tried; its `stop` ends the pull.
        parallel: How many studies at a time.
    """

    def __init__(self, server: Server, inbox: Inbox, query: Query, *, retry: Retry, parallel: int) -> None:
        self._server = server
        self._inbox = inbox
        self._query = query
        self._retry = retry
        self._parallel = parallel
        self._result = PullResult()

    def run(self, progress: Callable[[int, int], None] = lambda done, total: None) -> PullResult:
        """Pull.

        Args:
            progress: Called with (studies done, studies in all).

        Raises:
            CxrPairError: The server refuses or is gone, the disk is full, or the user stopped it. What has arrived
                stays, and another pull goes on from there.
        """
        pool = ThreadPoolExecutor(self._parallel, thread_name_prefix="pull")
        try:
            studies = self._find(pool, progress)
            progress(0, len(studies))
            hopeless = 0
            for done, outcome in enumerate(self._in_parallel(pool, self._pull_study, studies), start=1):
                self._add(outcome)
                progress(done, len(studies))
                hopeless = hopeless + 1 if outcome.unreachable else 0
                if hopeless == _HOPELESS:
                    reason = outcome.unlisted or next(iter(outcome.failures.values()))
                    raise CxrPairError(f"{hopeless} studies in a row failed ({reason}): pull again later to go on")
        except KeyboardInterrupt:
            raise CxrPairError("stopped: the same command goes on from here") from None
        finally:
            self._retry.stop.set()
            pool.shutdown(cancel_futures=True)
        self._result.unwanted = self._inbox.unwanted
        self._result.notes += sorted(self._server.notes)
        return self._result

    def _find(self, pool: ThreadPoolExecutor, progress: Callable[[int, int], None]) -> list[Study]:
        """The studies that the query wants, each once; sorted, so that a pull that goes on takes the same way."""
        accessions = self._query.accessions or (None,)
        wanted: dict[str, Study] = {}
        missing = set(self._query.accessions)
        strangers = 0
        search = self._in_parallel(pool, lambda number: self._server.find_studies(self._query, number), accessions)
        try:
            for done, (studies, notes) in enumerate(search, start=1):
                fitting = [study for study in studies if self._query.wants_study(study)]
                strangers += len(studies) - len(fitting)
                wanted |= {study.uid: study for study in fitting}
                missing -= {study.accession.strip() for study in fitting}
                self._result.notes += [note for note in notes if note not in self._result.notes]
                progress(done, len(accessions))
        except (TransientError, UnavailableError) as error:
            raise CxrPairError(f"the search for studies failed: {error}") from None
        if strangers:
            self._result.notes.append(
                f"{strangers} studies that the server found are not of the dates or accession numbers asked for"
            )
        self._result.not_found = tuple(number for number in self._query.accessions if number in missing)
        return [wanted[uid] for uid in sorted(wanted)]

    def _in_parallel(
        self, pool: ThreadPoolExecutor, action: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> Iterator[_Result]:
        """Results as they come; few items wait in the pool, so that 100,000 studies need no memory for it."""
        running: set[Future[_Result]] = set()
        for item in items:
            running.add(pool.submit(action, item))
            if len(running) >= 2 * self._parallel:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)

    def _pull_study(self, study: Study) -> _StudyOutcome:
        """List a study where that is needed, and fetch what is missing of it."""
        outcome = _StudyOutcome()
        try:
            self._list(study)
        except (TransientError, UnavailableError) as error:
            outcome.unlisted = error  # what is known of it from an earlier pull is fetched all the same
        ledger = self._inbox.ledger
        entries = [entry for entry in ledger.entries(study.uid) if self._query.wants_series(entry.series)]
        missing = [entry.instance for entry in entries if not self._inbox.has(entry)]
        outcome.instances = len(entries)
        if missing and outcome.unlisted is None:
            outcome.failures = self._fetch(missing)
        elif outcome.unlisted is not None:
            outcome.failures = {instance.uid: outcome.unlisted for instance in missing}
        asked = {instance.uid for instance in missing} - set(outcome.failures)
        sizes = [entry.bytes or 0 for entry in ledger.entries(study.uid) if entry.instance.uid in asked]
        outcome.fetched, outcome.bytes = len(asked), sum(sizes)
        if outcome.failures:
            ledger.fail(study.uid, {uid: str(error) for uid, error in outcome.failures.items()})
        return outcome

    def _list(self, study: Study) -> None:
        """Plan a study's instances, unless the server has as many of it as when they were planned."""
        series_filter = self._query.series_filter
        if study.instances is not None and study.instances == self._inbox.ledger.listed(study.uid, series_filter):
            return
        series = [each for each in self._server.find_series(study.uid) if self._query.wants_series(each)]
        instances = [found for each in series for found in self._server.find_instances(study.uid, each.uid)]
        self._inbox.ledger.plan(study.uid, series, instances, series_filter=series_filter, count=study.instances)

    def _fetch(self, missing: list[Instance]) -> _Failures:
        """Fetch instances of a study; the reason of each that did not come."""
        failures: _Failures = {}
        self._inbox.expect(missing)
        try:
            for _, of_series in groupby(missing, key=lambda instance: instance.series):
                left = list(of_series)
                for start in range(0, len(left), self._server.batch):
                    failures |= self._fetch_batch(left[start : start + self._server.batch])
        finally:
            self._inbox.forget(missing)
        return failures

    def _fetch_batch(self, instances: list[Instance]) -> _Failures:
        """Ask for all at once, then again for what did not come, one by one: one bad instance must not cost others."""
        lost: _Failures = {}
        batches = [instances]
        for attempt in range(self._retry.retries + 1):
            worst = TransientError("the server did not send it")
            for batch in batches:
                try:
                    self._server.fetch(batch)
                except TransientError as error:
                    worst = error if error.wait >= worst.wait else worst
                except UnavailableError as error:
                    if len(batch) == 1:
                        lost[batch[0].uid] = error
            batches = [[each] for each in self._inbox.missing(instances) if each.uid not in lost]
            if not batches:
                break
            if attempt < self._retry.retries:
                self._retry.wait(attempt, worst)
        return lost | {each.uid: worst for [each] in batches}

    def _add(self, outcome: _StudyOutcome) -> None:
        result = self._result
        result.studies += outcome.instances > 0
        result.instances += outcome.instances
        result.fetched += outcome.fetched
        result.failed += len(outcome.failures)
        result.already_there += outcome.instances - outcome.fetched - len(outcome.failures)
        result.bytes += outcome.bytes
        result.reasons.update(map(str, outcome.failures.values()))
        if outcome.unlisted is not None:
            result.studies_failed += 1
            result.reasons[str(outcome.unlisted)] += not outcome.failures
