import subprocess
import sys

import pytest
import torch

from partalign.errors import DeviceError
from partalign.model.device import checked_device, usable_devices


def test_every_device_that_is_named_can_hold_a_tensor():
    assert usable_devices()[0] == "cpu"
    for name in usable_devices():
        assert torch.ones(2, device=checked_device(name)).sum().item() == 2
    assert checked_device(torch.ones(1).device) == torch.device("cpu")


@pytest.mark.parametrize(
    "name", ["banana", "", "cuda:", "cuda:99", "cuda:-1", "CPU", "meta", "cpu,cuda", torch.device("meta")]
)
def test_others_are_refused_with_those_that_are_here(name):
    with pytest.raises(DeviceError, match=r"expected a device of this machine \(cpu.*\), found ") as refused:
        checked_device(name)
    assert f"found {name}: choose" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_a_gpu_cuda_is_refused():
    """In a process that sees none, so that it holds on every machine."""
    program = "from partalign.model.device import *; print(usable_devices()); checked_device('cuda')"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"CUDA_VISIBLE_DEVICES": ""}
    )
    assert run.stdout == "['cpu']\n"
    assert "DeviceError: expected a device of this machine (cpu), found cuda: choose" in run.stderr
