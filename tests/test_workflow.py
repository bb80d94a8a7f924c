"""What the configs call before anything runs."""

import copy
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from monai.bundle import ConfigParser

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.settings_check import SETTINGS, check_settings, meant
from monai_cxrpair.workflow import (
    check_version,
    find_radiographs,
    mended_tracking,
    open_cohort,
    refuse_unknown_keys,
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
    assert meant(config) == {"resume": False, "pairing#include_self": True, "subset": None}


def test_numbers_that_yaml_reads_as_text_become_numbers_where_a_number_is_wanted():
    config = yaml.safe_load("{learning_rate: 1e-4, optimizer: {betas: [0.9, 9E-1], eps: -.5e-3}, output_dir: 1e-4}")
    assert config["learning_rate"] == "1e-4"
    changed = {"learning_rate": 1e-4, "optimizer#betas#1": 0.9, "optimizer#eps": -0.5e-3}
    assert meant({**config, "subset": "1e-4 < age", "name": "e5"}) == changed


NO = {  # of each setting, values that it cannot have
    "cohort_file": [3, ["a"], True], "dataset_dir": [3], "subset": [3, True], "output_dir": [3, None, "", False],
    "batch_size": [0, -1, "foo", 1.5, True, None, [2]], "max_epochs": [0, "foo", None, [2], 1.5, True],
    "learning_rate": [0, -1, True, "foo", None, math.inf], "encoder": [["resnet18"], 18], "in_channels": [1.0, True, 2],
    "imagenet_weights": [3, True], "augmentation": [None, "foo"], "bn_groups": ["foo", None, 1.5, True, 0],
    "queue_size": ["foo", None, 0, 1.5], "precision": ["fp8", True, 16], "test_fraction": ["foo", None, 1, -0.1, True],
    "split_file": [3, True], "seed": [99999999999999999999, -1, True, "foo", None, 1.5],
    "split_seed": [-1, 1.5, "foo", None, True], "max_unreadable": [2, None, True, math.nan],
    "checkpoint_minutes": ["foo", None, "nan", "inf", math.nan, math.inf, -1, True], "compile": ["foo", 3, None],
    "deterministic": ["foo", 3], "device": ["foo", 3, None], "clip_grad_norm": [[1], 0, True, "foo"],
    "resume": ["foo", 1, None], "normalisation": ["foo", [0.5], [0.5, 0], [0.5, True], None], "views_on": ["gpu", 1],
    "network_def#temperature": ["foo", 0, None], "network_def#symmetric": ["foo", 1], "network_def#momentum": [1, "a"],
    "finding": [None, ["a"]], "label_fraction": [0, 1.1, "foo"], "draws": [0, 1.5], "num_workers": [-1, None, 0.5],
}  # fmt: skip


@pytest.fixture(scope="module")
def configs():
    folder = Path(__file__).parents[1] / "bundle" / "configs"
    return {name: yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in ("train", "evaluate", "inference")}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in NO.items() for value in values])
