from __future__ import annotations

import platform
from pathlib import Path

import torch

from salientry.machine import cores, machine, processor

CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC

processor\t: 1
model name\t: another
"""


def test_the_first_processor_is_named_and_what_its_name_leaves_open(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    assert processor(str(tmp_path / "cpuinfo")) == "AMD EPYC, cpu family 25, model 17"
    (tmp_path / "named").write_text("model name : Some CPU @ 3 GHz\n")
    assert processor(str(tmp_path / "named")) == "Some CPU @ 3 GHz"
    assert processor(str(tmp_path / "none")) == (platform.processor() or "unknown")


def test_a_machine_says_what_moves_last_digits() -> None:
    found = machine("cpu")
    assert found["processor"] == processor() and found["cores"] == cores() >= 1
    assert found["threads"] == torch.get_num_threads()
    assert found["instructions"] == torch.backends.cpu.get_cpu_capability() != ""
    assert (found["device"], found["hardware"], found["torch"]) == ("cpu", platform.machine(), torch.__version__)
