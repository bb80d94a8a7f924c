"""MONAI Label's datastore on our studies: an image is a study, a label is a reader's answer.

MONAI Label's own ones know neither: of a folder it lists the files on top, with ids that collide (`a.png`, `a.dcm`), on
DICOMweb an image is a series and a label must be a segmentation. This one serves both, as what a server has is fetched
before.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore

from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.label.answers import ANSWERS, Answer
from monai_cxrpair.label.desk import ANONYMOUS, Desk, NotFoundError

FINAL = "final"
_LARGEST = 65536  # bytes of a label


class StudyDatastore(Datastore):
    """The studies and answers of a desk.

    Args:
        desk: the desk.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._name, self._description = "cxrpair", f"studies that are read for {desk.finding}"
        self._label_info: dict[str, dict[str, Any]] = {}

    def name(self) -> str:
        """Of the datastore."""
        return self._name

    def set_name(self, name: str) -> None:
        """Until the server ends."""
        self._name = name

    def description(self) -> str:
        """Of the datastore."""
        return self._description

    def set_description(self, description: str) -> None:
        """Until the server ends."""
        self._description = description

    def list_images(self) -> list[str]:
        """The studies."""
        return list(self.desk.studies)

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """The studies that were answered; none with another tag."""
        answered = self._answers() if label_tag in (None, FINAL) else {}
        return [study for study in self.desk.studies if study in answered]

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """The other studies."""
        answered = set(self.get_labeled_images(label_tag))
        return [study for study in self.desk.studies if study not in answered]

    def datalist(self) -> list[dict[str, Any]]:
        """Each answered study with the file of its label."""
        return [{"image": study, "label": self.get_label_uri(study, FINAL)} for study in self.get_labeled_images()]

    def get_image(self, image_id: str, params: Any = None) -> bytes:
        """The file of the study's first radiograph."""
        return Path(self.get_image_uri(image_id)).read_bytes()

    def get_image_uri(self, image_id: str) -> str:
        """The path of the study's first radiograph, frontal where there is one."""
        return str(self.desk.study_of(image_id).radiographs[0].path)

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What the classifier says, and the radiographs, without identifiers."""
        return self.desk.study(self.desk.study_of(image_id).id)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Nothing: what a strategy or a score has to say of a study is computed when it is asked for."""
        self.desk.study_of(image_id)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Write down the answer in a JSON file such as `{"pleural_effusion": "present", "reader": "kim"}`.

        Raises:
            NotFoundError: there is no such study.
            CxrPairError: it is no final label, or no answer.
        """
        study = self.desk.study_of(image_id).id
        if label_tag != FINAL:
            raise CxrPairError(f"tag is {label_tag[:40]!r}: an answer is saved with the tag {FINAL}")
        finding = self.desk.finding
        form = f'a JSON file such as {{"{finding}": "present"}}, with one of {", ".join(ANSWERS)}'
        try:
            with open(label_filename, "rb") as file:
                said = json.loads(file.read(_LARGEST))
        except (OSError, ValueError, RecursionError) as error:
            raise CxrPairError(f"the label cannot be read: send {form}") from error
        if not isinstance(said, dict) or not isinstance(said.get(finding), str):
            raise CxrPairError(f"the label says nothing of {finding}: send {form}")
        info = label_info if isinstance(label_info, dict) else {}
        reader = said.get("reader") or info.get("reader") or info.get("user") or ANONYMOUS
        self.desk.answer(study, said[finding], str(reader))
        return study

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """By tag."""
        study = self.desk.study_of(image_id).id
        return {FINAL: study} if study in self._answers() else {}

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        """The label's id is the study's; empty where there is none."""
        return self.get_labels_by_image_id(image_id).get(tag, "")

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> dict[str, Any]:
        """What was said."""
        return self._label(label_id, label_tag)

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """A JSON file with what was said, as it stands now."""
        said = self._label(label_id, label_tag)
        path = self.desk.state / "labels" / FINAL / f"{self.desk.find(label_id).id}.json"
        text = json.dumps(said) + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            with atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return str(path)

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """What was said, and what a client added."""
        return {**self._label_info.get(label_id, {}), **self._label(label_id, label_tag)}

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Until the server ends."""
        self._label(label_id, label_tag)
        self._label_info.setdefault(label_id, {}).update(info)

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Refused: the history of answers only grows."""
        raise CxrPairError("an answer is not removed: give another one, or take it back with POST /cxrpair/api/undo")

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Refused."""
        raise CxrPairError("studies are not added over the network: put them into the folder or the PACS")

    def remove_image(self, image_id: str) -> None:
        """Refused."""
        raise CxrPairError("studies are not removed over the network: take them out of the folder or the PACS")

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """Refused."""
        raise CxrPairError("the studies are not sent as one archive: they lie in the folder or the PACS")

    def refresh(self) -> None:
        """Nothing: POST /reload reads the studies again."""

    def status(self) -> dict[str, Any]:
        """The counts that MONAI Label's clients show."""
        done = len(self.get_labeled_images())
        return {
            "total": len(self.desk.studies),
            "completed": done,
            "label_tags": {FINAL: done},
            "train": [{"image": study, "label": f"labels/{FINAL}/{study}.json"} for study in self.get_labeled_images()],
        }

    def json(self) -> dict[str, Any]:
        """All studies with their labels."""
        answers = self._answers()
        objects = {
            study: {
                "image": {"info": {"radiographs": len(self.desk.studies[study].radiographs)}},
                "labels": {FINAL: {"ext": ".json", "info": self._said(answers[study])}} if study in answers else {},
            }
            for study in self.desk.studies
        }
        return {"name": self._name, "description": self._description, "objects": objects}

    def _answers(self) -> dict[str, Answer]:
        return self.desk.answers.current(self.desk.finding)

    def _label(self, label_id: str, tag: str) -> dict[str, Any]:
        answers = self._answers()
        if tag != FINAL or label_id not in answers or label_id not in self.desk.studies:
            raise NotFoundError(f"no label {label_id[:64]!r} with the tag {tag[:40]!r}")
        return self._said(answers[label_id])

    def _said(self, answer: Answer) -> dict[str, Any]:
        return {answer.finding: answer.answer, "reader": answer.reader, "time": answer.time}
