"""Writes the DICOM answers of an inference run: a report for each study, an overlay for each radiograph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from monai_cxrpair.cohort.files import atomic_path, check_folder, write_csv
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.read import read_radiograph_with_info
from monai_cxrpair.reporting.answer import Algorithm, Answer, highdicom, read_algorithm
from monai_cxrpair.reporting.secondary_capture import build_overlay
from monai_cxrpair.reporting.source import read_source
from monai_cxrpair.reporting.structured_report import build_report
from monai_cxrpair.reporting.validate import check_object

NOT_WRITTEN = "not-written.csv"


class WriteDicom:
    """Handler of an evaluator: writes what the classifier says as DICOM objects, which `cxrpair send` gives to a PACS.

    The objects bear the patients' names and numbers, since the archive files them by these; only their owner may read
    them. Radiographs that are no DICOM (JPEG, PNG, NIfTI) have no patient to file them under: they, and those that
    cannot be read or referred to, stand with the reason in `not-written.csv` (`image_id,reason`). An object that is
    there already is kept: its UID says that it says the same.

    Of `engine.state.output` it reads `pred` (probability) and, where they are there, `calibrated` (probability),
    `remark` (text) and, for overlays, `heat_map`.

    Args:
        output_dir: Gets the files, `sr-<uid>.dcm` and `sc-<uid>.dcm`; None: the handler does nothing.
        model_file: `model.pt`, with `model.json` beside it.
        data: The run's data list, `{"image": path, "image_id": id}`.
        overlays: Write secondary captures too.
        heat_map_key: Of the map in the output, (1, h, w) or (h, w) in [0, 1].
        whole_map: The map is of the whole radiograph, not of the central square that the network sees.

    Raises:
        CxrPairError: highdicom is missing, the folder cannot be written, or there is no classifier.
    """

    def __init__(
        self,
        *,
        output_dir: str | Path | None,
        model_file: str | Path,
        data: Sequence[Mapping[str, Any]],
        overlays: bool = False,
        heat_map_key: str = "heat_map",
        whole_map: bool = False,
    ) -> None:
        self.folder = None if output_dir is None else Path(output_dir)
        self.overlays, self.heat_map_key, self.whole_map = overlays, heat_map_key, whole_map
        self.not_written: list[tuple[str, str]] = []
        self._studies: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self._counts = {"report": 0, "overlay": 0}
        if self.folder is not None:
            highdicom()
            check_folder(self.folder, what=f"to {self.folder}")
            self.algorithm: Algorithm = read_algorithm(model_file)
            self._paths = {str(item["image_id"]): str(item["image"]) for item in data}

    def attach(self, engine: Any) -> None:
        """Collect after each batch, write the reports at the end."""
        if self.folder is None:
            return
        from ignite.engine import Events
        from monai.engines import IterationEvents

        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def collect(self, engine: Any) -> None:
        """Take the answers of one (decollated) batch, and write their overlays."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            name = str(item["image_id"])
            if item["error"]:
                self.not_written.append((name, str(item["error"])))
            elif self.overlays and self.heat_map_key not in output:
                raise CxrPairError(f"overlays need a heat map, and the network's output has no {self.heat_map_key!r}")
            else:
                said = {
                    "probability": float(output["pred"].flatten()[0]),
                    "remark": str(output.get("remark", "") or ""),
                }
                if output.get("calibrated") is not None:
                    said["calibrated"] = float(output["calibrated"])
                heat_map = output[self.heat_map_key] if self.overlays else None
                self._guarded([name], lambda: self._collect(name, said, heat_map))  # noqa: B023

    def write(self, engine: Any) -> None:
        """Write the reports, and what could not be written."""
        for radiographs in self._studies.values():
            self._guarded([name for name, _ in radiographs], lambda: self._report(radiographs))  # noqa: B023
        assert self.folder is not None
        counts = self._counts
        engine.logger.info("%d reports and %d overlays in %s", counts["report"], counts["overlay"], self.folder)
        if self.not_written:
            write_csv(pd.DataFrame(self.not_written, columns=["image_id", "reason"]), self.folder / NOT_WRITTEN)
            engine.logger.warning("%d radiographs without DICOM objects; see %s", len(self.not_written), NOT_WRITTEN)

    def _begin(self, _: Any) -> None:
        self.not_written.clear()
        self._studies.clear()
        self._counts = {"report": 0, "overlay": 0}

    def _collect(self, name: str, said: dict[str, Any], heat_map: Any) -> None:
        source = read_source(self._paths[name])
        if source is None:
            raise CxrPairError("not DICOM: it has no patient and no study")
        if self.overlays:
            pixels, info = read_radiograph_with_info(self._paths[name])
            heat = heat_map.detach().cpu().float().numpy() if hasattr(heat_map, "detach") else heat_map
            heat = heat.reshape(heat.shape[-2:])
            answer = Answer(source=source, **said)
            self._save(build_overlay(answer, self.algorithm, pixels, heat, info=info, whole=self.whole_map), [source])
        # The header is read again for the report: 100,000 of them would not fit into memory.
        self._studies.setdefault(str(source.StudyInstanceUID).strip(), []).append((name, said))

    def _report(self, radiographs: list[tuple[str, dict[str, Any]]]) -> None:
        answers = []
        for name, said in radiographs:
            source = read_source(self._paths[name])
            if source is not None:
                answers.append(Answer(source=source, **said))
        self._save(build_report(answers, self.algorithm), [answer.source for answer in answers])

    def _save(self, data: Any, sources: list[Any]) -> None:
        assert self.folder is not None
        self._counts[check_object(save_object(data, self.folder), sources=sources, tools=False)] += 1

    def _guarded(self, names: list[str], action: Callable[[], None]) -> None:
        """One radiograph that is odd must not end the run; a disk that is full must."""
        try:
            action()
        except CxrPairError as error:
            if str(error).startswith("cannot write"):
                raise
            self.not_written += [(name, str(error)) for name in names]


def save_object(data: Any, folder: Path) -> Path:
    """Write a report or an overlay, readable by its owner only; one that is there already is kept.

    Args:
        data: From `build_report` or `build_overlay`.
        folder: Gets `sr-<uid>.dcm` or `sc-<uid>.dcm`.

    Returns:
        The file.
    """
    path = folder / f"{'sr' if data.Modality == 'SR' else 'sc'}-{data.SOPInstanceUID}.dcm"
    if not path.exists():
        with atomic_path(path) as temporary:
            data.save_as(temporary, enforce_file_format=True)
    return path