def test_a_value_that_a_setting_cannot_have_is_one_line_that_names_it(configs, key, value):
    config = copy.deepcopy(next(c for c in configs.values() if key.split("#")[0] in c))
    part, _, name = key.rpartition("#")
    (config[part] if part else config)[name] = value
    with pytest.raises(CxrPairError) as caught:
        check_settings(config)
    assert str(caught.value).startswith(f"{key} is {value!r}: use ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["train", "evaluate", "inference"])
def test_the_settings_of_the_bundle_itself_are_allowed_with_every_overlay(configs, name, bundle):
    check_settings(configs[name])
    overlays = [p for p in (bundle.parent / "configs").rglob("*.yaml") if p.parent.name != "experiments"]
    for overlay in overlays if name == "train" else []:
        parser = ConfigParser(copy.deepcopy(configs[name]))
        parser.update(yaml.safe_load(overlay.read_text()))
        check_settings(parser.get())


def test_every_checked_setting_is_one_of_a_config(configs):
    there = {key for config in configs.values() for key in config}
    there |= {f"network_def#{key}" for key in configs["train"]["network_def"]}
    assert set(SETTINGS) <= there


@pytest.mark.parametrize(
    ("key", "value"),
    [("resume", True), ("resume", "auto"), ("device", "cpu"), ("normalisation", [0.5, 0.2]), ("image_size", "$2 * 16"),
     ("normalisation", ["@mean", 0.2]), ("clip_grad_norm", None), ("queue_size", 1), ("checkpoint_minutes", 0.5)],
)  # fmt: skip
def test_what_a_setting_may_be_is_let_through(configs, key, value):
    check_settings({**configs["train"], key: value})


def test_a_method_without_a_queue_takes_null_and_a_method_of_ones_own_is_not_judged(configs):
    moco = configs["train"]["network_def"]
    for target in ("monai_cxrpair.contrast.InBatch", "package.Own"):
        network = {**moco, "_target_": target}
        check_settings({**configs["train"], "network_def": network, "queue_size": None, "bn_groups": None})
    check_settings({**configs["train"], "network_def": {**network, "temperature": "warm"}})


def test_a_section_set_to_nothing_and_a_file_of_experiments_are_said_as_such(configs):
    with pytest.raises(CxrPairError, match="train is None: this section cannot be replaced by a value"):
        check_settings({**configs["train"], "train": None})
    with pytest.raises(CxrPairError, match="configs/experiments lists runs"):
        check_settings({**configs["train"], "base": [], "rows": []})


@pytest.mark.parametrize("name", ["train", "evaluate", "inference"])
def test_the_bundles_own_configs_have_no_unknown_key(name, bundle):
    refuse_unknown_keys(yaml.safe_load((bundle / "configs" / f"{name}.yaml").read_text()))


def test_every_overlay_changes_only_keys_that_its_config_has(bundle):
    overlays = [p for p in (bundle.parent / "configs").rglob("*.yaml") if p.parent.name != "experiments"]
    assert overlays
    for overlay in overlays:
        name = "evaluate" if overlay.parent.name == "evaluation" else "train"
        known = yaml.safe_load((bundle / "configs" / f"{name}.yaml").read_text())
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
    image = str(tmp_path / "b.png")
    assert found == [{"image": image, "image_id": "one", "patient_id": "p", "study_id": "s", "laterality": "unknown"}]
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


OPTIMIZER = {"_target_": "torch.optim.SGD", "params": "$[torch.nn.Parameter(torch.zeros(1))]"}
MOCO = {"_target_": "monai_cxrpair.contrast.MoCo", "encoder": "$torch.nn.Flatten()", "queue_size": 4}


@pytest.mark.parametrize(
    ("section", "starts", "names"),
    [({**OPTIMIZER, "momentm": 0.9}, "torch.optim.SGD: ", "momentm"),
     ({**OPTIMIZER, "lr": -1}, "torch.optim.SGD: ", "Invalid learning rate"),
     ({**OPTIMIZER, "_target_": "torch.optim.Nope"}, "_target_ is torch.optim.Nope: ", "no such class"),
     ({"_target_": "Nope"}, "_target_ is Nope: ", "no such class"),
     ({**MOCO, "temprature": 0.1}, "monai_cxrpair.contrast.MoCo: ", "temprature"),
     ({**MOCO, "temperature": "warm"}, "monai_cxrpair.contrast.MoCo: ", "'str'")],
)  # fmt: skip
def test_a_wrong_argument_of_any_component_and_a_class_that_is_not_there_are_one_line(section, starts, names, capsys):
    from monai_cxrpair.workflow import _one_line

    with pytest.raises((RuntimeError, ImportError)) as caught:
        ConfigParser({"part": section}).get_parsed_content("part")
    _one_line(RuntimeError, caught.value, None)
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {starts}")
    assert names in shown
    assert shown.count("\n") == 1


def test_a_fault_of_the_code_keeps_its_traceback(capsys):
    from monai_cxrpair.workflow import _one_line

    with pytest.raises(RuntimeError) as caught:
        ConfigParser({"part": "$[][0]"}).get_parsed_content("part")
    _one_line(RuntimeError, caught.value, caught.value.__traceback__)
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_before_the_training_is_one_word_and_leaves_as_an_interrupt_does():
    code = "import sys, monai_cxrpair.workflow as w; sys.excepthook = w._one_line; raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "stopped\n"
    assert done.returncode in (130, -2)  # a shell shows both as 130


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
