"""Devices, precision and seeds: what is there, and what is refused."""

import pytest
import torch

from asr_course import build
from asr_course.devices import (
    half_type,
    is_main,
    pick_device,
    set_seed,
)
from asr_course.errors import UserError
from asr_course.training import seed_dropout


def test_devices_that_are_there(monkeypatch):
    """On a machine with two CUDA GPUs, and none of Apple's."""
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UserError, match="is not there"):
        pick_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "", None, "cpu0", "cuda", "meta", "auto:1"])
def test_absent_devices_are_refused(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert pick_device() == torch.device("cpu")
    with pytest.raises(UserError, match="is not there"):
        pick_device(name)


def test_the_type_of_each_precision(monkeypatch):
    """bf16 needs one of two sets of instructions; old versions of torch ask for one."""
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert half_type("no", cuda) is half_type("fp16", cpu) is None
    assert half_type("fp16", cuda) == torch.float16
    for capability, kind in (((7, 5), torch.float16), ((8, 0), torch.bfloat16)):
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda device, c=capability: c
        )
        assert half_type("auto", cuda) == kind
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert half_type("bf16", cpu) == half_type("auto", cpu) == torch.bfloat16
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert half_type("bf16", cuda) == torch.bfloat16
    assert half_type("auto", cpu) is None
    with pytest.raises(UserError, match="CPU has no bfloat16"):
        half_type("bf16", cpu)
    with pytest.raises(UserError, match="unknown precision"):
        half_type("fp8", cuda)


def test_set_seed_repeats():
    set_seed(7)
    first = torch.rand(3)
    set_seed(7)
    assert torch.equal(torch.rand(3), first)


@pytest.mark.parametrize("seed", [-1, 1.0, None, True, 2**63])
def test_seeds_are_whole_numbers(seed):
    with pytest.raises(UserError, match="whole number"):
        set_seed(seed)


def test_dropout_differs_between_steps_and_processes():
    model, drawn = build("idm", "tiny", dropout=0.5), set()
    for seed, step, process in ((3, 0, 0), (3, 1, 0), (3, 0, 1), (4, 0, 0), (3, 0, 0)):
        seed_dropout(model, seed, step, process)
        drawn.add(torch.rand(()).item())
    assert len(drawn) == 4
    model = build("idm", "tiny")  # without dropout nothing is seeded
    before = torch.get_rng_state()
    seed_dropout(model, 3, 0, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_first_process_is_the_main_one(monkeypatch):
    assert is_main()
    monkeypatch.setenv("RANK", "1")
    assert not is_main()
