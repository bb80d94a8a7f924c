"""The answers become a new classifier, if that is no worse than the present one."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort import patient_digests
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.label.answers import Answers
from monai_cxrpair.label.history import add_refit, read_refits, swap_in
from monai_cxrpair.label.judge import Labelled, judge, make_folds
from monai_cxrpair.label.learning import Candidate, Learning, NewHead
from monai_cxrpair.label.loaded import MODEL_LOCK, Loaded, head_hash, signature
from monai_cxrpair.label.lock import locked
from monai_cxrpair.label.present import PRESENT, nobody, present_scores, start_of
from monai_cxrpair.label.reader_model import ReaderModel

logger = logging.getLogger(__name__)

REFIT_LOCK = ".refit.lock"


@dataclass(frozen=True, kw_only=True)
class Refit:
    """What a refit came to.

    Attributes:
        number: 1 for the first.
        swapped: whether the new head is the present one now.
        reason: one line for the reader.
        counts: of the answers it learned from; `uncertain` and `unreadable` studies were left out.
        figures: see `judge`; they are of `counts["compared"]` studies.
        compared_with: the present head, or, where that one had learned from these patients, what stands for it.
        seconds: it took.
    """

    number: int
    swapped: bool
    reason: str
    counts: dict[str, int]
    figures: dict[str, Any]
    compared_with: str
    seconds: float


def refit(model: ReaderModel, answers: Answers, *, seed: int = 0, learning: Learning | None = None) -> Refit:
    """Learn from the answers, and swap in what was learned unless it is significantly worse than the present one.

    Both are measured on the answered studies, out of fold by patient: the new head's scores of a patient come from one
    that saw no answer of that patient. The head that `evaluating` wrote saw none of the answers. Where it was trained
    on the same patients nevertheless (the cohort of the evaluation is read again), its figure is too good, and the
    comparison errs to its side. A head that was itself refitted on answers of these patients is represented by heads
    that learn, fold by fold, from the answers that it had, without those of the patients held out: so it gains nothing
    from having seen them. After a fine-tuning, what its folds said of their own patients is used in the same way; a
    study of one of them that was answered since is learned from, but left out of the comparison.

    Args:
        model: the classifier, with the studies.
        answers: what the readers said. Uncertain answers are not learned from.
        seed: of folds and bootstrap.
        learning: the way of learning; None: a new head.

    Returns:
        The figures, and whether it was swapped in; also written to `refits.jsonl` beside the model.

    Raises:
        CxrPairError: one class only, too few patients of one, another refit at the same time, or a file that cannot be
            written.
    """
    folder, began = model.model_file.parent, time.perf_counter()
    learning = learning or NewHead()
    with locked(folder / REFIT_LOCK, busy="another refit of this classifier is running: wait for it"):
        present = model.loaded()
        finding = str(present.card["finding"])
        said = answers.labels(finding)
        start = start_of(model, present)
        labelled, studies, lost = gather(model, said, start)
        folds = make_folds(labelled, seed=seed)
        candidate = learning.learn(start, labelled, folds, seed=seed)
        compared_with, scores = present_scores(present, model, labelled, studies, folds, seed=seed)
        comparable = np.isfinite(scores)
        shared = labelled.take(comparable)
        if len(np.unique(shared.labels)) < 2:
            raise nobody(model)
        figures = judge(shared, candidate.held_out[comparable], scores[comparable], seed=seed)
        swapped = not figures["significantly_worse"]
        counts = {
            **labelled.counts(),
            "compared": shared.counts()["studies"],
            "uncertain": sum(label == -1 for label in said.values()),
            "unreadable": lost,
        }
        number = len(read_refits(folder)) + 1
        done = Refit(
            number=number,
            swapped=swapped,
            reason=_sentence(learning.what, figures, compared_with, counts, swapped=swapped),
            counts=counts,
            figures=figures,
            compared_with=compared_with,
            seconds=time.perf_counter() - began,
        )
        when = datetime.now(UTC).isoformat(timespec="seconds")
        kept = {study: said[study] for study in studies if study}
        rows = [each.row for study in kept for each in model.studies[study].radiographs]
        learned = patient_digests(model.studies.cohort, rows)
        record = {**asdict(done), "time": when, "finding": finding, "learning": learning.name, "answers": kept}
        if learning.changes_encoder:
            record["held_out"] = _by_study(labelled, candidate.held_out, studies)
        # First the history: a head that it does not know could never be compared honestly again.
        add_refit(folder, record)
        if swapped:
            card = _card(start, candidate, done, when, learned, learning.name)
            with locked(folder / MODEL_LOCK):
                if signature(model.model_file) != present.signature:
                    raise CxrPairError(f"{model.model_file} was replaced during the refit: refit again")
                swap_in(candidate.network, model.model_file, card)
    logger.info("refit %d: %s", done.number, done.reason)
    return done


def gather(
    model: ReaderModel, said: Mapping[str, float], loaded: Loaded | None = None
) -> tuple[Labelled, list[str], int]:
    """The radiographs of the studies that were answered present or absent.

    Args:
        model: the classifier, with the studies.
        said: study -> 1, 0 or -1; studies that are not read any more are passed over.
        loaded: whose embeddings are wanted; None: those of the present one.

    Returns:
        The radiographs; the ids behind their study codes; and how many studies cannot be read.
    """
    studies = model.studies
    chosen = [study for study in studies if said.get(study) in (0.0, 1.0)]
    rows = np.array([each.row for study in chosen for each in studies[study].radiographs], dtype=np.int64)
    codes = np.repeat(np.arange(len(chosen)), [len(studies[study].radiographs) for study in chosen])
    embeddings = model.embeddings(rows, loaded) if len(rows) else np.empty((0, 0), dtype=np.float32)
    readable = np.isfinite(embeddings).all(axis=1)
    # The classes of the study go to all its radiographs, as in a cohort whose labels come from reports.
    labels = np.array([said[study] for study in chosen], dtype=np.float64)[codes]
    patients = studies.cohort.codes("patient_id")[rows]
    labelled = Labelled(
        embeddings=embeddings[readable],
        labels=labels[readable],
        patients=patients[readable],
        studies=codes[readable],
        rows=rows[readable],
    )
    there = set(codes[readable].tolist())
    lost = len(chosen) - len(there)
    return labelled, [study if code in there else "" for code, study in enumerate(chosen)], lost


def _by_study(labelled: Labelled, scores: npt.NDArray[np.float64], studies: Sequence[str]) -> dict[str, float]:
    units = labelled.units()
    first = labelled.studies[units.rows[units.starts]]
    return {studies[code]: float(value) for code, value in zip(first, units.pool(scores[units.rows]), strict=True)}


def _card(
    start: Loaded, candidate: Candidate, done: Refit, when: str, learned: str | None, learning: str
) -> dict[str, Any]:
    """The card of the classifier that was begun with, without the figures that are that one's."""
    stale = {"test_auc": None, "at_operating_point": None, "calibration": None}
    trained = {"radiographs": done.counts["radiographs"], "studies": done.counts["studies"], "patients_seen": learned}
    return {
        **start.card,
        **stale,
        **candidate.card,
        "trained_on": {**trained, "present": done.counts["present"], "source": "answers of readers"},
        "refit": {
            "number": done.number,
            "time": when,
            "learning": learning,
            "head": head_hash(candidate.network),
            "counts": done.counts,
            **done.figures,
        },
    }


def _sentence(what: str, figures: Mapping[str, Any], against: str, counts: Mapping[str, int], *, swapped: bool) -> str:
    new, old, difference = figures["new"], figures["present"], figures["difference"]
    low, high = difference["ci95"]
    verdict = f"the {what} is in use" if swapped else f"the {what} is significantly worse and was not swapped in"
    stand_in = "" if against == PRESENT else " (as it is on patients it did not see)"
    return (
        f"{verdict}: AUC {new['auc']:.3f} against {old['auc']:.3f} of the present one{stand_in} on "
        f"{counts['compared']} studies, difference {difference['value']:+.3f} (95 % CI {low:+.3f} to {high:+.3f}, "
        f"p = {difference['p']:.3g}); learned from {counts['studies']} studies of {counts['patients']} patients"
    )
