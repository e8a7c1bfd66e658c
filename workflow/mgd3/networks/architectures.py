"""Evaluation networks by name.

The names, their smallest images and their options are in `mgd3.networks.names.NETWORKS` (importable
without torch); here are the builders, called as `builder(num_classes, image_size, **options)`. The
family `hard` follows vimar-gu/MinimaxDiffusion (`models/`), the family `glad`
GeorgeCazenavette/glad (`networks/`); both with instance norm: group norm with one group for each
channel.
"""

from __future__ import annotations

import difflib

import torch
from torch import nn
from torchvision import models
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from ..base.errors import UserError
from .names import get_network


def create_network(name: str, num_classes: int, image_size: int, family: str = "hard") -> nn.Module:
    """A freshly initialised network for float images [N, 3, image_size, image_size].

    Draws its initial weights from torch's global CPU generator: seed it first.

    Args:
        name: of `networks.names.NETWORKS[family]`, or `timm:NAME`.

    Raises:
        UserError: the name is unknown, or the images do not suit the network.
    """
    entry = get_network(name, image_size, family)
    return globals()[entry.builder](num_classes, image_size, **entry.options)


def check_network(name: str, image_size: int) -> None:
    """Raise UserError unless timm has the network and it takes images of this size.

    The network is made and called without memory or arithmetic, on PyTorch's meta device.
    """
    with torch.device("meta"), torch.inference_mode():
        network = create_network(name, 2, image_size).eval()
        try:
            network(torch.empty(2, 3, image_size, image_size))
        except NotImplementedError:
            return  # some operation of this network cannot be tried without arithmetic
        except (RuntimeError, ValueError, AssertionError) as error:
            raise _unsuitable(name, image_size, error) from error


def features(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What the last linear layer of a network is given, [N, D], for images [N, 3, S, S]."""
    return features_and_output(network, images)[0]


def features_and_output(
    network: nn.Module, images: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`features`, and what the network makes of them, in one pass."""
    last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
    seen: list[torch.Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        output = network(images)
    finally:
        hook.remove()
    return seen[0], output


def timm_network(num_classes: int, image_size: int, *, name: str) -> nn.Module:
    """A network of pytorch-image-models, with that library's own untrained initial weights.

    Raises:
        UserError: timm has no such network, or it does not take images of this size.
    """
    import timm

    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        mend = (
            f"did you mean {' or '.join(map(repr, close))}?"
            if close
            else ("python -c 'import timm; print(timm.list_models())' lists them")
        )
        raise UserError(f"timm has no network {name!r}", mend)
    options = {"pretrained": False, "num_classes": num_classes}
    # Transformers are made for one size of images.
    about = timm.get_pretrained_cfg(name)
    if about is not None and about.fixed_input_size:
        options["img_size"] = image_size
    try:
        return timm.create_model(name, **options)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise _unsuitable(f"timm:{name}", image_size, error) from error


def _unsuitable(name: str, image_size: int, error: Exception) -> UserError:
    return UserError(
        f"network {name!r} does not take images of {image_size} px: {error}",
        "choose another network, or a protocol of another size",
    )


def torchvision_network(num_classes: int, image_size: int, *, name: str) -> nn.Module:
    """torchvision's own definition and initialisation (batch norm where it has it)."""
    # Only the ViT is bound to the size of its images.
    more = {"image_size": image_size} if name.startswith("vit") else {}
    return models.get_model(name, weights=None, num_classes=num_classes, **more)


def instance_norm(channels: int) -> nn.GroupNorm:
    """Instance norm as the published protocol has it: affine, without running statistics."""
    return nn.GroupNorm(channels, channels)


_NORMS = {"instance": instance_norm, "batch": nn.BatchNorm2d}


def convnet(
    num_classes: int, image_size: int, *, depth: int, width: int, norm: str = "instance"
) -> nn.Sequential:
    """ConvNet-`depth`: [conv 3x3, norm, ReLU, average pool 2] x depth, then linear."""
    layers: list[nn.Module] = []
    for channels in [3, *[width] * (depth - 1)]:
        layers += [
            nn.Conv2d(channels, width, 3, padding=1),
            _NORMS[norm](width),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(2),
        ]
    side = image_size >> depth
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side * side, num_classes))


