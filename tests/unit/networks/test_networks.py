"""The evaluation networks, against parameter counts and forward passes written from the source."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mgd3.base.errors import UserError
from mgd3.networks.architectures import check_network, create_network
from mgd3.networks.names import NETWORKS

COUNTS = {
    "convnet6": (754_570, 858_340),
    "resnetap10": (4_910_922, 4_957_092),
    "resnet18": (11_181_642, 11_227_812),
    "resnet50": (23_528_522, 23_712_932),
    "resnet101": (42_520_650, 42_705_060),
}


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("column, num_classes", [(0, 10), (1, 100)])
def test_parameter_counts_are_the_published_ones(name, column, num_classes):
    with torch.device("meta"):
        network = create_network(name, num_classes, 224)
    assert sum(p.numel() for p in network.parameters()) == COUNTS[name][column]


@pytest.mark.parametrize(
    "family, name", [(family, name) for family, known in NETWORKS.items() for name in known]
)
def test_every_network_works_at_its_smallest_size_and_no_smaller(family, name):
    size = NETWORKS[family][name].min_size
    torch.manual_seed(0)
    network = create_network(name, 7, size, family).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter)  # torchvision's ViT starts with a head of zeros
    logits = network(torch.randn(2, 3, size, size))
    assert logits.shape == (2, 7)
    assert not torch.equal(logits[0], logits[1]), "the image must reach the logits"
    with pytest.raises(UserError, match=f"{name}.*at least {size} px.*{size - 1} px"):
        create_network(name, 7, size - 1, family)


def test_a_deep_convnet_takes_the_images_of_its_protocol():
    network = create_network("conv6", 7, 224, "soft").eval()
    maps = []
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda _, __, out: maps.append(out.shape[-1]))
    assert network(torch.randn(2, 3, 224, 224)).shape == (2, 7)
    assert maps == [224, 112, 56, 28, 14, 7]


def test_the_message_for_small_images_names_networks_that_fit():
    with pytest.raises(UserError) as error:
        create_network("resnet18", 10, 32)
    assert "64 px or more" in error.value.mend and "convnet3" in error.value.mend


def test_an_unknown_network_is_named():
    with pytest.raises(UserError, match="'resnet81'"):
        create_network("resnet81", 10, 64)


# Any network of timm


@pytest.mark.parametrize("name, size", [("resnet10t", 64), ("vit_tiny_patch16_224", 48)])
def test_timm_networks_are_made_for_the_classes_and_the_size(name, size):
    check_network(f"timm:{name}", size)
    torch.manual_seed(0)
    network = create_network(f"timm:{name}", 7, size)
    first = [p.clone() for p in network.parameters()]
    assert network(torch.randn(2, 3, size, size)).shape == (2, 7)
    torch.manual_seed(0)
    again = create_network(f"timm:{name}", 7, size).parameters()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True)), "weights are drawn"


def test_an_unknown_timm_network_is_named_with_suggestions():
    with pytest.raises(UserError, match="'resnet_18'") as error:
        check_network("timm:resnet_18", 224)
    assert "'resnet18'" in error.value.mend
    with pytest.raises(UserError) as error:
        check_network("timm:qqqq", 224)
    assert "list_models" in error.value.mend


def test_images_that_do_not_suit_a_timm_network_are_named():
    with pytest.raises(UserError, match=r"'timm:vit_tiny_patch16_224' .* 8 px"):
        check_network("timm:vit_tiny_patch16_224", 8)


def norm(x, weight, bias):
    """Instance norm by its definition."""
    mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]


def randomised(name, size):
    """A network whose norms are not the identity, and its parameters in order of definition."""
    torch.manual_seed(1)
    network = create_network(name, 10, size).double()
    with torch.no_grad():
        for p in network.parameters():
            if p.ndim == 1:
                p.add_(torch.randn_like(p) * 0.3)
    return network, iter(list(network.parameters()))


def test_convnet6_is_conv_norm_relu_pool_six_times():
    network, p = randomised("convnet6", 100)
    x = y = torch.randn(2, 3, 100, 100, dtype=torch.float64)
    for _ in range(6):
        y = F.conv2d(y, next(p), next(p), padding=1)
        y = F.avg_pool2d(norm(y, next(p), next(p)).relu(), 2)
    expected = F.linear(y.flatten(1), next(p), next(p))
    torch.testing.assert_close(network(x), expected)


def test_resnetap10_pools_where_the_protocol_says():
    network, p = randomised("resnetap10", 64)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    y = F.avg_pool2d(norm(F.conv2d(x, next(p), padding=3), next(p), next(p)).relu(), 4)
    for stride in (1, 2, 2, 2):
        z = norm(F.conv2d(y, next(p), padding=1), next(p), next(p)).relu()
        z = F.avg_pool2d(z, stride)
        z = norm(F.conv2d(z, next(p), padding=1), next(p), next(p))
        if stride == 2:
            y = norm(F.avg_pool2d(F.conv2d(y, next(p)), 2), next(p), next(p))
        y = (z + y).relu()
    expected = F.linear(y.mean((2, 3)), next(p), next(p))
    torch.testing.assert_close(network(x), expected)


def test_resnet18_strides_in_the_first_convolution_of_a_stage():
    network, p = randomised("resnet18", 64)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    y = norm(F.conv2d(x, next(p), stride=2, padding=3), next(p), next(p)).relu()
    y = F.max_pool2d(y, 3, 2, 1)
    for stride in (1, 1, 2, 1, 2, 1, 2, 1):
        z = norm(F.conv2d(y, next(p), stride=stride, padding=1), next(p), next(p)).relu()
        z = norm(F.conv2d(z, next(p), padding=1), next(p), next(p))
        if stride == 2:
            y = norm(F.conv2d(y, next(p), stride=2), next(p), next(p))
        y = (z + y).relu()
    expected = F.linear(y.mean((2, 3)), next(p), next(p))
    torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize("name", ["resnetap10", "resnet18"])
def test_resnet_convolutions_start_with_fan_out_variance(name):
    torch.manual_seed(0)
    for module in create_network(name, 10, 64).modules():
        if isinstance(module, torch.nn.Conv2d):
            expected = (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.05)
        if isinstance(module, torch.nn.GroupNorm):
            assert module.num_groups == module.num_channels and module.eps == 1e-5
            assert (module.weight == 1).all() and (module.bias == 0).all()
