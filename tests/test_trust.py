"""A config from elsewhere runs nothing, unless the user says that it may."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from monai_cxrpair import cli
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.trust import TRUSTED_FILE, check_command, check_config, is_trusted, runnable, trusted, written

REPOSITORY = Path(__file__).resolve().parents[1]


def shipped():
    """All that the project's own configs run, and what MONAI adds for `--tracking mlflow`.

    Its settings are one object of the whole process, which `mended_tracking` changes: both readings are named here.
    """
    from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

    files = [*(REPOSITORY / "bundle" / "configs").glob("*.[yj]*"), *(REPOSITORY / "configs").rglob("*.yaml")]
    configs = [DEFAULT_MLFLOW_SETTINGS, *(yaml.safe_load(file.read_text()) for file in files)]
    tracked = {"$lambda output: output['loss']", "$monai.handlers.from_engine(['loss'], first=True)"}
    return sorted({written(text) for config in configs for _, text in runnable(config)} | tracked)


def test_what_is_trusted_is_what_the_projects_own_configs_hold():
    assert sorted(trusted()) == shipped(), f"after a look at the difference: python {Path(__file__).name} in tests/"


@pytest.mark.parametrize(
    "overlay",
    [
        "imports: [$import os]",
        "initialize: $__import__('os').system('touch FILE')",
        "seed: $__import__('os').system('touch FILE')",
        'seed: \' $open("FILE", "w")\'',
        "optimizer: {_target_: os.system, command: touch FILE}",
        "optimizer: {_target_: torch.nn.os.system, command: touch FILE}",
        "optimizer: {_target_: torch.hub.load, repo_or_dir: x, model: y}",
        "encoder: {_target_: monai.networks.nets.TorchVisionFCModel, pretrained: true}",
        "optimizer: {_target_: torch.optim.SGD, _mode_: debug}",
        "augmentation: {_target_: Lambdad, keys: query}",
        "augmentation: {_target_: monai.transforms.SaveImage}",
        "augmentation: {_target_: DecathlonDataset}",
        "augmentation: {_target_: LoadImaged, keys: query, reader: subprocess.getoutput, cmd: touch FILE}",
        "encoder#_target_: os.system",
        "'+encoder::_target_': os.system",
        "'+train#handlers#0#_target_': subprocess.run",
        "train: {handlers: [{_target_: subprocess.run, args: [touch, FILE]}]}",
        "seed: '%/etc/other.yaml::seed'",
    ],
)
def test_an_overlay_that_would_run_something_does_nothing(tmp_path, overlay, monkeypatch):
    (tmp_path / "evil.yaml").write_text(overlay.replace("FILE", str(tmp_path / "ran")))
    files = f"['{REPOSITORY}/bundle/configs/train.yaml','{tmp_path}/evil.yaml']"
    done = CliRunner().invoke(cli.app, ["run", "training", "--config_file", files])
    assert isinstance(done.exception, CxrPairError)
    assert str(done.exception).startswith(f"{tmp_path}/evil.yaml: ")
    assert "--trust_config true" in str(done.exception)
    assert not (tmp_path / "ran").exists()


def test_the_stock_command_refuses_what_stands_anywhere_but_in_its_first_steps(tmp_path):
    (tmp_path / "evil.yaml").write_text(f"device: $open('{tmp_path}/ran', 'w')")
    files = f"['{REPOSITORY}/bundle/configs/train.yaml','{tmp_path}/evil.yaml']"
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", files]
    command += ["--cohort_file", "nowhere.parquet", "--output_dir", str(tmp_path / "out")]
    for more, said in (([], "device would run"), (["--trust_config", "true"], "nowhere.parquet")):
        done = subprocess.run(
            [*command, *more], cwd=REPOSITORY / "bundle", capture_output=True, text=True, env=dict(os.environ)
        )
        assert done.returncode == 1
        assert said in done.stderr.splitlines()[-1]
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["train", "evaluate", "inference"])
def test_our_own_configs_and_overlays_of_settings_are_taken(tmp_path, name):
    (tmp_path / "mine.yaml").write_text(
        "seed: 3\nencoder: {_target_: monai.networks.nets.DenseNet121, spatial_dims: 2}\nqueue_size: '%batch_size'\n"
        "optimizer: {_target_: torch.optim.AdamW, lr: '@learning_rate'}\n"
        "augmentation: {_target_: Resized, keys: query, spatial_size: [48, 48]}"
    )
    base = f"{REPOSITORY}/bundle/configs/{name}.yaml"
    for files in (base, f"{base},{tmp_path}/mine.yaml", f"['{base}', '{tmp_path}/mine.yaml']"):
        check_command(["--config_file", files])
        check_command([f"--config-file={files}"])


def test_what_the_user_types_and_what_the_user_trusts_runs(tmp_path):
    config = {"encoder": {"_target_": "mine.Encoder"}, "seed": "$1 + 1"}
    with pytest.raises(CxrPairError, match=r"mine\.yaml: encoder#_target_ would run 'mine.Encoder'"):
        check_config(config, source="mine.yaml")
    check_config(config, source="mine.yaml", typed=["--encoder", "{'_target_': 'mine.Encoder'}", "--seed", "$1 + 1"])
    check_config(config, source="mine.yaml", typed=["--encoder#_target_", "mine.Encoder", "--seed=$1 + 1"])
    with pytest.raises(CxrPairError, match="would run 'eval'"):  # a part of a word is not typed
        check_config(
            {"seed": {"_target_": "eval"}}, source="x", typed=["run", "evaluating", "--config_file", "eval.yaml"]
        )
    assert is_trusted(["--trust_config", "true"])
    assert is_trusted(["--trust_config=True"])
    assert not is_trusted(["--trust_config", "false"])
    assert not is_trusted(["--x", "--trust_config true"])


def test_a_file_of_arguments_names_no_config_that_is_not_looked_at(tmp_path):
    (tmp_path / "evil.yaml").write_text("seed: $open('x', 'w')")
    (tmp_path / "args.yaml").write_text(f"config_file: [{tmp_path}/evil.yaml]\ntrust_config: true")
    with pytest.raises(CxrPairError, match=r"evil\.yaml: seed would run"):
        check_command(["--args_file", str(tmp_path / "args.yaml")])
    (tmp_path / "args.yaml").write_text("logging_file: mine.conf")
    with pytest.raises(CxrPairError, match="Python evaluates"):
        check_command(["--args_file", str(tmp_path / "args.yaml")])


@pytest.mark.parametrize(
    "words", [["None", "None", "None", "evil.yaml"], ["-config_file", "evil.yaml"], ["--seed", "-config_file", "x"]]
)
def test_a_config_without_its_option_is_refused(words):
    with pytest.raises(CxrPairError, match="belongs to no option"):
        check_command(words)
    check_command(["--seed", "-1", "--resume", "--lr=-0.5"])


def test_a_logging_file_and_a_file_that_cannot_be_read_are_one_line(tmp_path):
    with pytest.raises(CxrPairError, match="Python evaluates"):
        check_command(["--logging_file", "mine.conf"])
    with pytest.raises(CxrPairError, match=r"nowhere\.yaml: cannot be read"):
        check_command(["--config_file", "nowhere.yaml"])
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(CxrPairError, match=r"x\.yaml: is neither YAML nor JSON"):
        check_command(["--meta_file", str(tmp_path / "x.yaml")])


if __name__ == "__main__":
    TRUSTED_FILE.write_text("\n".join(shipped()) + "\n")
