"""The encoders that an evaluation compares: trained ones with their cards, and baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from monai_cxrpair.cohort import Cohort, Split, split_patients
from monai_cxrpair.cohort.split.seen import seen_patients
from monai_cxrpair.contrast import load_weights
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.cards import HELD_OUT, SEEN, read_encoder_card
from monai_cxrpair.evaluation.networks import network_plan

RANDOM, IMAGENET = "random weights", "ImageNet weights"
# torchvision's constants, averaged over the three channels that a grey image repeats.
IMAGENET_STATISTICS = (0.449, 0.226)


@dataclass(frozen=True, kw_only=True)
class FrozenEncoder:
    """An encoder in eval mode, what its input is normalised with, and what its card says."""

    network: nn.Module
    mean: float
    std: float
    card: dict[str, Any]


def named_files(encoder_file: str | Mapping[str, str] | None) -> dict[str, str]:
    """`encoder_file` as name -> path; a single path is named after its folder.

    Raises:
        CxrPairError: nothing is named.
    """
    if not encoder_file:
        raise CxrPairError("encoder_file is not set: name the encoder.pt of a training run, or a name -> path table")
    if isinstance(encoder_file, Mapping):
        taken = [name for name in encoder_file if str(name).startswith((RANDOM, IMAGENET))]
        if taken:
            raise CxrPairError(f"encoder_file: {taken[0]!r} is the name of a baseline, choose another")
        return {str(name): str(path) for name, path in encoder_file.items()}
    return {Path(encoder_file).absolute().parent.name or "encoder": str(encoder_file)}


def common_image_size(encoder_file: str | Mapping[str, str] | None) -> int:
    """The image size all encoders were trained at.

    Raises:
        CxrPairError: they were trained at different sizes.
    """
    sizes = {
        name: read_encoder_card(path)["preprocessing"]["image_size"] for name, path in named_files(encoder_file).items()
    }
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise CxrPairError(f"encoder_file: trained at different image sizes ({listed}); evaluate them separately")
    return int(next(iter(sizes.values())))


def load_encoders(
    encoder_file: str | Mapping[str, str],
    *,
    imagenet_weights: str | None,
    seed: int,
    own_encoder: str | Mapping[str, Any] | None = None,
) -> tuple[dict[str, FrozenEncoder], dict[str, str]]:
    """The baselines first, then the trained encoders in the order given.

    Args:
        encoder_file: one path, or name -> path.
        imagenet_weights: a local torchvision state dict of the first encoder's network, or None.
        seed: of the random weights; each kind of network that is compared has a baseline of them.
        own_encoder: definition of the network, where a card names one of somebody's own.

    Returns:
        Name -> encoder; and name -> reason for each baseline that was not run.
    """
    files = named_files(encoder_file)
    cards = {name: read_encoder_card(path) for name, path in files.items()}
    plans = {name: network_plan(card, own_encoder, source=files[name]) for name, card in cards.items()}
    kinds: dict[str, str] = {}  # kind of network -> the first encoder that is one
    for name, plan in plans.items():
        kinds.setdefault(plan.kind, name)
    encoders, not_run = {}, {}
    for kind, name in kinds.items():
        card, plan = cards[name], plans[name]
        about = f" ({kind})" if len(kinds) > 1 else ""
        said = {"encoder": card["encoder"], "in_channels": plan.in_channels}
        with torch.random.fork_rng():  # the baseline leaves the run's own random numbers alone
            torch.manual_seed(seed)
            random = plan.build()
        encoders[RANDOM + about] = _frozen(random, card["preprocessing"], {**said, "seed": seed})
        if imagenet_weights and name == next(iter(files)):
            network = plan.build()
            load_weights(network, imagenet_weights)
            mean, std = IMAGENET_STATISTICS
            encoders[IMAGENET + about] = _frozen(network, {"mean": mean, "std": std}, said)
        else:
            other = f"the file is for {next(iter(kinds))}" if imagenet_weights else "no file was given"
            not_run[IMAGENET + about] = f"{other} (imagenet_weights)"
    for name, path in files.items():
        network = plans[name].build()
        load_weights(network, path)
        encoders[name] = _frozen(network, cards[name]["preprocessing"], cards[name])
    return encoders, not_run


def _frozen(network: nn.Module, pixels: Mapping[str, Any], card: dict[str, Any]) -> FrozenEncoder:
    return FrozenEncoder(network=network.eval(), mean=pixels["mean"], std=pixels["std"], card=card)


def check_no_leak(
    encoder_file: str | Mapping[str, str], *, cohort: Cohort, split: Split, allow_seen: bool = False
) -> dict[str, str]:
    """No test patient may have been seen in pre-training, nor anybody who shares a picture with one.

    Args:
        encoder_file: one path, or name -> path.
        cohort: the whole cohort.
        split: the split of the whole cohort that is evaluated.
        allow_seen: say it in the report rather than refuse.

    Returns:
        Encoder -> how that is known, or what is wrong.

    Raises:
        CxrPairError: the encoder was pre-trained on test patients, or it cannot be known on this very cohort.
    """
    said, fingerprint = {}, cohort.fingerprint()
    for name, path in named_files(encoder_file).items():
        trained = read_encoder_card(path)["cohort"]
        if trained["fingerprint"] == fingerprint:
            wrong = _wrong_split(trained, cohort, split)
            said[name] = HELD_OUT
        else:
            seen = seen_patients(trained.get("patients_seen"), split.test_patients)
            wrong = (
                f"on another cohort, with {len(seen)} of the {len(split.test_patients)} test patients" if seen else ""
            )
            # Even under the same rule: an index with another key has given the same patient another pseudonym.
            said[name] = "pre-trained on another cohort: shared patients cannot be ruled out"
        if wrong and not allow_seen:
            raise CxrPairError(
                f"{name} was pre-trained {wrong}; or set allow_seen_test_patients, and the report says so"
            )
        if wrong:
            said[name] = f"{SEEN}: pre-trained {wrong}"
    return said


def _wrong_split(trained: Mapping[str, Any], cohort: Cohort, split: Split) -> str:
    """Why test patients were seen, or may have been, on this very cohort; nothing: they were held out."""
    if trained.get("near_duplicates", "") != split.near_duplicates:
        return (
            "when other near-duplicates of this cohort were known, so pictures of test patients may have been seen; "
            "pre-train again, or evaluate with the cohort file of then"
        )
    if _held_out(trained, cohort, split):
        return ""
    asked = (
        f"split_file {trained['split_file'][:12]}"
        if trained.get("split_file")
        else f"split_seed {trained['split_seed']} and test_fraction {trained['test_fraction']}"
    )
    return f"with {asked}, so test patients were seen; evaluate with the same settings"


def _held_out(trained: Mapping[str, Any], cohort: Cohort, split: Split) -> bool:
    """Say whether it is certain that nobody of the test side was on the train side of pre-training."""
    if trained.get("split_file"):
        return bool(trained["split_file"] == split.file_hash)
    if split.file_hash is None:
        # The side of a patient is a hash of its id against the fraction: a smaller test side lies within a larger.
        fraction = split.test_fraction or 0.0
        return bool(trained["split_seed"] == split.seed and fraction <= trained["test_fraction"])
    before = split_patients(cohort, test_fraction=trained["test_fraction"], seed=trained["split_seed"])
    return not set(before.train_patients) & set(split.test_patients)
