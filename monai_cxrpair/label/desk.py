"""The reading desk: studies, classifier, answers and worklist of one finding, as the server and its page ask for them.

Everything comes back as plain values that can be sent as JSON, or as the bytes of a picture. No server is needed here.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import threading
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.read import read_radiograph
from monai_cxrpair.label.answers import Answers
from monai_cxrpair.label.lock import locked
from monai_cxrpair.label.reader_model import Prediction, ReaderModel
from monai_cxrpair.label.studies import Radiograph, Studies, Study
from monai_cxrpair.label.worklist import Leases, Worklist

logger = logging.getLogger(__name__)

STRATEGY = "mixed"  # where nobody says which: neither uncertain nor diverse is known to be better on new radiographs
LARGEST = 4096  # pixels of the longer side of a picture that is sent
ANONYMOUS = "monailabel"  # the reader where a client does not say who reads
_DECODED = 8  # radiographs kept in memory, some 10 MB each: those of the last studies that were looked at


class NotFoundError(CxrPairError):
    """There is no such study, radiograph or label."""


class ConflictError(CxrPairError):
    """Not now: another reader has the study, or another training is running."""


def state_folder(app_dir: str | Path, source: str | Path) -> Path:
    """Where answers, key and caches of one place of studies are kept; for the owner only.

    In the app's folder and not beside the studies, which may be somebody else's or read-only.
    """
    name = hashlib.sha256(str(source).encode()).hexdigest()[:16]
    folder = Path(app_dir) / "state" / name
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CxrPairError(f"cannot make {folder}: {error.strerror or error}") from error
    return folder


class Desk:
    """One finding of one set of studies. Threads may ask at once.

    Args:
        studies: what is read.
        model: the classifier of these studies.
        state: folder of the answers and leases.
        seed: of what decides between equals; None: another one at each start.
    """

    def __init__(self, studies: Studies, model: ReaderModel, *, state: Path, seed: int | None = None) -> None:
        self.studies, self.model, self.state = studies, model, state
        self.finding = model.finding
        self.answers = Answers(state / "answers.jsonl")
        self._worklist = Worklist(self.answers, Leases(state / "leases.json"), finding=self.finding)
        self._rng, self._rng_lock = np.random.default_rng(seed), threading.Lock()
        self._pixels = lru_cache(maxsize=_DECODED)(_decoded)

    def warm_up(self) -> threading.Thread:
        """Embed all radiographs in the background, so that the first reader does not wait for that."""

        def embed() -> None:
            try:
                logger.info("%d studies are ready to be read", len(self.model.scores().studies))
            except CxrPairError as error:
                logger.error("the studies cannot be scored: %s", error)

        thread = threading.Thread(target=embed, name="embed", daemon=True)
        thread.start()
        return thread

    def next_study(self, reader: str, strategy: str = STRATEGY, *, another: bool = False) -> dict[str, Any]:
        """The study that a reader should read; the one they have not answered yet, unless `another` is asked for.

        Returns:
            `{"finding", "reader", "strategy", "study": id or None, "progress"}`; None: nothing is left to read.
        """
        scores = self.model.scores()
        waiting = [] if another else self._waiting(reader)
        if waiting and self._worklist.leases.renew(waiting[0], reader):
            study: str | None = waiting[0]
        else:
            with self._rng_lock:
                rng = np.random.default_rng(self._rng.integers(2**63))
            study = self._worklist.next(scores, strategy=strategy, reader=reader, rng=rng)
        found = {"finding": self.finding, "reader": reader, "strategy": strategy, "study": study}
        return found | {"progress": self.progress()}

    def progress(self) -> dict[str, Any]:
        """How far the reading is: `{"studies", "answered", "being_read", "unreadable", "answers": {answer: n}}`."""
        given: dict[str, int] = {}
        for each in self.answers.current(self.finding).values():
            if each.study in self.studies:
                given[each.answer] = given.get(each.answer, 0) + 1
        return {**self._worklist.progress(self.model.scores()), "answers": given}

    def study(self, study: str) -> dict[str, Any]:
        """What the page shows of a study, radiographs frontal first, `k` being their number; no identifiers."""
        found = self.find(study)
        said = self.answers.current(self.finding).get(found.id)
        return {
            **prediction_json(self.model.predict(found.id)),
            "answer": None if said is None else {"answer": said.answer, "reader": said.reader, "time": said.time},
        }

    def find(self, study: str) -> Study:
        """A study by its id.

        Raises:
            NotFoundError: there is none.
        """
        if study not in self.studies:
            raise NotFoundError(f"no study {study[:64]!r} among the {len(self.studies)} that are read here")
        return self.studies[study]

    def study_of(self, image: str) -> Study:
        """A study by its id, or by that of one of its radiographs.

        Raises:
            NotFoundError: there is none.
        """
        if image in self.studies:
            return self.studies[image]
        for study in self.studies.values():
            if any(each.image == image for each in study.radiographs):
                return study
        raise NotFoundError(f"no study or radiograph {image[:64]!r} among the {len(self.studies)} studies read here")

    def picture(self, study: str, k: int, *, size: int = 0) -> npt.NDArray[np.uint16]:
        """A radiograph with all its grey levels.

        Args:
            study: its id.
            k: number of the radiograph, from 0.
            size: the longer side is made this long where it is longer; 0: as it is.

        Returns:
            (H, W), 0 to 65535, air dark.

        Raises:
            NotFoundError: there is none.
            CxrPairError: it cannot be read.
        """
        if not 0 <= size <= LARGEST:
            raise CxrPairError(f"size is {size}: use 0 to {LARGEST} pixels")
        path = self._radiograph(study, k).path
        try:
            stamp = path.stat().st_mtime_ns
        except OSError:
            stamp = 0  # in an archive, or gone: reading says which
        try:
            pixels = self._pixels(str(path), stamp)
        except CxrPairError as error:  # a path may hold the patient's name
            raise CxrPairError(str(error).replace(str(path), f"radiograph {k} of study {study}")) from error
        longer = max(pixels.shape)
        size = min(size or LARGEST, LARGEST)
        if longer <= size:
            return pixels
        rows, columns = (max(1, round(side * size / longer)) for side in pixels.shape)
        return np.asarray(cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.uint16)

    def heat_map(self, study: str, k: int) -> bytes:
        """Where the classifier sees the finding: a PNG to lay over the whole radiograph."""
        return self.model.heat_map(self._radiograph(study, k).image)

    def answer(self, study: str, answer: str, reader: str) -> dict[str, Any]:
        """Write an answer down.

        Raises:
            NotFoundError: there is no such study.
            ConflictError: another reader has it.
            CxrPairError: it is no answer.
        """
        found = self.find(study)
        held = self._worklist.leases.held().get(found.id, reader)
        if held not in (reader, ANONYMOUS):
            raise ConflictError(f"study {found.id} is being read by another reader: ask for another one")
        self._worklist.answer(found.id, answer, reader=reader)
        given = self.answers.current(self.finding)[found.id]
        return {**asdict(given), "progress": self.progress()}

    def undo(self, reader: str) -> dict[str, Any]:
        """Take a reader's last answer back; its study is theirs to read again."""
        undone = self.answers.undo(reader=reader, finding=self.finding)
        leases = self._worklist.leases
        if undone is not None:
            with locked(leases.lock):
                if leases.held().get(undone.study, reader) == reader:
                    leases.take(undone.study, reader)
        return {"undone": None if undone is None else asdict(undone), "progress": self.progress()}

    def predict_files(self, folder: Path, *, heat_map: bool = True) -> tuple[dict[str, Any], bytes | None]:
        """The prediction of radiographs that are not of these studies, and the heat map of the first.

        Args:
            folder: with the files of one study.
            heat_map: whether to make it.

        Raises:
            CxrPairError: there is no radiograph in it, or it holds several studies.
        """
        try:
            studies = Studies.read(folder, key_folder=self.state)
        except CxrPairError as error:  # not where the server keeps it for the moment
            raise CxrPairError(str(error).replace(str(folder), "what was sent")) from error
        if len(studies) != 1:
            raise CxrPairError(f"{len(studies)} studies were sent: send one")
        model = copy.copy(self.model)  # the same network, locks and caches
        model.use(studies)
        found = studies[next(iter(studies))]
        prediction = model.predict(found.id)
        if prediction.probability is None:
            raise CxrPairError("the file's header is a radiograph's, but its pixels cannot be read")
        return prediction_json(prediction), _heat_map(model, found.radiographs) if heat_map else None

    def predict(self, image: str, *, heat_map: bool = True) -> tuple[dict[str, Any], bytes | None]:
        """The prediction of a study, or of a radiograph's study, and the heat map of its first radiograph."""
        found = self.study_of(image)
        heat = _heat_map(self.model, found.radiographs) if heat_map else None
        return prediction_json(self.model.predict(found.id)), heat

    def _waiting(self, reader: str) -> list[str]:
        answered = self.answers.current(self.finding)
        held = self._worklist.leases.held(reader)
        return [study for study in held if study in self.studies and study not in answered]

    def _radiograph(self, study: str, k: int) -> Radiograph:
        found = self.find(study)
        if not 0 <= k < len(found.radiographs):
            raise NotFoundError(f"study {found.id} has radiographs 0 to {len(found.radiographs) - 1}, not {k}")
        return found.radiographs[k]


