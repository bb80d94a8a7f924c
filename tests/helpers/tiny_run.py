"""A training run of milliseconds, in this process or in one that may be killed."""

import logging
import os
import time

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from monai_cxrpair.contrast import ContrastiveTrainer, MoCo, ResumableSampler, SaveRun
from monai_cxrpair.contrast.checkpoints import signals
from monai_cxrpair.imaging import as_tensors
from monai_cxrpair.pairing.codes import CODES

TIMES = ("pairs_per_second", "data_wait")
EVERY_BATCH = 1e-9  # checkpoint_minutes


class Pairs(Dataset):
    """Twelve random radiographs whose noise depends on the epoch, as the real dataset's augmentation does."""

    seed = 3

    def __init__(self, poison=False):
        self.images = np.random.default_rng(0).integers(0, 255, (12, 1, 64, 64)).astype(np.uint8)
        self.epoch, self.poison = 0, poison

    def __len__(self):
        return len(self.images)

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __getitems__(self, rows):
        rows = np.asarray(rows)
        rng = np.random.default_rng([self.epoch, *rows.tolist()])
        noise = rng.integers(0, 20, (2, len(rows), 1, 64, 64)).astype(np.uint8)
        key_rows = np.where(rows % 3 == 0, rows, (rows + 1) % 12)
        codes = np.full((len(rows), 2, len(CODES)), -1)
        codes[..., :2] = np.stack([rows, key_rows], axis=1)[..., None]  # each a study of a patient of its own
        codes[:, 1, 0] = rows
        codes[..., CODES.index("laterality")] = codes[..., 1] % 2
        affinity = np.full((len(rows), 1), np.nan if self.poison else 1.0, np.float32)
        return {
            "query": self.images[rows] // 2 + noise[0], "key": (self.images[key_rows] // 2 + noise[1])[:, None],
            "affinity": affinity, "row": rows, "key_row": key_rows[:, None], "codes": codes,
        }  # fmt: skip


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 4, 5, stride=4)
        self.norm = torch.nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.convolution(x)).relu().mean((2, 3))


class SharedPairs(Pairs):
    """Persistent workers see the epoch, as they do of the real dataset."""

    @property
    def epoch(self):
        return int(self.shared[0])

    @epoch.setter
    def epoch(self, number):
        self.shared = getattr(self, "shared", torch.zeros(1, dtype=torch.int64).share_memory_())
        self.shared[0] = number


def make(folder, *, max_epochs=4, resume=True, batch=4, workers=0, figures=None, best_by=None, card=None, keep=2,
         checkpoint_minutes=EVERY_BATCH, sampler=ResumableSampler, before_saving=None, accumulation_steps=1,
         schedule=None):  # fmt: skip
    """`figures`: the value of `knn_auc` in each epoch, None where it is not measured; `schedule`: of the optimiser."""
    torch.manual_seed(0)
    data = SharedPairs()
    network = MoCo(encoder=Encoder(), queue_size=8, dim=3)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=0.01)
    scheduler = schedule(optimizer) if schedule else torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)
    card = {"format": "x", **(card or {})}
    states = {"network": network, "optimizer": optimizer, "lr_scheduler": scheduler}
    loader = DataLoader(
        data, batch_size=batch, sampler=sampler(data, num_replicas=1, rank=0, seed=0), drop_last=True,
        collate_fn=as_tensors, num_workers=workers, persistent_workers=workers > 0,
    )  # fmt: skip
    trainer = ContrastiveTrainer(
        device="cpu", max_epochs=max_epochs, train_data_loader=loader, network=network, optimizer=optimizer,
        normalisation=(0.3, 0.2), precision="fp32", states=states, settings=card,
        accumulation_steps=accumulation_steps, resume_from=folder / "checkpoints" if resume else None,
    )  # fmt: skip
    trainer.reported = []  # of each epoch that ends: number, loss, ...

    @trainer.on("EPOCH_COMPLETED")
    def _end(engine):
        scheduler.step()
        engine.reported.append({n: v for n, v in engine.state.metrics.items() if n not in TIMES})
        if figures is not None and figures[engine.state.epoch - 1] is not None:
            engine.state.metrics["knn_auc"] = figures[engine.state.epoch - 1]

    if before_saving is not None:
        trainer.add_event_handler("ITERATION_COMPLETED", before_saving)
    SaveRun(output_dir=folder, states=states, encoder=network.query_encoder, card=card, keep=keep, best_by=best_by,
            checkpoint_minutes=checkpoint_minutes).attach(trainer)  # fmt: skip
    return trainer


def train(folder, *, ranks=None, step_seconds=0.0, echo_seconds=None, **settings):
    """Train in a process of its own; `folder/steps` grows by one byte per step."""
    os.setsid()  # signals to its group reach its workers and nobody else
    folder.mkdir(exist_ok=True)
    name = f"stderr{ranks[0] if ranks else ''}.txt"
    os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    logging.basicConfig(level=logging.WARNING, force=True)
    if echo_seconds is not None:
        signals.ECHO_SECONDS = echo_seconds
    if ranks is not None:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=ranks[0], world_size=ranks[1])

    def note(engine):
        with (folder / f"steps{ranks[0] if ranks else ''}").open("ab") as file:
            file.write(b".")
        time.sleep(step_seconds)

    make(folder, before_saving=note, **settings).run()
