"""What the configs call before anything runs."""

import os

import pytest
import yaml

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.workflow import (
    check_version,
    find_radiographs,
    mended_tracking,
    open_cohort,
    refuse_unknown_keys,
    yaml_words,
)

CONFIG = {"learning_rate": 1, "optimizer": {"lr": "@learning_rate"}, "training": ["$@optimizer"], "train": {}}


def test_a_key_that_something_refers_to_is_known():
    refuse_unknown_keys(CONFIG)


def test_a_key_that_nothing_refers_to_is_an_error_with_the_nearest_name():
    with pytest.raises(CxrPairError, match=r"--learning_rat is not a setting .* did you mean learning_rate"):
        refuse_unknown_keys({**CONFIG, "learning_rat": 2})


def test_a_part_of_a_section_that_nothing_refers_to_is_an_error_too():
    config = {**CONFIG, "train": {"loader": {"x": "@learning_rate"}, "loder": {}}, "training": ["$@train#loader"]}
    config["optimizer"] = {}
    with pytest.raises(CxrPairError, match="--optimizer"):
        refuse_unknown_keys(config)
    del config["optimizer"]
    with pytest.raises(CxrPairError, match=r"--train#loder is not a setting .* did you mean train#loader"):
        refuse_unknown_keys(config)


def test_the_words_that_the_command_line_passes_as_text_get_their_meaning():
    config = {"resume": "false", "pairing": {"include_self": "True"}, "subset": "null", "name": "falsetto", "n": 1}
    assert yaml_words(config) == {"resume": False, "pairing#include_self": True, "subset": None}


@pytest.mark.parametrize("name", ["train", "evaluate", "inference"])
def test_the_bundles_own_configs_have_no_unknown_key(name, bundle):
    refuse_unknown_keys(yaml.safe_load((bundle / "configs" / f"{name}.yaml").read_text()))


def test_every_overlay_changes_only_keys_that_the_training_config_has(bundle):
    known = yaml.safe_load((bundle / "configs" / "train.yaml").read_text())
    overlays = [p for p in (bundle.parent / "configs").rglob("*.yaml") if p.parent.name != "experiments"]
    assert overlays
    for overlay in overlays:
        for key in yaml.safe_load(overlay.read_text()):
            assert key.split("#")[0].lstrip("+") in known, f"{overlay.name}: {key}"


def test_a_bundle_of_another_version_is_an_error():
    with pytest.raises(CxrPairError, match=r"needs monai-cxrpair 9\.9"):
        check_version("9.9")


def test_a_cohort_that_is_not_named_or_not_there_is_an_error():
    with pytest.raises(CxrPairError, match="cohort_file is not set"):
        open_cohort(None, root=None)
    with pytest.raises(CxrPairError, match=r"nowhere\.parquet"):
        open_cohort("nowhere.parquet", root=None)


def test_inference_reads_a_folder_or_a_cohort(tmp_path):
    import pandas as pd

    (tmp_path / "b.png").write_bytes(b"x")
    (tmp_path / "a.png").write_bytes(b"x")
    found = find_radiographs(cohort_file=None, dataset_dir=str(tmp_path), subset=None)
    assert [item["image_id"] for item in found] == ["a.png", "b.png"]
    table = pd.DataFrame({"image_id": ["one"], "patient_id": ["p"], "study_id": ["s"], "path": ["b.png"]})
    Cohort(table, root=tmp_path, findings=[], source="test").write(tmp_path / "c.parquet")
    found = find_radiographs(cohort_file=str(tmp_path / "c.parquet"), dataset_dir=None, subset=None)
    assert found == [{"image": str(tmp_path / "b.png"), "image_id": "one"}]
    with pytest.raises(CxrPairError, match="set cohort_file"):
        find_radiographs(cohort_file=None, dataset_dir=None, subset=None)


def test_only_mlflows_own_default_is_mended_and_its_reports_to_its_makers_are_off(monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY")
    other = {"_target_": "StatsHandler", "output_transform": "$monai.handlers.from_engine(['loss'])"}
    default = {"_target_": "MLFlowHandler", "output_transform": "$monai.handlers.from_engine(['loss'], first=True)"}
    own = {"_target_": "MLFlowHandler", "output_transform": "$lambda output: 1"}
    assert mended_tracking({"train": {"handlers": [other]}}) == {}
    assert mended_tracking({}) == {}
    assert "MLFLOW_DISABLE_TELEMETRY" not in os.environ
    changes = mended_tracking({"train": {"handlers": [other, default, own]}})
    assert changes == {"train#handlers#1#output_transform": "$lambda output: output['loss']"}
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_wrong_argument_of_the_optimiser_is_one_line(capsys):
    from monai.bundle import ConfigParser

    from monai_cxrpair.workflow import _one_line

    section = {"_target_": "torch.optim.SGD", "params": "$[torch.nn.Parameter(torch.zeros(1))]", "momentm": 0.9}
    with pytest.raises(RuntimeError) as caught:
        ConfigParser({"optimizer": section}).get_parsed_content("optimizer")
    _one_line(RuntimeError, caught.value, None)
    shown = capsys.readouterr().err
    assert shown.startswith("error: torch.optim.SGD: ")
    assert "momentm" in shown
    assert shown.count("\n") == 1


def test_of_several_processes_the_others_let_the_first_one_say_the_error(monkeypatch, capsys):
    from monai_cxrpair import workflow

    waited = []
    monkeypatch.setattr(workflow.time, "sleep", waited.append)
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        monkeypatch.setenv("RANK", rank)
        workflow._one_line(CxrPairError, CxrPairError("batch_size is 15"), None)
    assert waited == [workflow.SAME_ERROR_SECONDS]
    assert capsys.readouterr().err == "error: batch_size is 15\nerror: process 1: batch_size is 15\n"
