"""A data set larger than the memory that a process may have goes through a run: nobody ever holds all pixels."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits what a process may allocate")
N, SIDE = 20_000, 48
PIXELS = N * 3 * SIDE * SIDE  # 138 MB as uint8
ALLOWED = PIXELS // 2  # bytes beyond what the program itself takes

RUN = """
import resource, sys
from pathlib import Path
import numpy as np
import salientry.experiment.steps as steps
import salientry.store as store
from salientry.classifiers import CompactCNN
from salientry.types import Roles
from salientry.datasets import Arrays, Folder
from salientry.experiment.run import Run
from salientry.experiment.steps import classify, train_classifier

where, kind, damaged, allowed = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])


def computed(pictures, roles, name, workers=1):
    if kind == "folder":
        data = Folder(pictures, roles)
    else:
        images = np.load(pictures / "images.npy", mmap_mode="r")
        data = Arrays(images, np.arange(len(images)) % 4, roles)
    run = Run(Path(where) / name)
    rows = run.dataset(data)
    net = run.do(train_classifier, rows["train"], CompactCNN(width=2, epochs=1, batch=250, shift=0))
    seen = run.do(classify, rows["test"], net)
    run.compute([seen], workers=workers)
    return run.get(seen), run.get(rows)


def whole(parts):
    return np.concatenate([p[:] for p in parts])


def all_at_once(source):
    yield source[:]


computed(Path(where) / "few", Roles(train=250, detector_train=5, validation=5, calibration=5, test=15), "warm")
if damaged == "joined":
    steps.Concatenated = whole
if damaged == "written":
    store.slices = all_at_once
used = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (used + allowed, used + allowed))
seen, rows = computed(Path(where) / "many", Roles(train=4_000, detector_train=500, validation=500, calibration=500, test=6_500), "store")
assert seen.column("logits").shape == (6_500, 4) and np.isfinite(seen.column("logits")).all()
assert rows.column("image", slice(0, 0)).shape[1:] == (3, 48, 48) and len(rows) == 20_000
print("through", len(set(rows.ids.tolist())), sum(int(rows.column("image", [i]).sum()) for i in range(0, 20_000, 1000)))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20,000 pictures of noise in four classes in ``many``, 280 in ``few``; as many in an .npy file."""
    root, rng, made = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0), io.BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(made, "bmp")
    header = made.getvalue()[: -3 * SIDE * SIDE]  # a BMP is that and its pixels
    for name, count in (("few", 280), ("many", N)):
        for k in range(4):
            (root / name / f"class{k}").mkdir(parents=True)
        drawn = np.frombuffer(rng.bytes(3 * SIDE * SIDE * count), np.uint8).reshape(count, 3, SIDE, SIDE)
        np.save(root / f"{name}.npy", drawn)
        for i in range(count):
            (root / name / f"class{i % 4}" / f"{i:05d}.bmp").write_bytes(header + drawn[i].tobytes())
    return root


def went(pictures: Path, tmp_path: Path, kind: str, damaged: str = "") -> subprocess.CompletedProcess[str]:
    for name in ("few", "many"):
        if kind == "folder":
            (tmp_path / name).symlink_to(pictures / name)
        else:
            (tmp_path / name).mkdir()
            (tmp_path / name / "images.npy").symlink_to(pictures / f"{name}.npy")
    words = [str(tmp_path), kind, damaged, str(ALLOWED)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    return subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "arrays"])
def test_it_goes_through_a_run(pictures: Path, tmp_path: Path, kind: str) -> None:
    done = went(pictures, tmp_path, kind)
    assert done.returncode == 0, done.stderr
    word, count, _ = done.stdout.split()
    assert (word, count) == ("through", str(N))


@pytest.mark.slow
@pytest.mark.parametrize("damaged", ["joined", "written"])
def test_whoever_holds_all_pixels_is_caught(pictures: Path, tmp_path: Path, damaged: str) -> None:
    """The test above can fail: the same run with one place that reads everything at once."""
    done = went(pictures, tmp_path, "arrays", damaged)
    assert done.returncode != 0
    assert "MemoryError" in done.stderr or "Unable to allocate" in done.stderr
