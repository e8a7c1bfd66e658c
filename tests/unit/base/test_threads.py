"""How many threads a training on the CPU takes, whatever its job was granted."""

from __future__ import annotations

import pytest
import torch

from mgd3.base.errors import UserError
from mgd3.base.threads import PREPARING_THREADS, computed_by, preparing, processor


@pytest.mark.parametrize("granted", [None, 1, 3])
def test_what_others_wait_for_takes_the_same_threads_everywhere(granted):
    before = torch.get_num_threads()
    with preparing("cpu", granted) as device:
        assert device == "cpu"
        assert computed_by() == {"processor": processor(), "threads": PREPARING_THREADS}
    assert torch.get_num_threads() == before


def test_threads_are_given_back_after_a_mistake():
    before = torch.get_num_threads()
    with pytest.raises(UserError), preparing("cpu", 3):
        raise UserError("it diverged", "check the images")
    assert torch.get_num_threads() == before
