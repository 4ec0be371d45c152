"""Where networks run: the devices that torch can use on this machine."""

from __future__ import annotations

import torch

from partalign.errors import DeviceError


def checked_device(device: str | torch.device) -> torch.device:
    """Return the device of that name, such as "cpu", "cuda" or "cuda:1". Raises DeviceError where it is not here."""
    usable = usable_devices()
    if str(device) not in usable:
        gpu = (
            f"finds {len(usable) - 2}"
            if len(usable) > 2
            else "finds none"
            if torch.version.cuda
            else "is built for none"
        )
        raise DeviceError(
            f"expected a device of this machine ({', '.join(usable)}), found {device}: choose one of these; of GPUs "
            f"this torch {gpu}"
        )
    return torch.device(device)


def usable_devices() -> list[str]:
    """Name every device that torch can use here: the CPU, then the GPUs, the first one also without its number."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return ["cpu"]
    kind = accelerator.type
    return ["cpu", kind, *(f"{kind}:{number}" for number in range(torch.accelerator.device_count()))]
