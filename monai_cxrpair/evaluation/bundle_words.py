"""What the metadata and the model card of an exported bundle say, from the classifier's own card."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import monai_cxrpair


def bundle_metadata(original: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, Any]:
    """MONAI's metadata of a bundle with this classifier.

    Args:
        original: of the project's bundle.
        card: of the classifier.
    """
    metadata = copy.deepcopy(dict(original))
    finding, size = str(card["finding"]).replace("_", " "), int(card["preprocessing"]["image_size"])
    metadata["name"] = f"CXR-Pair {finding} classification"
    metadata["task"] = f"{finding.capitalize()} classification on chest radiographs"
    metadata["description"] = (
        f"Inference with a classifier of {finding} on chest radiographs, whose encoder was pre-trained by contrastive "
        "learning with positive pairs chosen by patient metadata."
    )
    metadata["label_classes"] = f"{finding} present (1) or absent (0)"
    metadata["pred_classes"] = f"probability of {finding}"
    metadata["eval_metrics"] = {} if card.get("test_auc") is None else {"test_auc": round(float(card["test_auc"]), 4)}
    shapes = metadata["network_data_format"]
    shapes["inputs"]["image"]["spatial_shape"] = [size, size]
    shapes["outputs"]["pred"]["channel_def"] = {"0": finding}
    return metadata


def bundle_readme(card: Mapping[str, Any], *, onnx: bool) -> str:
    """The model card `docs/README.md`."""
    pixels, point = card["preprocessing"], card.get("operating_point")
    trained = card.get("trained_on") or {}
    network, size = card["encoder_card"]["encoder"], pixels["image_size"]
    number, present = trained.get("radiographs", "?"), trained.get("present", "?")
    lines = [
        f"# {str(card['finding']).replace('_', ' ').capitalize()} on chest radiographs",
        "",
        "**Research use only. Not for clinical decisions.**",
        "",
        "| | |",
        "|---|---|",
        f"| encoder | {network if isinstance(network, str) else network.get('_target_')} |",
        f"| trained on | {number} radiographs, {present} with the finding |",
        f"| AUC on the test side | {_number(card.get('test_auc'))} |",
        f"| operating point | {_number(point and point['threshold'])} |",
        f"| calibrated probabilities | {'yes' if card.get('calibration') else 'no'} |",
        f"| input is compared with the training radiographs | {'yes' if card.get('input') else 'no'} |",
        "",
        "## Run",
        "",
        f"From inside this folder, with monai-cxrpair {monai_cxrpair.__version__} installed:",
        "",
        "    python -m monai.bundle run inference --config_file configs/inference.yaml \\",
        "        --dataset_dir RADIOGRAPHS --output_dir predictions",
        "",
        "## Without Python",
        "",
        f"`models/model.ts` (TorchScript){' and `models/model.onnx`' if onnx else ''}: float32 (batch, 1, "
        f"{size}, {size}) to one logit each; the probability is its sigmoid. A view is "
        f"a radiograph in [0, 1], bone bright, shorter side resized to {size} by area averaging, centre "
        f"square, less {pixels['mean']:.6g}, divided by {pixels['std']:.6g}. `models/model.json` holds the numbers.",
        "",
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"
