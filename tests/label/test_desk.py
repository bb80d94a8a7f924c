"""The reading desk without a server."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from reading_room import OWN, make_studies, write_model

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.label.desk import ANONYMOUS, ConflictError, Desk, NotFoundError, png, state_folder
from monai_cxrpair.label.reader_model import ReaderModel


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("hospital")
    studies, _ = make_studies(folder, patients=3)
    return studies, ReaderModel(write_model(folder / "model"), studies, cache_folder=folder / "cache", own_encoder=OWN)


@pytest.fixture
def desk(hospital, tmp_path: Path) -> Desk:
    return Desk(*hospital, state=tmp_path, seed=0)


def test_two_readers_never_get_the_same_study_until_all_are_given_out(desk: Desk) -> None:
    given = [desk.next_study(reader, "random", another=True)["study"] for _ in range(3) for reader in ("kim", "lee")]
    assert sorted(given) == sorted(desk.studies)
    assert desk.next_study("ann", "random")["study"] is None


def test_a_reader_who_asks_again_gets_the_study_that_waits_for_an_answer(desk: Desk) -> None:
    first = desk.next_study("kim")["study"]
    assert desk.next_study("kim")["study"] == first
    desk.answer(first, "present", "kim")
    assert desk.next_study("kim")["study"] != first


def test_an_answer_can_be_taken_back_and_its_study_comes_again(desk: Desk) -> None:
    study = desk.next_study("kim")["study"]
    assert desk.answer(study, "present", "kim")["progress"]["answers"] == {"present": 1}
    assert desk.study(study)["answer"]["answer"] == "present"
    undone = desk.undo("kim")
    assert undone["undone"]["study"] == study
    assert undone["progress"]["answered"] == 0
    assert desk.study(study)["answer"] is None
    assert desk.next_study("kim")["study"] == study
    assert desk.undo("kim")["undone"] is None


def test_the_study_of_another_reader_cannot_be_answered_but_one_of_nobody_can(desk: Desk) -> None:
    kims, anonymous = desk.next_study("kim")["study"], desk.next_study(ANONYMOUS)["study"]
    with pytest.raises(ConflictError, match="another reader"):
        desk.answer(kims, "present", "lee")
    assert desk.answer(anonymous, "absent", "lee")["reader"] == "lee"


@pytest.mark.parametrize("study", ["", "../s0_0", "/etc/passwd", "s0_0\x00", "x" * 10_000])
def test_what_is_no_study_is_not_found_and_never_a_path(desk: Desk, study: str) -> None:
    for ask in (desk.study, desk.study_of, desk.predict, lambda name: desk.answer(name, "present", "kim")):
        with pytest.raises(NotFoundError) as error:
            ask(study)
        assert len(str(error.value)) < 200


def test_a_picture_has_all_grey_levels_and_is_made_smaller_as_asked(desk: Desk) -> None:
    study = next(iter(desk.studies))
    path = desk.studies[study].radiographs[0].path
    original = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    picture = desk.picture(study, 0)
    np.testing.assert_array_equal(picture, original.astype(np.uint16) * 257)  # 255 -> 65535
    assert max(desk.picture(study, 0, size=24).shape) == 24
    decoded = cv2.imdecode(np.frombuffer(png(picture), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded, original)


@pytest.mark.parametrize(("k", "size"), [(-1, 0), (7, 0), (0, -1), (0, 10**9)])
def test_a_picture_that_there_is_not_or_that_is_too_large_is_refused(desk: Desk, k: int, size: int) -> None:
    with pytest.raises(CxrPairError):
        desk.picture(next(iter(desk.studies)), k, size=size)


def test_a_picture_that_cannot_be_read_is_told_without_its_path(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    study = next(iter(desk.studies))
    path = str(desk.studies[study].radiographs[0].path)

    def broken(name: str, stamp: int) -> None:
        raise CxrPairError(f"{name}: damaged")

    monkeypatch.setattr(desk, "_pixels", broken)
    with pytest.raises(CxrPairError, match="damaged") as error:
        desk.picture(study, 0)
    assert path not in str(error.value)


def test_files_that_are_sent_are_predicted_as_those_of_the_studies_and_change_nothing(
    desk: Desk, tmp_path: Path
) -> None:
    study = next(iter(desk.studies))
    radiographs = desk.studies[study].radiographs
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / "upload").write_bytes(radiographs[0].path.read_bytes())
    sent, _ = desk.predict_files(tmp_path / "sent", heat_map=False)
    known, _ = desk.predict(radiographs[0].image, heat_map=False)
    assert sent["probability"] == pytest.approx(known["radiographs"][0]["probability"], abs=1e-6)
    assert desk.model.studies is desk.studies


def test_what_is_no_radiograph_is_told_without_where_it_was_kept(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / "upload").write_bytes(b"text")
    with pytest.raises(CxrPairError, match="no radiograph") as error:
        desk.predict_files(tmp_path / "sent")
    assert str(tmp_path) not in str(error.value)


def test_the_state_of_each_place_of_studies_is_kept_apart(tmp_path: Path) -> None:
    assert state_folder(tmp_path, "/a") != state_folder(tmp_path, "/b")
    assert state_folder(tmp_path, "/a") == state_folder(tmp_path, "/a")
