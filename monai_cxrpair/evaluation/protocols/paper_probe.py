"""The paper's linear probe: 95 epochs of Adam on frozen embeddings, all draws at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.probe import MIN_PER_CLASS
from monai_cxrpair.evaluation.protocols.folds import folds_by_patient
from monai_cxrpair.evaluation.protocols.learned import Learned

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # torch's Adam, which the paper's code leaves as it is


@dataclass(frozen=True, kw_only=True)
class AdamSettings:
    """Paper section 3.2: learning rate 3e-5, batches of 16, 95 epochs; its code: no weight decay, no schedule.

    The embeddings are not standardised, as the code's last layer has none before it either.
    """

    learning_rate: float = 3e-5
    batch_size: int = 16
    epochs: int = 95

    def __post_init__(self) -> None:
        if not self.learning_rate > 0 or min(self.batch_size, self.epochs) < 1:
            raise CxrPairError(f"linear: learning_rate, batch_size and epochs must be above 0, got {asdict(self)}")


class AdamLearner:
    """The linear protocol with the paper's optimiser on cached embeddings.

    Beside the released code it differs in two ways, both of which need no network pass: batch normalisation is frozen,
    and a radiograph is always seen as its centred square. There is no choice among epochs: the last one counts.

    Args:
        embeddings: name -> (N, F).
        labels: (N,).
        patients: (N,).
        seed: of first weights, order of the radiographs and folds.
        settings: of Adam.
        device: to train on.
    """

    def __init__(
        self,
        embeddings: Mapping[str, NDArray[np.float32]],
        labels: NDArray[np.float64],
        patients: NDArray[np.int64],
        *,
        seed: int,
        settings: AdamSettings | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._tables, self._labels, self._patients, self._seed = embeddings, labels, patients, seed
        self._settings, self._device = settings or AdamSettings(), device

    def learn(self, encoder: str, draws: Sequence[NDArray[np.int64]], rows: NDArray[np.int64]) -> Learned:
        """See `Learner`; held out: folds by patient, trained together with the draws themselves."""
        table, y = self._tables[encoder], self._labels
        folds = [folds_by_patient(y[own], self._patients[own], seed=self._seed, least=MIN_PER_CLASS) for own in draws]
        jobs = [(number, own) for number, own in enumerate(draws)]
        jobs += [
            (number, own[learn])
            for number, (own, parts) in enumerate(zip(draws, folds, strict=True))
            for learn, _ in parts or ()
        ]
        weights, biases = train_probes(
            table, y, [own for _, own in jobs], [[self._seed, n] for n, _ in jobs], self._settings, device=self._device
        )
        logits = table[rows].astype(np.float64) @ weights[: len(draws)].T + biases[: len(draws)]  # (n, D)
        held: list[tuple[NDArray[np.int64], NDArray[np.float64]] | None] = []
        used = len(draws)
        for own, parts in zip(draws, folds, strict=True):
            if parts is None:
                held.append(None)
                continue
            values = np.empty(len(own))
            for _, hold in parts:
                values[hold] = table[own[hold]].astype(np.float64) @ weights[used] + biases[used]
                used += 1
            held.append((own, sigmoid(values)))
        return Learned(scores=sigmoid(logits.T), held_out=held)

    def describe(self) -> dict[str, Any]:
        """See `Learner`."""
        return {"optimiser": "paper", **asdict(self._settings), "batch_norm": "frozen"}


def train_probes(
    table: NDArray[np.float32],
    labels: NDArray[np.float64],
    jobs: Sequence[NDArray[np.int64]],
    seeds: Sequence[Sequence[int]],
    settings: AdamSettings,
    *,
    device: torch.device | str = "cpu",
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Train one linear layer for each job, all at once: a step takes a batch of every job.

    Args:
        table: (N, F).
        labels: (N,) 1 or 0 at the rows of the jobs.
        jobs: rows of each probe; their numbers may differ, whoever has fewer waits for the others.
        seeds: of each probe; the result of a job does not depend on the others.
        settings: of Adam.
        device: to train on.

    Returns:
        weights (J, F) and biases (J,).
    """
    # Adam's scale-free steps make the small numbers of late epochs matter little: float32 as in the paper's code.
    used = np.unique(np.concatenate(jobs))  # a few thousand rows stay in the processor's cache, a whole cohort's do not
    places = [np.searchsorted(used, rows) for rows in jobs]
    x = torch.as_tensor(table[used], dtype=torch.float32, device=device)
    y = torch.as_tensor(labels[used], dtype=torch.float32, device=device)
    size = settings.batch_size
    longest = -(-max(map(len, jobs)) // size) * size
    starts = [first_layer(table.shape[1], seed) for seed in seeds]
    state = torch.as_tensor(np.stack(starts), dtype=torch.float32, device=device)  # (J, F + 1), the last is the bias
    first, second = torch.zeros_like(state), torch.zeros_like(state)
    # float64, for 1 - 0.999 ** 1 has only four digits left in float32.
    steps = torch.zeros(len(jobs), 1, dtype=torch.float64, device=device)
    for epoch in range(settings.epochs):
        orders = np.full((len(jobs), longest), -1, dtype=np.int64)
        for line, rows, seed in zip(orders, places, seeds, strict=True):
            line[: len(rows)] = rows[np.random.default_rng([*seed, epoch]).permutation(len(rows))]
        for batch in torch.as_tensor(orders, device=device).split(size, dim=1):
            gradient, busy = _gradient(x, y, state, batch)
            steps += busy
            first = torch.where(busy, first + (1 - _BETAS[0]) * (gradient - first), first)
            second = torch.where(busy, _BETAS[1] * second + (1 - _BETAS[1]) * gradient**2, second)
            count = steps.clamp(min=1)
            rate = (settings.learning_rate / (1 - _BETAS[0] ** count)).float()
            step = rate * first / ((second / (1 - _BETAS[1] ** count).float()).sqrt() + _EPSILON)
            state = torch.where(busy, state - step, state)
    done = state.cpu().numpy().astype(np.float64)
    return done[:, :-1], done[:, -1]


def first_layer(features: int, seed: Sequence[int]) -> NDArray[np.float64]:
    """First weights and bias (F + 1,), uniform as torch's Linear draws them."""
    bound = 1 / np.sqrt(features)
    # A stream of its own, beside the order of epoch 0, 1, ...
    return np.random.default_rng([*seed, 0x6669727374]).uniform(-bound, bound, features + 1)


def _gradient(x: Tensor, y: Tensor, state: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient (J, F + 1) of the mean cross-entropy of each job's batch (J, B), -1 for none; and who has any (J, 1)."""
    there = (batch >= 0).float()
    views, truth = x[batch.clamp(min=0)], y[batch.clamp(min=0)]  # (J, B, F), (J, B)
    logits = torch.einsum("jbf,jf->jb", views, state[:, :-1]) + state[:, -1:]
    error = (logits.sigmoid() - truth) * there / there.sum(dim=1, keepdim=True).clamp(min=1)  # (J, B)
    gradient = torch.cat([torch.einsum("jb,jbf->jf", error, views), error.sum(dim=1, keepdim=True)], dim=1)
    return gradient, there.sum(dim=1, keepdim=True) > 0


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """In float64, without overflow."""
    result: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * logits))
    return result
