"""Where a training runs: device, precision, processes, random seeds."""

import multiprocessing
import os

import torch
import torch.distributed as dist
from accelerate import PartialState

from asr_course.errors import UserError, choose


def pick_device(name: str = "auto") -> torch.device:
    """The device of this name (UserError if it is not there); "auto": CUDA or CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(str(name))
        count = torch.get_device_module(device).device_count()
    except RuntimeError:  # no such kind of device
        count = 0
    if count == 0 or (device.index or 0) >= count:
        raise UserError(f"device {str(name)!r} is not there; use 'auto' or 'cpu'")
    return device


def half_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The 16-bit type of this precision, or None: "fp16" is float32 except on CUDA.

    "auto": bf16 where the GPU or CPU computes with it, else fp16. UserError on "bf16"
    on a CPU without instructions for it: float32 is faster there.
    """
    choose("precision", precision, ("no", "auto", "fp16", "bf16"))
    checks = "_is_avx512_bf16_supported", "_is_amx_tile_supported"
    native = any(getattr(torch.cpu, check, bool)() for check in checks)  # bool(): False
    if precision == "auto":
        bf16 = device.type == "cpu" and native
        if device.type == "cuda":
            bf16 = torch.cuda.get_device_capability(device) >= (8, 0)
        precision = "bf16" if bf16 else "fp16"
    if precision == "no" or (precision != "bf16" and device.type != "cuda"):
        return None
    if precision == "fp16":
        return torch.float16
    if device.type == "cpu" and not native:
        raise UserError("this CPU has no bfloat16 instructions; use precision 'no'")
    return torch.bfloat16


def join_processes(device: torch.device) -> tuple[int, int, torch.device]:
    """(rank, number of processes, device) of this process.

    accelerate launch and notebook_launcher start several, on one machine or more.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return 0, 1, device
    spare_threads()
    state = PartialState(cpu=device.type == "cpu")  # makes the process group
    return state.process_index, state.num_processes, state.device


def spare_threads() -> None:
    """One thread in a process that notebook_launcher forked.

    OpenMP would wait forever for its threads, which do not survive a fork.
    """
    if multiprocessing.parent_process():
        torch.set_num_threads(1)


def mean_over_processes(value: float, processes: int, device: torch.device) -> float:
    """The mean of a number that every process has its own value of."""
    if processes == 1:
        return value
    total = torch.tensor(value, dtype=torch.float32, device=device)
    dist.all_reduce(total)
    return total.item() / processes


def leave_processes() -> None:
    """Destroy the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def is_main() -> bool:
    """Whether this process is the one that prints and writes."""
    return int(os.environ.get("RANK", 0)) == 0


def set_seed(seed: int) -> None:
    """Seed the weights of models built from now on. UserError unless 0, 1, 2, ..."""
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise UserError(f"seed must be a whole number of 0 or more, not {seed!r}")
    torch.manual_seed(seed)
