"""The soft-label protocols: a student learns from a teacher's probabilities.

Sources: `soft` is the validation of LINs-lab/RDED, with the teacher in the loop; `soft-fkd` is that
of VILA-Lab/SRe2L (and suduo94/D4M), with stored logits. They differ in more than that and are never
mixed. `soft-d3hr` is what lin-zhao-resoLve/D3HR makes of the first. Entries named `-small` are
ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from ...teachers import IMAGENET, pixels_key
from .base import EpochTable, Protocol, StepBudget, as_json

if TYPE_CHECKING:
    from ...data.registry import Dataset

Labels = Literal["online", "stored"]
Mix = Literal["cutmix", "mixup"]
# RDED's learning rates by student; all others have `RATE`.
RATE = 1e-3
RATES: tuple[tuple[str, float], ...] = (
    ("vgg11", 5e-4),
    ("efficientnet_b0", 2e-3),
    ("mobilenet_v2", 2.5e-3),
    ("alexnet", 1e-4),
    ("vit_b_16", 1e-4),
    ("swin_v2_t", 1e-4),
)
_EPOCHS_300 = EpochTable((), beyond=300, reduce_100=False)
# Of one file of stored labels.
_PART_BYTES = 2 << 30


@dataclass(frozen=True)
class BatchTable:
    """Batch size by images per class, capped at the number of images.

    Attributes:
        rows: (IPC, batch size), ascending; the only IPCs for which RDED defines one.
        between: an IPC that is not in the table takes the row `below` it or `above` it.
        many: factor from 100 classes on.
    """

    rows: tuple[tuple[int, int], ...] = ((1, 10), (10, 50), (50, 100))
    between: Literal["below", "above"] = "below"
    many: int = 2

    def size(self, num_classes: int, ipc: int) -> int:
        if self.between == "below":
            fitting = [batch for known, batch in self.rows if known <= ipc][-1:]
        else:
            fitting = [batch for known, batch in self.rows if known >= ipc][:1]
        batch = fitting[0] if fitting else self.rows[-1][1]
        return min(batch * (self.many if num_classes >= 100 else 1), ipc * num_classes)


@dataclass(frozen=True)
class Views:
    """Training transforms, in order; normalisation comes last, then mixing.

    Attributes:
        shuffle: strips along each axis that change places, before the crop; 1 for none.
        crop_scale: RandomResizedCrop's area fraction; its aspect ratio is in (3/4, 4/3).
        flip: probability of a horizontal flip (0 where the data set forbids it).
        mix: every batch is mixed: CutMix, or Mixup.
        mix_alpha: both parameters of the Beta distribution of an image's own share.
    """

    shuffle: int = 2
    crop_scale: tuple[float, float] = (0.5, 1.0)
    flip: float = 0.5
    mix: Mix = "cutmix"
    mix_alpha: float = 1.0


@dataclass(frozen=True)
class SoftPlan:
    """The schedule: see `base.Plan`.

    Attributes:
        rate: initial learning rate of AdamW.
        cosine: share of the half period of a cosine that the learning rate goes through.
        batch_size: images in a batch; the last may be smaller.
    """

    epochs: int
    evaluation_epochs: tuple[int, ...]
    rate: float
    cosine: float
    batch_size: int

    def learning_rates(self) -> list[float]:
        """The learning rate of each epoch, [epochs]."""
        return [
            self.rate * 0.5 * (1 + math.cos(math.pi * self.cosine * epoch / self.epochs))
            for epoch in range(self.epochs)
        ]


@dataclass(frozen=True, kw_only=True)
class SoftProtocol(Protocol):
    """Kullback-Leibler divergence to a teacher's probabilities: see `base.Protocol`.

    The divergence is the batch's mean without a factor of temperature squared. AdamW's betas are
    (0.9, 0.999); only parameters named `weight` with more than one dimension decay.

    Attributes:
        test_resize: shorter side of real images before the centre crop.
        labels: `online`: the teacher sees each mixed batch; `stored`: its logits were stored once
            for each distilled set, in half precision, with the seeds of what it saw.
        teacher: a key of `mgd3.teachers.TEACHERS`.
        teacher_data: the data set it was trained on, where that is not the one at hand.
        duration: the rule that gives the epochs.
        evaluations, gap: tests at the last epoch and every E // gap epochs before it.
        batch: images in a batch, by a table or fixed.
        rates: learning rates of students that depart from `RATE`.
        cosine: see `SoftPlan`.
        passes: how often each batch goes through the student in training mode. RDED's loop has a
            second pass for a line of its log, which moves the running statistics of batch norm
            again; here their momentum is adjusted instead (`mgd3.evaluation.soft`).
    """

    size: int = 224
    networks: str = "soft"
    engine: str = "soft"
    native: bool = True
    test_resize: int = 256
    labels: Labels = "online"
    teacher: str = "resnet18"
    teacher_data: str | None = None
    duration: EpochTable | StepBudget = _EPOCHS_300
    evaluations: int = 6
    gap: int = 30
    batch: BatchTable | int = field(default_factory=BatchTable)
    rates: tuple[tuple[str, float], ...] = RATES
    cosine: float = 0.5
    weight_decay: float = 0.01
    temperature: float = 20.0
    passes: int = 2
    views: Views = field(default_factory=Views)

    @property
    def pixels(self) -> str:
        return pixels_key(self.test_resize, self.size)

    def require_dataset(self, dataset: Dataset) -> None:
        if self.teacher_data is not None:
            self.teacher_classes(dataset)

    def teacher_classes(self, dataset: Dataset) -> list[str] | None:
        """What the teacher calls the data set's classes; None: as the data set does.

        Raises:
            UserError: the teacher knows the classes of ImageNet, and one here is none of them.
        """
        if self.teacher_data is None:
            return None
        classes = dataset.source.classes()
        return dataset.wnids(classes, f"protocol {self.name!r} has a teacher of")

    def plan(self, num_classes: int, ipc: int, network: str = "") -> SoftPlan:
        if isinstance(self.batch, int):
            batch = min(self.batch, ipc * num_classes)
        else:
            batch = self.batch.size(num_classes, ipc)
        epochs = self.duration.epochs(num_classes, ipc, batch)
        every = max(1, epochs // self.gap)
        tested = (epochs - every * back for back in reversed(range(self.evaluations)))
        return SoftPlan(
            epochs=epochs,
            evaluation_epochs=tuple(epoch for epoch in tested if epoch > 0),
            rate=dict(self.rates).get(network, RATE),
            cosine=self.cosine,
            batch_size=batch,
        )

    def settings(self, num_classes: int, ipc: int, network: str = "") -> dict[str, Any]:
        plan = self.plan(num_classes, ipc, network)
        keys = ("test_resize", "labels", "teacher", "teacher_data", "weight_decay", "temperature")
        return as_json(
            {
                **self._common(),
                **{key: getattr(self, key) for key in (*keys, "passes")},
                "epochs": plan.epochs,
                "evaluation_epochs": plan.evaluation_epochs,
                "learning_rate": plan.rate,
                "cosine": plan.cosine,
                "batch_size": plan.batch_size,
                "views": vars(self.views),
            }
        )

    def without_flips(self) -> Self:
        return replace(self, views=replace(self.views, flip=0.0))

    def label_bytes(self, num_classes: int, ipc: int) -> int:
        """Of the stored labels: two for each class, image and epoch; none online."""
        if self.labels == "online":
            return 0
        return 2 * num_classes * ipc * num_classes * self.plan(num_classes, ipc).epochs

    def label_parts(self, num_classes: int, ipc: int) -> int:
        """Files that the stored labels are spread over, each with some of the epochs."""
        parts = math.ceil(self.label_bytes(num_classes, ipc) / _PART_BYTES)
        return min(parts, self.plan(num_classes, ipc).epochs)


def part_epochs(epochs: int, parts: int, part: int) -> range:
    """The epochs (0-based) whose labels are in a part."""
    return range(epochs * part // parts, epochs * (part + 1) // parts)


_SOFT = SoftProtocol(
    name="soft",
    description="Soft labels at 224 px as RDED validates: the teacher in the loop, 2x2 shuffling, "
    "300 epochs, best of six tests. At an IPC for which RDED defines no batch size (20, 100) it "
    "takes that of the next smaller one.",
)
_FKD = SoftProtocol(
    name="soft-fkd",
    description="Soft labels at 224 px as SRe2L and D4M validate: stored logits, batch 1024, "
    "RandomResizedCrop (0.08, 1), full cosine, tested every 10 epochs.",
    labels="stored",
    evaluations=30,
    batch=1024,
    rates=(),
    cosine=1.0,
    passes=1,
    views=Views(shuffle=1, crop_scale=(0.08, 1.0)),
)
_SMALL: dict[str, Any] = {"size": 64, "test_resize": 64, "teacher": "resnet10-64"}

SOFT_PROTOCOLS = (
    _SOFT,
    replace(
        _SOFT,
        name="soft-factor1",
        description="`soft` with factor 1: no shuffling, and no crop but the whole image.",
        views=Views(shuffle=1, crop_scale=(1.0, 1.0)),
    ),
    replace(
        _SOFT,
        name="soft-unshuffled",
        description="`soft` without shuffling; crops stay (0.5, 1).",
        views=Views(shuffle=1),
    ),
    replace(
        _SOFT,
        name="soft-mixup",
        description="`soft` with Mixup, Beta(0.8, 0.8), and temperature 4, RDED's other choice.",
        views=Views(mix="mixup", mix_alpha=0.8),
        temperature=4.0,
    ),
    replace(
        _SOFT,
        name="soft-batch-above",
        description="`soft` with the batch size of the next larger IPC where RDED defines none.",
        batch=BatchTable(between="above"),
    ),
    replace(
        _SOFT,
        name="soft-d3hr",
        description="`soft` as D3HR has it: no shuffling, crops (0.08, 1), batches not doubled "
        "from 100 classes on, best of the last ten epochs.",
        views=Views(shuffle=1, crop_scale=(0.08, 1.0)),
        batch=BatchTable(many=1),
        evaluations=10,
        gap=300,
    ),
    replace(
        _SOFT,
        name="soft-imagenet-teacher",
        description="`soft` with torchvision's teacher of ImageNet-1K, of which a subset of "
        "ImageNet takes its own classes' logits.",
        teacher_data=IMAGENET,
    ),
    replace(
        _SOFT,
        name="soft-lite0",
        description="`soft` with EfficientNet-Lite0 of ImageNet-1K as the teacher, whose weights "
        "come with a package of the Python registry.",
        teacher="efficientnet-lite0",
        teacher_data=IMAGENET,
    ),
    replace(
        _SOFT,
        name="soft-bf16",
        description="`soft` in bfloat16, on CUDA only: faster, and not the published one.",
        precision="bf16",
    ),
    replace(
        _SOFT,
        name="soft-small",
        description="`soft` at 64 px with a small teacher, for a fixed number of steps.",
        duration=StepBudget(steps=100, min_epochs=30),
        **_SMALL,
    ),
    _FKD,
    replace(
        _FKD,
        name="soft-fkd-small",
        description="`soft-fkd` at 64 px with a small teacher and batch 64, for a fixed number "
        "of steps.",
        duration=StepBudget(steps=100, min_epochs=30),
        batch=64,
        evaluations=6,
        **_SMALL,
    ),
)
