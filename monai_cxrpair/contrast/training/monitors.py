"""Is the encoder learning? Figures of the embeddings, once per epoch, from what is there already."""

from __future__ import annotations

import logging

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from monai_cxrpair.contrast.distributed import mean_of_ranks
from monai_cxrpair.contrast.method.queue import KeyQueue
from monai_cxrpair.pairing.codes import CODES

logger = logging.getLogger(__name__)

MOST_KEYS = 1024  # the newest keys of the queue stand for it: all pairs of 24,576 would cost more than a step
COLLAPSED = 0.05  # of min(keys, D) dimensions
PATIENT = CODES.index("patient")


class Monitors:
    """Handler: puts figures of the epoch into `engine.state.metrics`, and warns when the embeddings collapse.

    alignment: mean squared distance of a query to its drawn keys, over the epoch; 0 where they are the same (Wang &
        Isola 2020, section 4.1.1, with alpha 2).
    uniformity: log of the mean of exp(-2 d^2) over pairs of embeddings at distance d; 0 where all are the same, near -4
        where they spread over the sphere (ibid., section 4.1.2, with t 2).
    effective_rank: how many dimensions the embeddings fill, 1 to min(N, D) (Roy & Vetterli 2007).
    queue_age: mean age of the queue's keys, in batches, as the next query meets them.
    same_patient_rate: share of the other keys that are of the query's own patient, mean over the last batch.

    The embeddings are the newest keys of the queue. Of a network without a queue they are the views of its last batch,
    the other keys are those of the batch's other queries, and there is no queue_age.

    Args:
        network: a `MoCo`, or another network with `query_head` and `queue`; not wrapped.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.queue: KeyQueue | None = network.queue  # type: ignore[assignment]
        self.embeddings: Tensor | None = None
        self.warned = False

    def attach(self, engine: Engine) -> None:
        """Measure at the end of each epoch; attach it before the handlers that read the figures."""
        last = Events.ITERATION_STARTED(event_filter=lambda engine, step: step % engine.state.epoch_length == 0)
        engine.add_event_handler(last, self.before_last_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.measure)

    @torch.no_grad()
    def before_last_step(self, engine: Engine) -> None:
        """Compare the batch with the queue that it will meet, and keep the embeddings of a network without one."""
        patients = engine.state.batch["codes"][:, 0, PATIENT].to(engine.state.device)  # (B,)
        others = patients
        if self.queue is None:
            self._keep_next_embeddings()
        else:
            others = self.queue.code("patient")[self.queue.filled]
        rate = same_patient_rate(patients, others, among_themselves=self.queue is None)
        if rate is None:
            engine.state.metrics.pop("same_patient_rate", None)
        else:
            engine.state.metrics["same_patient_rate"] = float(mean_of_ranks(rate))

    @torch.no_grad()
    def measure(self, engine: Engine) -> None:
        """Write the figures of this epoch."""
        metrics = engine.state.metrics
        if "positive_similarity" in metrics:  # of unit vectors: |q - k|^2 = 2 - 2 q.k
            metrics["alignment"] = 2.0 - 2.0 * metrics["positive_similarity"]
        if self.queue is not None:
            metrics["queue_age"] = queue_age(self.queue, batches=engine.state.iteration)
            self.embeddings = self.queue.keys[self.queue.filled & (self.queue.age < MOST_KEYS)]
        if self.embeddings is None or len(self.embeddings) < 2:
            return
        metrics["uniformity"] = uniformity(self.embeddings)
        metrics["effective_rank"] = effective_rank(self.embeddings)
        self._warn(metrics["effective_rank"], dimensions=min(self.embeddings.shape), epoch=engine.state.epoch)

    def _keep_next_embeddings(self) -> None:
        def keep(_head: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.embeddings = torch.nn.functional.normalize(output.detach().float(), dim=1)
            handle.remove()

        handle = self.network.get_submodule("query_head").register_forward_hook(keep)

    def _warn(self, rank: float, *, dimensions: int, epoch: int) -> None:
        """Say it when it begins, not again in every epoch; in the first one the keys have hardly parted yet."""
        collapsed = epoch > 1 and rank - 1 < COLLAPSED * (dimensions - 1)
        if collapsed and not self.warned:
            logger.warning(
                "COLLAPSE in epoch %d: the embeddings fill %.1f of %d dimensions, radiographs are hardly told apart; "
                "if it does not pass, lower learning_rate, raise batch_size, or start from imagenet_weights",
                epoch, rank, dimensions,
            )  # fmt: skip
        self.warned = collapsed


def uniformity(embeddings: Tensor) -> float:
    """Wang & Isola 2020, section 4.1.2: log of the mean of exp(-2 |x - y|^2) over all pairs.

    Args:
        embeddings: unit length, (N, D), N at least 2.
    """
    n = len(embeddings)
    similarity = embeddings @ embeddings.T  # (N, D) x (D, N) -> (N, N)
    near = (4.0 * similarity - 4.0).exp().fill_diagonal_(0.0)  # |x - y|^2 = 2 - 2 x.y; each pair stands there twice
    return float((near.sum() / (n * (n - 1))).log())


def effective_rank(embeddings: Tensor) -> float:
    """Roy & Vetterli 2007: exp of the entropy of the normalised singular values, from 1 to min(N, D).

    MONAI's EmbeddingCollapseMetric does not fit: it subtracts the mean first, and what is left of embeddings that are
    all alike is rounding, which fills all dimensions. So it finds no collapse just where it is complete.

    Args:
        embeddings: (N, D), not all 0.
    """
    values = torch.linalg.svdvals(embeddings.double())
    return float(torch.special.entr(values / values.sum()).sum().exp())


def queue_age(queue: KeyQueue, *, batches: int) -> float:
    """The mean age of the queue's keys in batches as the next query meets them: those of the last batch are 1 old.

    Args:
        queue: with at least one key.
        batches: how many have put keys in, equally many each.
    """
    keys_of_one = int(queue.count) // batches
    return float((1 + queue.age[queue.filled] // keys_of_one).float().mean())


def same_patient_rate(patients: Tensor, others: Tensor, *, among_themselves: bool = False) -> Tensor | None:
    """The mean share of the others that are of the query's own patient.

    Args:
        patients: of the queries, int64 (B,).
        others: patients of the keys, int64 (Q,).
        among_themselves: the others are the queries; none is compared with itself.

    Returns:
        A scalar in [0, 1]; None where there is no other key.
    """
    same = patients[:, None] == others  # (B, Q)
    pairs = same.numel() - among_themselves * len(patients)
    if pairs <= 0:
        return None
    return (same.sum() - among_themselves * len(patients)) / pairs
