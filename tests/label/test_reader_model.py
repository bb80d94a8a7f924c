import json
import shutil
import threading

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from reading_room import write_model

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.read import read_radiograph
from monai_cxrpair.label.loaded import find_model
from monai_cxrpair.label.studies import Studies


def by_hand(model, path):
    """Without cache, table and dataset: 48 pixels high already, so only the centred square is cut out."""
    loaded, pixels = model.loaded(), read_radiograph(path)
    left = pixels.shape[2] // 2 - 24
    view = (torch.from_numpy(pixels[None, :, :, left : left + 48]) - 0.4) / 0.2
    with torch.no_grad():
        return float(torch.sigmoid(loaded.network(view))[0, 0])


def forget(monkeypatch, model):
    """From here on the encoder must not be run."""

    def refuse(*_):
        raise AssertionError("the encoder was run again")

    monkeypatch.setattr(model.loaded().encoder.network, "forward", refuse)


def test_a_study_has_the_highest_probability_of_its_radiographs_each_as_the_network_gives_it(open_model, hospital):
    model = open_model()
    study = next(s for s in hospital[0].values() if len(s.radiographs) == 2)
    found = model.predict(study.id)
    assert [each.laterality for each in found.radiographs] == ["frontal", "lateral"]
    expected = [by_hand(model, each.path) for each in study.radiographs]
    np.testing.assert_allclose([each.probability for each in found.radiographs], expected, atol=1e-5)
    assert found.probability == max(each.probability for each in found.radiographs)
    assert (found.threshold, found.positive) == (0.4, found.probability >= 0.4)


def test_the_scores_of_all_studies_are_those_of_each(open_model, hospital):
    model = open_model()
    scores = model.scores()
    assert list(scores.studies) == list(hospital[0])
    single = [model.predict(study).probability for study in scores.studies]
    np.testing.assert_allclose(scores.probabilities, single, rtol=1e-5)
    rows = np.array([hospital[0][name].radiographs[0].row for name in scores.studies])
    np.testing.assert_array_equal(scores.embeddings, model.embeddings(rows))


def test_a_new_server_runs_the_encoder_over_nothing_that_was_embedded_before(open_model, monkeypatch):
    before = open_model().scores()
    model = open_model()
    forget(monkeypatch, model)
    np.testing.assert_array_equal(model.scores().probabilities, before.probabilities)


def test_a_damaged_table_of_embeddings_is_made_anew(open_model, tmp_path):
    before = open_model().scores().probabilities
    (table,) = (tmp_path / "cache" / "embeddings").glob("*.npz")
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 0xFF
    table.write_bytes(content)
    np.testing.assert_allclose(open_model().scores().probabilities, before, rtol=1e-5)


def test_new_weights_are_used_at_the_next_question_and_another_head_needs_no_encoder(open_model, tmp_path, monkeypatch):
    model = open_model()
    before = model.scores().probabilities
    write_model(tmp_path / "model", weight=np.linspace(-1, 1, 32))  # the same encoder
    model.loaded()
    forget(monkeypatch, model)
    assert np.abs(model.scores().probabilities - before).max() > 0.01
    monkeypatch.undo()
    write_model(tmp_path / "model", seed=1)
    assert np.abs(model.scores().probabilities - before).max() > 1e-4


def test_weights_that_are_not_the_cards_are_refused_also_when_they_replace_good_ones(open_model, tmp_path):
    model = open_model()
    state = torch.load(tmp_path / "model" / "model.pt", weights_only=True)
    torch.save({name: value for name, value in state.items() if name != "fc.bias"}, tmp_path / "model" / "model.pt")
    with pytest.raises(CxrPairError, match="not weights of this classifier"):
        model.predict(next(iter(model.studies)))
    with pytest.raises(CxrPairError, match="not weights of this classifier"):
        open_model()


def test_a_folder_with_several_models_is_refused_with_their_names(open_model, tmp_path):
    open_model()
    shutil.copy(tmp_path / "model" / "model.pt", tmp_path / "model" / "a.pt")  # MONAI Label would take this one
    with pytest.raises(CxrPairError, match=r"there is: a\.pt, model\.pt"):
        open_model()
    assert find_model(tmp_path / "model" / "model.pt").name == "model.pt"
    with pytest.raises(CxrPairError, match=r"no \.pt file"):
        find_model(tmp_path)
    with pytest.raises(CxrPairError, match="no classifier there"):
        find_model(tmp_path / "absent.pt")