def resnet(
    num_classes: int,
    image_size: int,
    *,
    blocks: tuple[int, ...],
    bottleneck: bool = False,
    norm: str = "instance",
) -> ResNet:
    """ImageNet's ResNet; convolutions N(0, 2 / fan out)."""
    # torchvision's constructor has the layers and the initialisation of the published network.
    block = Bottleneck if bottleneck else BasicBlock
    return ResNet(block, list(blocks), num_classes=num_classes, norm_layer=_NORMS[norm])


class _PooledBlock(nn.Module):
    """Basic block that strides by average pooling, after its first ReLU and in its shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        pool = [nn.AvgPool2d(stride)] if stride > 1 else []
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            instance_norm(width),
            nn.ReLU(inplace=True),
            *pool,
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            instance_norm(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, bias=False), *pool, instance_norm(width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class _GlobalAverage(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def resnet_ap(num_classes: int, image_size: int, *, blocks: tuple[int, ...]) -> nn.Sequential:
    """ResNetAP: ResNet with an unstrided stem, and average pooling wherever it would stride."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, padding=3, bias=False),
        instance_norm(64),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(4),
    ]
    channels = 64
    for stage, count in enumerate(blocks):
        width = 64 << stage
        for block in range(count):
            layers.append(_PooledBlock(channels, width, 2 if stage and not block else 1))
            channels = width
    network = nn.Sequential(*layers, _GlobalAverage(), nn.Linear(channels, num_classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _conv(channels: int, width: int, kernel: int, *norm: nn.Module) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
    return [convolution, *norm, nn.ReLU(inplace=True)]


def glad_alexnet(num_classes: int, image_size: int) -> nn.Sequential:
    """GLaD's AlexNet: five convolutions, three maximum pools, no norm, no dropout."""
    side = image_size // 8
    return nn.Sequential(
        *_conv(3, 128, 5),
        nn.MaxPool2d(2),
        *_conv(128, 192, 5),
        nn.MaxPool2d(2),
        *_conv(192, 256, 3),
        *_conv(256, 192, 3),
        *_conv(192, 192, 3),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(192 * side * side, num_classes),
    )


def glad_vgg11(num_classes: int, image_size: int) -> nn.Sequential:
    """GLaD's VGG11: eight convolutions with instance norm, five maximum pools, one linear layer."""
    layers: list[nn.Module] = []
    channels = 3
    for stage in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
        for width in stage:
            layers += _conv(channels, width, 3, instance_norm(width))
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers, nn.AdaptiveMaxPool2d(7), nn.Flatten(), nn.Linear(512 * 7 * 7, num_classes)
    )


class _PlainBlock(nn.Module):
    """Basic block that strides in its first convolution and in its 1x1 shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            instance_norm(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            instance_norm(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), instance_norm(width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def glad_resnet18(num_classes: int, image_size: int) -> nn.Sequential:
    """GLaD's ResNet-18, as for CIFAR: a 3x3 stem of stride 1 and no pool; PyTorch's initialisation.

    Eight basic blocks of widths 64, 128, 256, 512, two each.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 3, padding=1, bias=False),
        instance_norm(64),
        nn.ReLU(inplace=True),
    ]
    channels = 64
    for stage in range(4):
        width = 64 << stage
        layers += [_PlainBlock(channels, width, 2 if stage else 1), _PlainBlock(width, width, 1)]
        channels = width
    return nn.Sequential(*layers, _GlobalAverage(), nn.Linear(channels, num_classes))


class _Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + x


class _Attention(nn.Module):
    """Self-attention over [N, tokens, width]; no bias in queries, keys and values."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.to_qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2))


class _VisionTransformer(nn.Module):
    def __init__(
        self,
        num_classes: int,
        image_size: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.positions = nn.Parameter(torch.randn(1, (image_size // patch) ** 2 + 1, width))
        self.token = nn.Parameter(torch.randn(1, 1, width))
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        for _ in range(depth):
            mlp = nn.Sequential(
                nn.Linear(width, width),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(width, width),
                nn.Dropout(dropout),
            )
            layers += [_Residual(_Attention(width, heads, dropout)), _Residual(mlp)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.layers(x)[:, 0])


def glad_vit(num_classes: int, image_size: int) -> nn.Module:
    """GLaD's ViT: patches of 16, width 512, ten layers of eight heads, dropout .1, no norm."""
    return _VisionTransformer(num_classes, image_size, 16, 512, 10, 8, 0.1)