def prediction_json(prediction: Prediction) -> dict[str, Any]:
    """As it is sent: the fields of `Prediction`, each radiograph with its number `k`."""
    said: Mapping[str, Any] = asdict(prediction)
    return {**said, "radiographs": [{"k": k, **each} for k, each in enumerate(said["radiographs"])]}


def png(pixels: npt.NDArray[np.uint16]) -> bytes:
    """An 8-bit grey PNG of (H, W) values from 0 to 65535."""
    done, encoded = cv2.imencode(".png", (pixels >> 8).astype(np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise CxrPairError("the picture cannot be encoded")
    return encoded.tobytes()


def _decoded(path: str, stamp: int) -> npt.NDArray[np.uint16]:
    """`stamp` is the file's time: a file that is replaced is read anew."""
    pixels: npt.NDArray[np.uint16] = np.rint(read_radiograph(path)[0] * 65535.0).astype(np.uint16)  # (H, W)
    pixels.setflags(write=False)
    return pixels


def _heat_map(model: ReaderModel, radiographs: tuple[Radiograph, ...]) -> bytes | None:
    """None where the encoder has none, or the first radiograph cannot be read: the probability stands without it."""
    try:
        return model.heat_map(radiographs[0].image)
    except CxrPairError as error:
        logger.info("no heat map: %s", error)
        return None
