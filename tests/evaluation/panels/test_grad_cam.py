import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from report_page import numbers_without_a_source, read
from small_evaluation import evaluated_on, make_cohort, make_table, page_of, without_patient_ids
from torch import nn

from monai_cxrpair.evaluation.encoders import FrozenEncoder
from monai_cxrpair.evaluation.panels import grad_cam, make_panels
from monai_cxrpair.evaluation.panels.grad_cam import make
from monai_cxrpair.evaluation.probe import LinearProbe

SIZE, FIELD = 32, 4


class Brightness(nn.Module):
    """Each field's brightness above middle grey, and the rest below it: fixed numbers, or weights of a convolution."""

    def __init__(self, *, learned):
        super().__init__()
        self.cells = nn.Conv2d(1, 2, FIELD, stride=FIELD, bias=False)
        weight = torch.ones(2, 1, FIELD, FIELD) / FIELD**2
        weight[1] *= -1
        if learned:
            self.cells.weight.data = weight
        else:
            del self.cells.weight
            self.cells.register_buffer("weight", weight)
            self.cells.reset_parameters = lambda: None  # there is nothing to learn, so nothing to begin anew

    def forward(self, x):
        return self.cells(x).relu().mean((2, 3))


class OneFeature(nn.Module):
    """A single feature: whatever its head's weight is, the map is the feature or its negative."""

    def __init__(self):
        super().__init__()
        self.cells = nn.Conv2d(1, 1, FIELD, stride=FIELD, bias=False)
        self.cells.weight.data.fill_(1 / FIELD**2)

    def forward(self, x):
        return self.cells(x).mean((2, 3))


class Tokens(nn.Module):
    """Patches, then tokens that a layer works on."""

    def __init__(self):
        super().__init__()
        self.patches, self.mix = nn.Conv2d(1, 2, FIELD, stride=FIELD), nn.LayerNorm(2)

    def forward(self, x):
        return self.mix(self.patches(x).flatten(2).transpose(1, 2)).mean(1)