def test_a_card_without_finding_or_of_another_refit_is_refused(open_model, tmp_path):
    open_model()
    path = tmp_path / "model" / "model.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "refit": {"number": 1, "head": "0" * 64}}))
    with pytest.raises(CxrPairError, match="not of the same refit"):
        open_model()
    path.write_text(json.dumps({name: value for name, value in card.items() if name != "finding"}))
    with pytest.raises(CxrPairError, match="which finding"):
        open_model()


def test_a_file_that_cannot_be_read_has_no_probability_and_the_other_radiographs_speak(open_model, hospital, tmp_path):
    study = next(s for s in hospital[0].values() if len(s.radiographs) == 2)
    for each in study.radiographs:
        shutil.copy(each.path, tmp_path / each.path.name)
    frontal, lateral = (tmp_path / each.path.name for each in study.radiographs)
    frontal.write_bytes(frontal.read_bytes()[:100])
    (tmp_path / "lost.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    table = pd.DataFrame({"image_id": list("abc"), "patient_id": list("ppq"), "study_id": list("xxy")})
    table["path"] = [frontal.name, lateral.name, "lost.png"]
    table["laterality"] = ["frontal", "lateral", "frontal"]
    model = open_model(Studies(Cohort(table, root=tmp_path, findings=[], source="table")))
    found = model.predict("x")
    assert [each.probability is None for each in found.radiographs] == [True, False]
    assert found.probability == found.radiographs[1].probability
    lost = model.predict("y")
    assert (lost.probability, lost.positive) == (None, None)
    scores = model.scores()
    assert dict(zip(scores.studies, np.isnan(scores.probabilities).tolist(), strict=True)) == {"x": False, "y": True}
    assert np.isfinite(scores.embeddings).all()
    with pytest.raises(CxrPairError, match="radiograph a: "):
        model.heat_map("a")


def test_a_file_that_is_replaced_is_read_anew(open_model, tmp_path):
    path = tmp_path / "a.png"
    rng = np.random.default_rng(0)
    cv2.imwrite(str(path), rng.integers(0, 90, (48, 48)).astype(np.uint8))
    table = pd.DataFrame({"image_id": ["a"], "patient_id": ["p"], "study_id": ["x"], "path": ["a.png"]})
    model = open_model(Studies(Cohort(table, root=tmp_path, findings=[], source="table")))
    before = model.predict("x").probability
    cv2.imwrite(str(path), rng.integers(150, 255, (48, 48)).astype(np.uint8))
    after = model.predict("x").probability
    assert abs(after - before) > 1e-4
    assert after == pytest.approx(by_hand(model, path), abs=1e-5)


def test_the_heat_map_covers_the_radiograph_and_is_clear_outside_of_what_was_seen(open_model, hospital, tmp_path):
    write_model(tmp_path / "model", weight=np.ones(32))
    model = open_model()
    wide = next(s for s in hospital[0].values() if len(s.radiographs) == 2).radiographs[0]  # 48 x 52
    picture = cv2.imdecode(np.frombuffer(model.heat_map(wide.image), np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (48, 52, 4)
    assert picture[:, [0, 1, 50, 51], 3].max() == 0
    assert picture[:, 2:50, 3].max() > 100
    with pytest.raises(CxrPairError, match="no radiograph 'nobody'"):
        model.heat_map("nobody")


def test_threads_get_the_same_answers_as_one_and_none_fails(open_model, hospital):
    model, names = open_model(), list(hospital[0])[:12]
    found, errors = {}, []

    def ask(part):
        try:
            for name in part:
                found.setdefault(name, set()).add(model.predict(name).probability)
                model.heat_map(hospital[0][name].radiographs[0].image)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(names[shift:] + names[:shift],)) for shift in (0, 4, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    expected = dict(zip(model.scores().studies, model.scores().probabilities, strict=True))
    for name, values in found.items():
        np.testing.assert_allclose(sorted(values), expected[name], rtol=1e-5)
