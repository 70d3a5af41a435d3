"""What computes here: device, processor and versions. On another processor the same seed and versions give other last digits, and nets
that are trained on them other numbers (README: how far two runs of one recipe differ).
"""

from __future__ import annotations

import contextvars
import functools
import os
import platform
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch

THREADS: contextvars.ContextVar[int] = contextvars.ContextVar("threads", default=1)  # of a step, where it may use several
ALONE = threading.RLock()  # of who computes: torch's random numbers, threads and modes, and warnings, are the process's, not a thread's


def machine(device: str) -> dict[str, Any]:
    """For the record of a step: device, hardware, system, processor, cores, threads, instructions (the widest that torch uses) and
    versions.
    """
    import scipy

    return {
        "device": device,
        "hardware": torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine(),
        "system": platform.system(),
        "processor": processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def processor(path: str = "/proc/cpuinfo") -> str:
    """The processor's name, and of one that does not say which of its kind it is, family and model."""
    try:
        lines = [line.split(":", 1) for line in Path(path).read_text().splitlines() if ":" in line]
    except OSError:
        return platform.processor() or "unknown"
    said = {k.strip(): v.strip() for k, v in reversed(lines)}
    parts = [said.get("model name") or platform.processor() or "unknown"]
    return ", ".join(parts + [f"{k} {said[k]}" for k in ("cpu family", "model") if k in said])
