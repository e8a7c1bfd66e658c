"""Evaluation networks by name, in families: plain data, importable without torch.

A protocol names the family that its networks come from: `resnet18` is another network in each.
`timm:NAME` is a network of pytorch-image-models, untrained, in every family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..base.errors import UserError, did_you_mean
from ..base.settings import short

TIMM = "timm:"
# Mean and standard deviation of ImageNet's images in [0, 1], by channel.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Network:
    """One evaluation network.

    Attributes:
        builder: function of `mgd3.networks.architectures` that makes it.
        min_size: smallest square image in pixels that it can learn from.
        options: keyword arguments of the builder.
        multiple: the image's side must be divisible by it.
    """

    builder: str
    min_size: int
    options: Mapping[str, Any] = field(default_factory=dict)
    multiple: int = 1


def _torchvision(name: str, multiple: int = 1) -> Network:
    return Network("torchvision_network", 64, {"name": name}, multiple)


NETWORKS: dict[str, dict[str, Network]] = {
    # MinimaxDiffusion's, with instance norm.
    "hard": {
        # Ours, for small images: three blocks, narrow enough for a CPU.
        "convnet3": Network("convnet", 8, {"depth": 3, "width": 64}),
        "convnet3-narrow": Network("convnet", 8, {"depth": 3, "width": 16}),
        **{
            f"convnet{depth}": Network("convnet", 1 << depth, {"depth": depth, "width": 128})
            for depth in (4, 5, 6)
        },
        "resnetap10": Network("resnet_ap", 64, {"blocks": (1, 1, 1, 1)}),
        "resnet18": Network("resnet", 64, {"blocks": (2, 2, 2, 2)}),
        "resnet50": Network("resnet", 64, {"blocks": (3, 4, 6, 3), "bottleneck": True}),
        "resnet101": Network("resnet", 64, {"blocks": (3, 4, 23, 3), "bottleneck": True}),
    },
    # RDED's students, with batch norm: torchvision's own networks, and ConvNets. Also teachers.
    "soft": {
        # Ours, for small images.
        "resnet10": Network("resnet", 64, {"blocks": (1, 1, 1, 1), "norm": "batch"}),
        **{
            name: _torchvision(name)
            for name in ("resnet18", "resnet50", "resnet101", "vgg11", "alexnet")
        },
        **{name: _torchvision(name) for name in ("efficientnet_b0", "mobilenet_v2", "swin_v2_t")},
        "vit_b_16": _torchvision("vit_b_16", multiple=16),
        **{
            f"conv{depth}": Network(
                "convnet", 1 << depth, {"depth": depth, "width": 128, "norm": "batch"}
            )
            for depth in (3, 4, 5, 6)
        },
    },
    # DatasetCondensation's, with instance norm.
    "dc": {"convnet3": Network("convnet", 8, {"depth": 3, "width": 128})},
    # GLaD's, with instance norm where there is a norm.
    "glad": {
        "alexnet": Network("glad_alexnet", 8),
        "vgg11": Network("glad_vgg11", 32),
        "resnet18": Network("glad_resnet18", 16),
        "vit": Network("glad_vit", 16, multiple=16),
    },
}


def network_names() -> list[str]:
    """The names of all families, without repetition."""
    return list(dict.fromkeys(name for family in NETWORKS.values() for name in family))


def get_network(name: str, image_size: int, family: str = "hard") -> Network:
    """The entry of a network that can take images of `image_size` pixels.

    Whether timm has a network of some name, and whether that takes such images, is for
    `mgd3.networks.architectures.check_network` to say.

    Raises:
        UserError: the family has no such name, or the images do not suit the network.
    """
    if name.startswith(TIMM):
        return Network("timm_network", 1, {"name": name.removeprefix(TIMM)})
    known = NETWORKS[family]
    if name not in known:
        raise UserError(
            f"unknown network {short(name)} (of the protocol's family {family!r})",
            f"{did_you_mean(name, known)} Or {TIMM}NAME for a network of timm",
        )
    network = known[name]
    if image_size < network.min_size:
        fitting = [other for other, entry in known.items() if entry.min_size <= image_size]
        raise UserError(
            f"network {name!r} needs images of at least {network.min_size} px, and these have "
            f"{image_size} px: its last maps would be 1x1, and normalisation turns them to zero",
            f"choose a protocol of {network.min_size} px or more"
            + (f", or a network for small images: {', '.join(fitting)}" if fitting else ""),
        )
    if image_size % network.multiple:
        raise UserError(
            f"network {name!r} needs a side divisible by {network.multiple}, not {image_size} px",
            "choose a protocol of another size",
        )
    return network
