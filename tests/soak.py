"""Kill `salientry run smoke` at random moments until it ends; its records must equal an uninterrupted run's. `make soak`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from .tiny import recorded


def call(home: Path, out: Path, limit: float | None) -> bool:
    """One call; whether it ended by itself."""
    command = [sys.executable, "-W", "ignore", "-m", "salientry", "run", "smoke", "--out", str(out)]
    process = subprocess.Popen(
        command, env=os.environ | {"SALIENTRY_HOME": str(home)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        if process.wait(limit) != 0:
            raise SystemExit(f"a call ended with {process.returncode}")
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return False
    return True


def main() -> None:
    """Compare a killed run with a whole one."""
    rng, kills = random.Random(), 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        call(root / "whole", root / "whole-out", None)
        print("the uninterrupted run is done", flush=True)
        while not call(root / "killed", root / "killed-out", rng.uniform(10, 100)):
            kills += 1
            print(f"killed {kills} times; {len(list((root / 'killed').glob('*/*/DONE')))} results", flush=True)
        whole, killed = (recorded(root / name) for name in ("whole-out", "killed-out"))
        differing = [name for name in {**whole, **killed} if whole.get(name) != killed.get(name)]
        if differing:
            raise SystemExit(f"{', '.join(differing)} differ after {kills} kills")
    print(f"equal, bit for bit, after {kills} kills")


if __name__ == "__main__":
    main()
