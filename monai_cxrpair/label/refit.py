"""The answers become a new head, if that is no worse than the present one."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort import patient_digests
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.classifier import Classifier, build_classifier
from monai_cxrpair.evaluation.head import fit_head
from monai_cxrpair.label.answers import Answers
from monai_cxrpair.label.history import FIRST, add_refit, learned_from, read_refits, swap_in
from monai_cxrpair.label.judge import Fold, Labelled, judge, make_folds, out_of_fold
from monai_cxrpair.label.loaded import MODEL_LOCK, Loaded, head_hash, signature
from monai_cxrpair.label.lock import locked
from monai_cxrpair.label.reader_model import ReaderModel

logger = logging.getLogger(__name__)

REFIT_LOCK = ".refit.lock"
PRESENT = "present head"
STAND_IN = "heads that learn, without the patients held out, from the answers that the present head had"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What a way of learning made of the answers.

    Attributes:
        network: the classifier that learned from all answers.
        held_out: (n,) probabilities of the radiographs, by networks that saw no answer of their patients.
        card: what its card says beside what the present one's says.
    """

    network: Classifier
    held_out: npt.NDArray[np.float64]
    card: Mapping[str, Any]


class Learning(Protocol):
    """A way of learning from the answers; fine-tuning the whole encoder would be another one.

    It is measured, compared and swapped in like the head: `refit` only looks at the `Candidate`. One that changes the
    encoder also changes the embeddings, which `ReaderModel` then computes anew by itself.
    """

    name: str

    def learn(self, present: Loaded, labelled: Labelled, folds: list[Fold], *, seed: int) -> Candidate:
        """Learn from all answers, and fold by fold."""


class NewHead:
    """The linear head of the evaluation (`LinearProbe`) on the frozen embeddings."""

    name = "head"

    def learn(self, present: Loaded, labelled: Labelled, folds: list[Fold], *, seed: int) -> Candidate:
        """See `Learning`."""
        head = fit_head(labelled.embeddings, labelled.labels, labelled.patients, seed=seed)
        held_out = out_of_fold(labelled, folds, seed=seed)
        assert held_out is not None  # the folds have both classes
        network = build_classifier(present.encoder, head.probe)
        assert isinstance(network, Classifier)
        return Candidate(
            network=network,
            held_out=held_out,
            card={
                "operating_point": head.operating_point,
                "calibration": head.calibration,
                "probe_c": head.probe.c,
            },
        )


@dataclass(frozen=True, kw_only=True)
class Refit:
    """What a refit came to.

    Attributes:
        number: 1 for the first.
        swapped: whether the new head is the present one now.
        reason: one line for the reader.
        counts: of the answers it learned from; `uncertain` and `unreadable` studies were left out.
        figures: see `judge`.
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
    """Learn a new head from the answers, and swap it in unless it is significantly worse than the present one.

    Both are measured on the answered studies, out of fold by patient: the new head's scores of a patient come from one
    that saw no answer of that patient. The head that `evaluating` wrote saw none of the answers. Where it was trained
    on the same patients nevertheless (the cohort of the evaluation is read again), its figure is too good, and the
    comparison errs to its side. A head that was itself refitted on answers of these patients is represented by heads
    that learn, fold by fold, from the answers that it had, without those of the patients held out: so it gains nothing
    from having seen them.

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
        labelled, studies, lost = gather(model, said)
        folds = make_folds(labelled, seed=seed)
        candidate = learning.learn(present, labelled, folds, seed=seed)
        compared_with, scores = _present_scores(present, model, labelled, studies, folds, seed=seed)
        figures = judge(labelled, candidate.held_out, scores, seed=seed)
        swapped = not figures["significantly_worse"]
        counts = {
            **labelled.counts(),
            "uncertain": sum(label == -1 for label in said.values()),
            "unreadable": lost,
        }
        number = len(read_refits(folder)) + 1
        done = Refit(
            number=number,
            swapped=swapped,
            reason=_sentence(figures, compared_with, counts, swapped=swapped),
            counts=counts,
            figures=figures,
            compared_with=compared_with,
            seconds=time.perf_counter() - began,
        )
        when = datetime.now(UTC).isoformat(timespec="seconds")
        kept = {study: said[study] for study in studies if study}
        rows = [each.row for study in kept for each in model.studies[study].radiographs]
        learned = patient_digests(model.studies.cohort, rows)
        # First the history: a head that it does not know could never be compared honestly again.
        add_refit(
            folder, {**asdict(done), "time": when, "finding": finding, "learning": learning.name, "answers": kept}
        )
        if swapped:
            with locked(folder / MODEL_LOCK):
                if signature(model.model_file) != present.signature:
                    raise CxrPairError(f"{model.model_file} was replaced during the refit: refit again")
                swap_in(candidate.network, model.model_file, _card(present, candidate, done, when, learned))
    logger.info("refit %d: %s", done.number, done.reason)
    return done