class Spots:
    """Dark radiographs, those with the finding with a bright field: in the middle, or at the border."""

    image_size = SIZE

    def __init__(self, labels, *, where):
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 60, (len(labels), 1, SIZE, SIZE)).astype(np.uint8)
        self.places = (
            rng.integers(2, SIZE // FIELD - 2, (len(labels), 2))
            if where == "middle"
            else np.zeros((len(labels), 2), int)
        )
        for row in np.flatnonzero(labels == 1):
            top, left = FIELD * self.places[row]
            self.images[row, 0, top : top + FIELD, left : left + FIELD] = 255

    def __getitems__(self, rows):
        return {"image": self.images[rows], "row": np.asarray(rows)}


def evaluation(*, where="middle", learned=True, network=None, patients=60, **settings):
    done = evaluated_on(make_cohort(make_table(patients)), cards={"same study": {}})
    dataset = Spots(done.labels, where=where)
    network = network or Brightness(learned=learned)
    encoder = FrozenEncoder(network=network.eval(), mean=0.5, std=0.2, card={})
    with torch.no_grad():
        features = network((torch.from_numpy(dataset.images) / 255 - 0.5) / 0.2).numpy()
    rows = done.split.train_rows[np.isin(done.labels[done.split.train_rows], (0, 1))]
    probe = LinearProbe().fit(features[rows], done.labels[rows], done.cohort.codes("patient_id")[rows])
    return dataclasses.replace(
        done,
        dataset=dataset,
        encoders={**done.encoders, "same study": encoder},
        embeddings={**done.embeddings, "same study": features},
        probe=probe,
        **settings,
    )


@pytest.mark.parametrize(("where", "said"), [("middle", "Less than even"), ("border", "More than even")])
def test_the_share_of_the_maps_at_the_border_tells_where_the_finding_was_seen(tmp_path, where, said):
    done = evaluation(where=where)
    page = page_of(done, "grad_cam", make, tmp_path)
    figures = json.loads((tmp_path / "results.json").read_text())["panels"]["grad_cam"]
    assert figures["layer"] == "encoder.cells"
    assert figures["map_size"] == [SIZE // FIELD] * 2
    assert (figures["border"]["value"] > 0.9) == (where == "border")
    assert said in read(page)[1]
    assert "no hint" not in page


def test_the_shown_are_the_highest_with_and_the_lowest_without_the_finding_one_a_patient(tmp_path):
    done = evaluation()
    panel = make(done, tmp_path)
    rows = done.linear.test_rows
    scores = done.probe.predict_proba(done.embeddings["same study"][rows])
    table = done.cohort.table.iloc[rows]
    for kind, label, sign in (("present", 1, -1), ("absent", 0, 1)):
        best = sorted((sign * score, place) for place, score in enumerate(scores) if done.labels[rows[place]] == label)
        expected, patients = [], set()
        for score, place in best:
            if table["patient_id"].iloc[place] not in patients and len(expected) < 3:
                patients.add(table["patient_id"].iloc[place])
                expected.append(sign * score)
        assert [item["score"] for item in panel.figures["shown"][kind]] == pytest.approx(expected)
        ids = [item["image_id"] for item in panel.figures["shown"][kind]]
        assert table.set_index("image_id").loc[ids, "patient_id"].is_unique


def test_nothing_of_the_evaluation_is_changed_and_twice_gives_the_same_bytes(tmp_path):
    done = evaluation()
    network = done.encoders["same study"].network
    views = torch.rand(4, 1, SIZE, SIZE)
    before = network(views).detach()
    state = torch.random.get_rng_state()
    first = make(done, tmp_path / "a")
    second = make(done, tmp_path / "b")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(network(views), before)
    assert not any(module.training for module in network.modules())
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())
    assert first.figures == second.figures
    assert {k: p.read_bytes() for k, p in first.pictures.items()} == {
        k: p.read_bytes() for k, p in second.pictures.items()
    }
    assert len(first.pictures) == 7


def test_maps_that_do_not_change_with_the_weights_are_not_to_be_believed(tmp_path):
    page = page_of(evaluation(learned=False, patients=150), "grad_cam", make, tmp_path)
    figures = json.loads((tmp_path / "results.json").read_text())["panels"]["grad_cam"]
    encoder = figures["check"]["encoder"]
    assert encoder["spearman"]["value"] == pytest.approx(1)
    assert encoder["ssim"]["value"] == pytest.approx(1, abs=1e-5)
    assert figures["check"]["verdict"] == "unchanged"
    assert "These maps must not be believed" in read(page)[1]


def test_a_random_head_that_gives_the_map_or_its_negative_does_not_pass(tmp_path):
    figures = make(evaluation(network=OneFeature(), patients=150), tmp_path).figures
    head = figures["check"]["head"]
    assert abs(head["spearman"]["value"]) < 0.5  # the signs cancel
    assert head["size"]["value"] == pytest.approx(1, abs=1e-3)  # but for ties that rounding breaks
    assert figures["check"]["verdict"] == "unchanged"
    # A sign for each draw: the interval is that of so many signs, not of so many radiographs.
    assert figures["check"]["draws"] == -(-figures["radiographs"] // 4) > 10
    share = (1 + head["spearman"]["value"]) / 2
    expected = 2 * 1.96 * 2 * np.sqrt(share * (1 - share) / figures["check"]["draws"])
    low, high = head["spearman"]["ci95"]
    assert high - low == pytest.approx(expected, rel=0.15)


def test_radiographs_that_share_random_weights_count_as_one():
    values = np.random.default_rng(0).normal(size=16)
    found = grad_cam._mean(np.repeat(values, 4), np.repeat(np.arange(16), 4), seed=0)
    assert found["n"] == 64
    assert found["ci95"] == pytest.approx(grad_cam._mean(values, np.arange(16), seed=0)["ci95"])
    assert grad_cam._mean(values, np.zeros(16, int), seed=0)["ci95"] is None


def test_a_report_to_be_sent_around_shows_no_radiograph(tmp_path):
    page = page_of(evaluation(show_radiographs=False), "grad_cam", make, tmp_path)
    assert not list(tmp_path.glob("grad_cam*"))
    assert "data:image/jpeg" not in page
    assert "Radiographs are not shown" in page
    assert "the brighter a place" not in page
    assert "Check with random weights" in page


def test_every_number_of_the_panel_stands_in_the_results(tmp_path):
    page = page_of(evaluation(), "grad_cam", make, tmp_path)
    assert numbers_without_a_source(page, json.loads((tmp_path / "results.json").read_text())) == set()
    assert len(re.findall("data:image/jpeg", page)) == 6


def test_an_encoder_of_tokens_leaves_its_reason_in_the_place_of_the_panel(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_cxrpair.evaluation.panels.PANELS", {"grad_cam": make})
    done = evaluation(network=Tokens())
    panel = make_panels(done, out_dir=tmp_path)["grad_cam"]
    assert "tokens" in panel.figures["not_made"]
    page = page_of(done, "grad_cam", lambda *_: panel, tmp_path)
    assert "Not made: the encoder is a transformer" in page


@pytest.mark.parametrize(
    ("encoder", "head", "n", "expected"),
    [
        ((0.1, 0.2), (0.0, 0.1), 40, "changed"),
        ((0.6, 0.7), (0.0, 0.1), 40, "unchanged"),
        ((0.1, 0.2), (0.5, 0.6), 40, "unchanged"),
        ((0.45, 0.55), (0.0, 0.1), 40, "unclear"),
        ((0.1, 0.2), (0.0, 0.1), 9, "too_few"),
    ],
)
def test_the_verdict_follows_the_more_alike_of_the_two(encoder, head, n, expected):
    found = [{"value": value, "ci95": [value - 0.1, high], "n": n} for value, high in (encoder, head)]
    assert grad_cam._verdict(*found) == expected


def test_the_sample_has_one_radiograph_a_patient_and_both_classes_as_far_as_they_go():
    rng = np.random.default_rng(1)
    for many, share in ((500, 0.5), (500, 0.02), (500, 0.99), (30, 0.5)):
        patients = rng.integers(0, many, 2 * many)
        present = rng.random(2 * many) < share
        chosen = grad_cam._sample(present, patients, seed=0)
        assert len(set(patients[chosen])) == len(chosen) == min(64, len(set(patients)))
        if many == 500 and share == 0.5:
            assert present[chosen].sum() == 32


def test_an_even_map_has_the_border_s_area_there_and_an_empty_one_no_share():
    maps = np.stack([np.ones((50, 50)), np.zeros((50, 50)), np.pad(np.ones((40, 40)), 5)]).astype(np.float32)
    np.testing.assert_allclose(grad_cam._border_shares(maps), [0.36, np.nan, 0])


def test_where_patients_are_not_known_the_panel_claims_nothing_about_them(tmp_path):
    done = evaluation()
    pages = [page_of(of, "grad_cam", make, tmp_path) for of in (done, without_patient_ids(done))]
    known, unknown = (read(page)[1] for page in pages)
    for claim in ("one a patient", "another patient"):
        assert claim in known, claim
        assert claim not in unknown, claim
