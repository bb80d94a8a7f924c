"""An experiment file is checked before hours of work, and says in one line what is wrong with it."""

from pathlib import Path

import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.experiments.experiment import Size, read_experiment, slug

MOCO = {"name": "MoCo v2", "overlays": ["pairing/none.yaml"]}


def test_a_file_becomes_rows_with_overlays_and_the_papers_figures(experiment, place):
    assert [row.name for row in experiment.rows] == ["random", "MoCo v2", "same study"]
    assert [row.slug for row in experiment.rows] == ["random", "moco_v2", "same_study"]
    assert [row.baseline for row in experiment.rows] == ["random weights", None, None]
    assert experiment.rows[2].overlays == (place / "configs" / "pairing" / "same.yaml",)
    assert experiment.rows[2].paper == {"linear": [0.85, 0.02]}
    assert experiment.compare_with == ("MoCo v2",)  # the first that is trained
    assert experiment.bundle == place / "bundle"
    assert experiment.sizes == (Size("label_fraction", 0.1),)


def test_findings_and_sizes_may_be_several(change):
    evaluate = {"finding": ["edema", "atelectasis"], "label_fraction": [0.01, 0.1], "label_studies": 100}
    found = read_experiment(change(evaluate=evaluate))
    assert found.findings == ("edema", "atelectasis")
    assert [str(size) for size in found.sizes] == [
        "1 % of the labels",
        "10 % of the labels",
        "100 labelled studies",
    ]
    assert not {"finding", "label_fraction", "label_studies"} & found.evaluate.keys()


def test_settings_that_both_steps_must_share_reach_evaluating_too(file, place):
    found = read_experiment(file, asked={"split_seed": 3, "imagenet_weights": "r.pth", "max_epochs": 7})
    assert found.evaluate["split_seed"] == 3
    assert found.evaluate["imagenet_weights"] == str(place / "r.pth")  # runs start in another folder
    assert found.asked["max_epochs"] == 7
    assert "max_epochs" not in found.evaluate


def test_evaluating_has_settings_of_its_own(file):
    found = read_experiment(file, asked={"evaluate#draws": 2, "evaluate#split_seed": 4, "split_seed": 3})
    assert (found.evaluate["draws"], found.evaluate["split_seed"]) == (2, 4)
    assert found.asked == {"split_seed": 3}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"rows": [{**MOCO, "overlays": ["pairing/som.yaml"]}]}, "row 'MoCo v2': there is no overlay pairing/som.yaml"),
        ({"rows": [{**MOCO, "overlays": ["pairing/samee.yaml"]}]}, "did you mean pairing/same.yaml"),
        ({"base": ["papr.yaml"]}, "base: there is no overlay papr.yaml"),
        ({"rows": [MOCO, MOCO]}, "row 'MoCo v2': another row has this name"),
        (
            {"rows": [MOCO, {**MOCO, "name": "MoCo, v2"}]},
            "row 'MoCo, v2': another row has this name, or one that makes",
        ),
        ({"rows": []}, "`rows` must list"),
        ({"rows": [{"overlays": []}]}, "row 1 has no `name`"),
        ({"rows": [{**MOCO, "baseline": "random"}]}, "either `overlays`, or `baseline`"),
        ({"rows": [{"name": "x", "baseline": "resnet"}]}, "use one of imagenet, random"),
        ({"rows": [{"name": "x", "baseline": "random"}]}, "every row is a baseline"),
        ({"rows": [{**MOCO, "name": "Random weights 2"}]}, "the name of a baseline"),
        ({"rows": [{**MOCO, "overide": {}}]}, "unknown key 'overide'; did you mean overrides"),
        ({"rows": [{**MOCO, "overrides": {"paring#study": "any"}}]}, "did you mean pairing"),
        ({"rows": [{**MOCO, "overrides": {"seed": 1}}]}, "seed is set by the sweep (use --seeds)"),
        ({"settings": {"max_epoch": 3}}, "max_epoch is not a setting of train.yaml; did you mean max_epochs"),
        ({"evaluate": {"drawss": 3}}, "drawss is not a setting of evaluate.yaml; did you mean draws"),
        ({"evaluate": {"label_fraction": [0.1, 0]}}, "numbers above 0"),
        ({"evaluate": [1]}, "`evaluate` must be `setting: value` pairs"),
        ({"compare_with": "MoCo"}, "compare_with 'MoCo' is none of the rows"),
        ({"arms": []}, "unknown key 'arms'"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_place(change, content, said):
    with pytest.raises(CxrPairError) as caught:
        read_experiment(change(**content))
    assert said in str(caught.value)
    assert "table1.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"draws": 3}, "write --set evaluate#draws=..."),
        ({"output_dir": "x"}, "use --out"),
        ({"evaluate#seedd": 1}, "seedd is not a setting"),
        ({"image_siz": 1}, "did you mean image_size"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_too(file, asked, said):
    with pytest.raises(CxrPairError, match=said.replace("#", "#").replace(".", r"\.")):
        read_experiment(file, asked=asked)


def test_what_is_no_experiment_file_is_an_error(tmp_path, file):
    with pytest.raises(CxrPairError, match="cannot read"):
        read_experiment(tmp_path / "no.yaml")
    file.write_text("rows: [")
    with pytest.raises(CxrPairError, match="is not YAML"):
        read_experiment(file)
    file.write_text("- rows")
    with pytest.raises(CxrPairError, match="expected `key: value` lines, found list"):
        read_experiment(file)
    (tmp_path / "alone").mkdir()
    away = Path("/") / "nowhere.yaml"
    with pytest.raises(CxrPairError):
        read_experiment(away)


def test_a_slug_is_a_name_for_a_folder():
    assert slug("Same study, Random crop (2)") == "same_study_random_crop_2"
