"""End-to-end fine-tuning: a copy of the encoder with a new last layer learns from the pixels of each draw."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import log_loss
from torch import Tensor, nn

from monai_cxrpair.contrast import cosine, feature_dim
from monai_cxrpair.contrast.encoders import channels_last
from monai_cxrpair.evaluation.classifier import Classifier
from monai_cxrpair.evaluation.encoders import FrozenEncoder
from monai_cxrpair.evaluation.probe import MIN_PER_CLASS
from monai_cxrpair.evaluation.protocols.folds import folds_by_patient
from monai_cxrpair.evaluation.protocols.learned import Learned
from monai_cxrpair.evaluation.protocols.paper_probe import first_layer, sigmoid
from monai_cxrpair.evaluation.protocols.tune_settings import TuneSettings
from monai_cxrpair.imaging.cache import RadiographCacheDataset

logger = logging.getLogger(__name__)

_PREDICT_BATCH = 64


class FineTuneLearner:
    """Trains a network for each draw and predicts with it.

    Also the linear protocol as the paper's code runs it, with `train: head` and live batch normalisation: then the
    encoder's weights stay, but its embeddings change with every batch, so they cannot be cached.

    Args:
        encoders: name -> encoder; they are copied, never changed.
        dataset: the radiographs, row for row those of `labels`.
        labels: (N,).
        patients: (N,).
        seed: of the last layer, the order, the augmentation and the held-out part.
        settings: of the training.
        name: of the settings, for the report.
        device: to train on.
    """

    def __init__(
        self,
        encoders: Mapping[str, FrozenEncoder],
        dataset: RadiographCacheDataset,
        labels: NDArray[np.float64],
        patients: NDArray[np.int64],
        *,
        seed: int,
        settings: TuneSettings,
        name: str = "paper",
        device: torch.device | str = "cpu",
    ) -> None:
        self._encoders, self._dataset, self._labels, self._patients = encoders, dataset, labels, patients
        self._seed, self._settings, self._name, self._device = seed, settings, name, device

    def learn(self, encoder: str, draws: Sequence[NDArray[np.int64]], rows: NDArray[np.int64]) -> Learned:
        """See `Learner`; held out is the part of the draw that the best epoch was chosen on."""
        scores, held_out, epochs = [], [], []
        for number, own in enumerate(draws):
            network, held, epoch = self.train(self._encoders[encoder], own, seed=[self._seed, number])
            scores.append(self.predict(network, self._encoders[encoder], rows))
            held_out.append(held)
            epochs.append(epoch)
            logger.info("%s, draw %d of %d: trained, epoch %d kept", encoder, number + 1, len(draws), epoch)
        return Learned(scores=np.stack(scores), held_out=held_out, details={"epochs_kept": epochs})

    def describe(self) -> dict[str, Any]:
        """See `Learner`."""
        return {"settings": self._name, **self._settings.as_dict()}

    def train(
        self,
        encoder: FrozenEncoder,
        own: NDArray[np.int64],
        *,
        seed: Sequence[int],
        after_epoch: Callable[[], None] = lambda: None,
    ) -> tuple[nn.Module, tuple[NDArray[np.int64], NDArray[np.float64]] | None, int]:
        """Train one network.

        Args:
            encoder: it begins with.
            own: rows to learn from.
            seed: of the last layer, the order and the augmentation.
            after_epoch: called after each; what it raises ends the training.

        Returns:
            The network of the best epoch, the held-out rows with its probabilities, and the number of that epoch.
        """
        settings = self._settings
        learn, hold = self._hold_out(own)
        with torch.random.fork_rng():  # an encoder of somebody's own may have dropout
            torch.manual_seed(int(np.random.default_rng([*seed, 0x74756E65]).integers(2**62)))
            network = self._network(encoder, seed=seed)
            optimiser = make_optimiser(network, settings)
            factor = cosine(settings.epochs, warmup_epochs=settings.warmup_epochs) if settings.cosine else _constant
            schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
            best: tuple[float, int, Any, Any] = (np.inf, settings.epochs, None, None)
            for epoch in range(settings.epochs):
                self._mode(network)
                for pixels, truth in self._batches(encoder, learn, seed=[*seed, epoch]):
                    optimiser.zero_grad(set_to_none=True)
                    loss = F.binary_cross_entropy_with_logits(network(pixels)[:, 0], truth)
                    loss.backward()
                    optimiser.step()
                schedule.step()
                after_epoch()
                if hold is not None:
                    found = self.predict(network, encoder, hold)
                    value = float(log_loss(self._labels[hold] == 1, found))
                    if value < best[0]:
                        best = (value, epoch + 1, copy.deepcopy(network.state_dict()), found)
        if hold is None or best[2] is None:
            return network, None, settings.epochs
        network.load_state_dict(best[2])
        return network, (hold, best[3]), best[1]

    def _hold_out(self, own: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Rows to learn from and to choose the epoch on: whole patients of the draw; None where it is too small."""
        if self._settings.holdout == 0:
            return own, None
        y, who = self._labels[own], self._patients[own]
        parts = folds_by_patient(
            y, who, seed=self._seed, least=MIN_PER_CLASS, folds=max(2, round(1 / self._settings.holdout))
        )
        # A fold of one class could not say which epoch is better.
        both = [(learn, hold) for learn, hold in parts or () if 0 < (y[hold] == 1).sum() < len(hold)]
        return (own[both[0][0]], own[both[0][1]]) if both else (own, None)

    def _network(self, encoder: FrozenEncoder, *, seed: Sequence[int]) -> nn.Module:
        backbone = copy.deepcopy(encoder.network)
        network = Classifier(backbone, features=feature_dim(backbone, image_size=self._dataset.image_size))
        layer = torch.as_tensor(first_layer(network.fc.in_features, seed), dtype=torch.float32)
        network.fc.load_state_dict({"weight": layer[None, :-1], "bias": layer[-1:]})
        network.requires_grad_(True)
        if self._settings.train == "head":
            network.encoder.requires_grad_(False)
        return channels_last(network.to(self._device))

    def _mode(self, network: nn.Module) -> None:
        network.train()
        if self._settings.batch_norm == "frozen":
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def _batches(
        self, encoder: FrozenEncoder, rows: NDArray[np.int64], *, seed: Sequence[int]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The radiographs in a new order, augmented; (B, 1, S, S) and (B,)."""
        rng, size = np.random.default_rng([*seed, 0x76696577]), self._settings.batch_size
        order = rows[np.random.default_rng(list(seed)).permutation(len(rows))]
        augmentation = self._settings.augmentation()
        for begin in range(0, len(order), size):
            part = order[begin : begin + size]
            if len(part) == 1 and begin:
                return  # one radiograph has no batch statistics; another order leaves out another one
            views = augmentation.views(self._dataset.radiographs(part), rng, size=self._dataset.image_size)
            yield (
                self._pixels(encoder, views),
                torch.as_tensor(self._labels[part], dtype=torch.float32, device=self._device),
            )

    @torch.no_grad()
    def predict(self, network: nn.Module, encoder: FrozenEncoder, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probabilities (n,) of the centred squares, in eval mode."""
        network.eval()
        parts = [rows[begin : begin + _PREDICT_BATCH] for begin in range(0, len(rows), _PREDICT_BATCH)]
        logits = [
            network(self._pixels(encoder, self._dataset.__getitems__(part.tolist())["image"]))[:, 0].cpu().numpy()
            for part in parts
        ]
        return sigmoid(np.concatenate(logits).astype(np.float64))

    def _pixels(self, encoder: FrozenEncoder, views: NDArray[np.uint8]) -> Tensor:
        pixels = torch.from_numpy(views).to(self._device).float() / 255.0
        return ((pixels - encoder.mean) / encoder.std).contiguous(memory_format=torch.channels_last)


def make_optimiser(network: nn.Module, settings: TuneSettings) -> torch.optim.Optimizer:
    """Four groups at most: the head learns faster, and biases and normalisation (one-dimensional) do not decay."""
    groups = []
    for part, factor in ((network.fc, settings.head_factor), (network.encoder, 1.0)):
        assert isinstance(part, nn.Module)
        for decay, flat in ((settings.weight_decay, False), (0.0, True)):
            chosen = [p for p in part.parameters() if p.requires_grad and (p.ndim <= 1) == flat]
            if chosen:
                groups.append({"params": chosen, "lr": settings.learning_rate * factor, "weight_decay": decay})
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.learning_rate)


def _constant(_epoch: int) -> float:
    return 1.0
