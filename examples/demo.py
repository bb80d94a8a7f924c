"""The main job on synthetic radiographs, from DICOM files to a report: what `make demo` runs.

Every step is a command you can type yourself; it is printed before it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
ARMS = {"MoCo without metadata": "no_metadata", "same-patient same-study pairs": "same_study"}


def main() -> None:
    """Make the phantom, index it, train both arms, evaluate them against random weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for everything; made anew")
    parser.add_argument("--patients", type=int, default=250)
    parser.add_argument("--image-size", type=int, default=64, help="pixels")
    parser.add_argument("--epochs", type=int, default=8, help="of each pre-training")
    parser.add_argument("--label-fraction", type=float, default=0.1, help="labels in each draw of the probe")
    args = parser.parse_args()
    out = args.out.resolve()
    if out.exists():
        if not (out / ".cxrpair-demo").exists():
            sys.exit(f"error: {out} exists and is not an earlier demo; name another folder with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / ".cxrpair-demo").touch()
    started = time.monotonic()

    cohort = out / "cohort.parquet"
    step("Synthetic radiographs, written as DICOM files",
         "cxrpair", "phantom", out / "pacs", "--patients", args.patients, "--format", "dicom", "--seed", 0)  # fmt: skip
    # Real identifiers become keyed hashes; those of synthetic patients stay, so that the split is the same each time.
    step("Index them: headers only, labels joined",
         "cxrpair", "index", out / "pacs", "--out", cohort, "--keep-identifiers",
         "--labels", out / "pacs" / "truth.csv", "--finding", "pleural_effusion=pleural_effusion")  # fmt: skip
    for name, overlay in ARMS.items():
        step(f"Pre-train: {name}",
             "python", "-m", "monai.bundle", "run", "training",
             "--config_file", f"['configs/train.yaml','../configs/pairing/{overlay}.yaml']",
             "--cohort_file", cohort, "--output_dir", out / overlay,
             "--image_size", args.image_size, "--max_epochs", args.epochs)  # fmt: skip
    encoders = {name: str(out / overlay / "encoder.pt") for name, overlay in ARMS.items()}
    step(f"Evaluate: linear probe on {args.label_fraction:.0%} of the labelled studies",
         "python", "-m", "monai.bundle", "run", "evaluating", "--config_file", "configs/evaluate.yaml",
         "--cohort_file", cohort, "--encoder_file", json.dumps(encoders), "--output_dir", out / "report",
         "--label_fraction", args.label_fraction)  # fmt: skip

    from monai_cxrpair.evaluation.report.results import text_table

    results = json.loads((out / "report" / "results.json").read_text(encoding="utf-8"))
    say(f"\nDone in {time.monotonic() - started:.0f} s. Pleural effusion, AUC on patients never seen in training:\n")
    say(text_table(results, report=out / "report" / "report.html"))


def step(title: str, program: str, *arguments: object) -> None:
    """Print a command and run it inside bundle/; stop the demo where it fails."""
    words = [program, *(str(a) for a in arguments)]
    say(f"\n== {title}\n$ {shlex.join(words)}")
    path = Path(sys.executable).parent / program
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
    code = subprocess.run([str(path), *words[1:]], cwd=PROJECT / "bundle", env=quiet, check=False).returncode
    if code:
        sys.exit(f"error: this step failed (exit {code})")


def say(text: str) -> None:
    """Print at once, so that our lines and those of the commands come in order."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