def gather(model: ReaderModel, said: Mapping[str, float]) -> tuple[Labelled, list[str], int]:
    """The radiographs of the studies that were answered present or absent.

    Args:
        model: the classifier, with the studies.
        said: study -> 1, 0 or -1; studies that are not read any more are passed over.

    Returns:
        The radiographs; the ids behind their study codes; and how many studies cannot be read.
    """
    studies = model.studies
    chosen = [study for study in studies if said.get(study) in (0.0, 1.0)]
    rows = np.array([each.row for study in chosen for each in studies[study].radiographs], dtype=np.int64)
    codes = np.repeat(np.arange(len(chosen)), [len(studies[study].radiographs) for study in chosen])
    embeddings = model.embeddings(rows) if len(rows) else np.empty((0, 0), dtype=np.float32)
    readable = np.isfinite(embeddings).all(axis=1)
    # The classes of the study go to all its radiographs, as in a cohort whose labels come from reports.
    labels = np.array([said[study] for study in chosen], dtype=np.float64)[codes]
    patients = studies.cohort.codes("patient_id")[rows]
    labelled = Labelled(
        embeddings=embeddings[readable], labels=labels[readable], patients=patients[readable], studies=codes[readable]
    )
    there = set(codes[readable].tolist())
    lost = len(chosen) - len(there)
    return labelled, [study if code in there else "" for code, study in enumerate(chosen)], lost


def _present_scores(
    present: Loaded, model: ReaderModel, labelled: Labelled, studies: list[str], folds: list[Fold], *, seed: int
) -> tuple[str, npt.NDArray[np.float64]]:
    """Of the radiographs, by the present head or by what stands for it; and which it was."""
    folder = model.model_file.parent
    learned = learned_from(present.card, folder) or {}
    patient = {study: each.patient for study, each in model.studies.items()}
    seen = {patient[study] for study in learned if study in patient}
    if seen.isdisjoint({patient[study] for study in studies if study}):
        return PRESENT, present.probabilities(labelled.embeddings)
    known = np.array([learned.get(studies[code], np.nan) for code in labelled.studies])
    scores = out_of_fold(labelled, folds, seed=seed, known=known)
    if scores is None:
        raise CxrPairError(
            "most answers that the present head learned from were taken back, so nothing can stand for it: copy "
            f"model.pt and model.json of {folder / FIRST} back, and refit again"
        )
    return STAND_IN, scores


def _card(present: Loaded, candidate: Candidate, done: Refit, when: str, learned: str | None) -> dict[str, Any]:
    """The present card, without the figures that are the present head's."""
    stale = {"test_auc": None, "at_operating_point": None, "calibration": None}
    trained = {"radiographs": done.counts["radiographs"], "studies": done.counts["studies"], "patients_seen": learned}
    return {
        **present.card,
        **stale,
        **candidate.card,
        "trained_on": {**trained, "present": done.counts["present"], "source": "answers of readers"},
        "refit": {
            "number": done.number,
            "time": when,
            "head": head_hash(candidate.network),
            "counts": done.counts,
            **done.figures,
        },
    }


def _sentence(figures: Mapping[str, Any], against: str, counts: Mapping[str, int], *, swapped: bool) -> str:
    new, old, difference = figures["new"], figures["present"], figures["difference"]
    low, high = difference["ci95"]
    verdict = "the new head is in use" if swapped else "the new head is significantly worse and was not swapped in"
    stand_in = "" if against == PRESENT else " (as it is on patients it did not see)"
    return (
        f"{verdict}: AUC {new['auc']:.3f} against {old['auc']:.3f} of the present one{stand_in} on {counts['studies']} "
        f"studies of {counts['patients']} patients, difference {difference['value']:+.3f} "
        f"(95 % CI {low:+.3f} to {high:+.3f}, p = {difference['p']:.3g})"
    )
