"""How a process uses its machine: threads, device, memory."""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UserError

if TYPE_CHECKING:
    import torch


def prepare(threads: int | None, *, online: bool = False) -> None:
    """Call before torch is imported. Two jobs on two cores must not spin for each other.

    Unless `online`, the Hugging Face libraries look at local files only: a compute node may have no
    network, and a job must not depend on what a hub says today.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not online:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)


def visible_gpus() -> list[str]:
    """NVIDIA devices this process may use, as CUDA_VISIBLE_DEVICES names them.

    Told without importing torch.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return [str(k) for k in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
    names = [name.strip() for name in chosen.split(",")]
    # CUDA, too, stops at the first name that is none.
    return list(itertools.takewhile(lambda name: name not in ("", "-1", "NoDevFiles"), names))


def claim_gpu() -> str | None:
    """Keep one of several GPUs for this process until it ends, however it ends.

    Call before torch is imported, which then sees that GPU only. Waits while other processes of
    the same user keep them all. With one GPU or none (as in a SLURM job) there is nothing to do.

    Returns:
        The GPU that is kept, or None.
    """
    gpus = visible_gpus()
    if len(gpus) < 2:
        return None
    told = False
    while (gpu := next(filter(_lock, gpus), None)) is None:
        if not told:
            print(f"waiting: other jobs use every GPU ({', '.join(gpus)})", file=sys.stderr)
            told = True
        time.sleep(1)
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    print(f"on GPU {gpu} of {', '.join(gpus)}", file=sys.stderr)
    return gpu


def _lock(gpu: str) -> bool:
    name = "".join(c if c.isalnum() else "-" for c in gpu)
    path = Path(tempfile.gettempdir()) / f"mgd3-{os.getuid()}-gpu{name}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    # Left open: the system frees it when the process ends, even by SIGKILL.
    return True


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, where the C library is glibc.

    By default glibc returns every large activation to the system and has it zeroed again for the
    next one: 1.3 to 1.9 times the time of a training step on a CPU.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return  # another C library
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)


def total_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def require_writable(folder: str | Path) -> None:
    """Raise UserError unless files can be written below a folder that need not exist yet."""
    path = Path(folder)
    while not path.exists():
        path = path.parent
    if not path.is_dir():
        raise UserError(f"{path} is not a folder", "move that file away, and run again")
    if not os.access(path, os.W_OK):
        raise UserError(
            f"cannot write in {path.resolve()}",
            "make it writable, or copy the workflow elsewhere",
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device's or the machine's memory is used up."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    said = ("can't allocate memory", "not enough memory", "ALLOC_FAILED", "std::bad_alloc")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in said)


def out_of_memory(error: BaseException, stage: str) -> UserError | None:
    """What to tell the user where a stage ended for want of memory; None for another error."""
    if not is_out_of_memory(error):
        return None
    mend = "use a machine with more memory; on a cluster, raise this rule's `mem_mb`"
    return UserError(f"not enough memory for {stage}: {error}", mend)


def pick_device(name: str) -> str:
    """ "auto" is CUDA where there is one.

    Raises:
        UserError: CUDA was asked for and there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if available else "cpu"
    if name.startswith("cuda") and not available:
        raise UserError(
            f"device {name!r} was asked for, but torch finds no GPU",
            "set `resources: {device: auto}` (or cpu), or mend the driver",
        )
    return name


def network_dtype(precision: str, device: str) -> torch.dtype:
    """The dtype of a generator's network: bfloat16 becomes float16 on a GPU that lacks it."""
    import torch

    if precision == "float32":
        return torch.float32
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu and torch.cuda.get_device_capability(device) < (8, 0):
        return torch.float16
    return torch.bfloat16
