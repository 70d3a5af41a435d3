"""Odd and damaged input in great number, through the command line: `make fuzz`, or `python -m tests.fuzz [CASES] [SEED] [--only N]`.

Each case is a call of `salientry` in a process of its own, in a folder of its own, with something wrong or unusual in it: a picture, a
guard, a network, weights, an archive of images, records, a store, an export, an option. Whatever it is, a call ends by itself in time, with
an exit code of the command line's own, without a traceback, and with no control characters among its lines. And what is damaged is refused,
or what is said is what is said of the undamaged: a wrong answer is the worst of all.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from salientry import cli
from salientry.cli import running

from .tiny import tiny

SECONDS, BESIDE, MEMORY = 90.0, 2, 6 * 2**30
OWN = {0, 1, 2, 3, 4, 5}  # exit codes of the command line; 70 is a bug
SIDE = 28  # of the digits


@dataclass
class Case:
    """One call.

    Attributes:
        kind: what is odd about it.
        args: of the command line.
        same: what an undamaged call prints to stdout; a call that does not refuse must print just that. None: not compared.
        refused: it must not be taken.
        env: further variables.
        says: words that must stand in what a refusal says.
    """

    kind: str
    args: list[str]
    same: str | None = None
    refused: bool = False
    env: dict[str, str] = field(default_factory=dict)
    says: str = ""


@dataclass
class World:
    """What a run left, sound: copied into each case, damaged there."""

    root: Path
    plain: dict[str, str] = field(default_factory=dict)  # what undamaged calls print

    def copy(self, name: str, folder: Path) -> Path:
        """A copy that may be damaged."""
        return Path(shutil.copytree(self.root / name, folder / name))


def world(root: Path) -> World:
    """The tiny run: records, guard, classifier, pictures, an archive, an export, a store."""
    made = World(root)
    home = root / "home"
    home.mkdir(parents=True)
    os.environ["SALIENTRY_HOME"] = str(root / "store")
    code, out, err = called(["run", "tiny", "--workers", "1", "--out", str(root / "left")], home, seconds=600)
    assert code in (0, 1), err
    (root / "pictures").mkdir()
    for name in ("natural", "attacked"):
        shutil.copy(root / "left" / f"{name}.png", root / "pictures" / f"{name}.png")
    rng = np.random.default_rng(0)
    np.savez(root / "images.npz", images=rng.integers(0, 256, (40, 1, SIDE, SIDE), np.uint8), labels=np.arange(40) % 10)
    guard, picture = root / "left" / "guard", root / "pictures" / "natural.png"
    for key, args in {
        "check": ["check", str(guard), str(picture)],
        "verify": ["report", str(root / "left"), "--verify"],
        "export": ["export", str(root / "export")],
    }.items():
        code, out, err = called(args, home)
        assert code in (0, 1), (key, err)
        made.plain[key] = out.replace(str(root), "ROOT")
    return made


# --- one call in a process of its own --------------------------------------------------------------------------


def called(args: list[str], folder: Path, env: dict[str, str] | None = None, seconds: float = SECONDS) -> tuple[int | None, str, str]:
    """Exit code (None: it hung), stdout and stderr of a call in ``folder``."""
    return finished(started(args, folder, env), time.monotonic() + seconds)


@dataclass
class Call:
    """A process that computes a call."""

    pid: int
    out: Path
    err: Path


def started(args: list[str], folder: Path, env: dict[str, str] | None = None) -> Call:
    """Fork: the package is there already, which saves each case some seconds."""
    call = Call(0, folder / ".stdout", folder / ".stderr")
    sys.stdout.flush()
    call.pid = os.fork()
    if call.pid:
        return call
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        for fd, path in ((0, Path(os.devnull)), (1, call.out), (2, call.err)):
            opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(opened, fd)
        coding = (env or {}).get("PYTHONIOENCODING", "utf-8")
        sys.stdout = open(1, "w", encoding=coding, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding=coding, errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.environ.update(env or {})
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        sys.argv, sys.path[0] = ["salientry", *args], str(folder)
        running.recipe_named = lambda name: tiny  # type: ignore[assignment]
        warnings.resetwarnings()
        try:
            cli.main()
            code = 0
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 0 if e.code is None else 98
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(call: Call) -> int | None:
    """Its exit code, negative for a signal; None while it computes."""
    pid, status = os.waitpid(call.pid, os.WNOHANG)
    return None if pid == 0 else os.waitstatus_to_exitcode(status)


def finished(call: Call, until: float) -> tuple[int | None, str, str]:
    """Wait for a call, and end it when its time is over."""
    code = ended(call)
    while code is None and time.monotonic() < until:
        time.sleep(0.02)
        code = ended(call)
    return (code, *printed(call, code))


def printed(call: Call, code: int | None) -> tuple[str, str]:
    """What a call printed; one that still computes is killed first."""
    if code is None:
        os.killpg(call.pid, signal.SIGKILL)
        os.waitpid(call.pid, 0)
    out, err = (p.read_bytes().decode("utf-8", "surrogateescape") if p.exists() else "" for p in (call.out, call.err))
    return out, err


# --- damage ------------------------------------------------------------------------------------------------------


def damage(rng: random.Random, path: Path) -> str:
    """Something is wrong with this file now; what."""
    raw = path.read_bytes()
    ways: list[Callable[[], str]] = [lambda: flipped(rng, path, raw)] * 3
    ways += [lambda: put(path, raw[: rng.randrange(len(raw))], "cut short"), lambda: put(path, b"", "empty")]
    ways += [lambda: put(path, rng.randbytes(200), "noise"), lambda: put(path, raw + rng.randbytes(9), "longer")]
    ways += [lambda: instead(path, os.mkfifo, "a pipe"), lambda: instead(path, os.mkdir, "a folder")]
    ways += [lambda: instead(path, lambda p: os.symlink(p, p), "a link to itself"), lambda: instead(path, None, "gone")]
    if path.suffix == ".json":
        ways += [lambda: reworded(rng, path)] * 8
    return f"{path.name} {rng.choice(ways)()}"


def put(path: Path, raw: bytes, said: str) -> str:
    path.unlink()
    path.write_bytes(raw)
    return said


def instead(path: Path, make: Callable[[Path], Any] | None, said: str) -> str:
    path.unlink()
    if make:
        make(path)
    return f"is {said}"


def flipped(rng: random.Random, path: Path, raw: bytes) -> str:
    at, bit = rng.randrange(len(raw)), rng.randrange(8)
    return put(path, raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :], f"byte {at} bit {bit}")


ODD = (
    "null",
    "[]",
    "{}",
    '"x"',
    "-1",
    "0",
    "1e400",
    "NaN",
    "true",
    "9" * 5000,
    "[" * 3000 + "]" * 3000,
    '"\\ud800"',
    "1048576",
    '"../../x"',
    "0.5",
)


def reworded(rng: random.Random, path: Path) -> str:
    """One value of a JSON file is another one, or is missing; or the file is no JSON."""
    body = json.loads(path.read_bytes())
    if rng.random() < 0.15:
        raw = rng.choice([rng.choice(ODD).encode(), b"\xff\xfe{}", b'{"a": 1, "a": 2}', b"{" * 5000])
        return put(path, raw, f"reads {raw[:20]!r}")
    places: list[tuple[Any, Any]] = []

    def walk(node: Any, depth: int) -> None:
        for k in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, k))
            if depth < 5 and len(places) < 4000:
                walk(node[k], depth + 1)

    walk(body, 0)
    shallow = [p for p in places if p[0] is body]
    node, key = rng.choice(shallow if rng.random() < 0.4 else places)
    if rng.random() < 0.2:
        del node[key]
        return put(path, json.dumps(body).encode(), f"lacks {key!r}")
    mark, odd = "\x00here\x00", rng.choice(ODD)
    node[key] = mark
    return put(path, json.dumps(body).replace(json.dumps(mark), odd).encode(), f"{key!r} is {odd[:20]}")


# --- kinds of cases: (chance, what is sound, an empty folder) -> case --------------------------------------------


def a_guard(rng: random.Random, w: World, folder: Path) -> Case:
    left = w.copy("left", folder)
    files = [p for p in [*(left / "guard").rglob("*"), *(left / "classifier").rglob("*")] if p.is_file()]
    said = damage(rng, rng.choice(files))
    same = w.plain["check"].replace("ROOT/left", "left").replace("ROOT/", f"{w.root}/")
    return Case(f"guard: {said}", ["check", "left/guard", str(w.root / "pictures" / "natural.png")], same)


def chunk(kind: bytes, raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + kind + raw + struct.pack(">I", zlib.crc32(kind + raw))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG by hand: what Pillow will not write."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def sixteen(rng: random.Random, path: Path, colour: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    path.write_bytes(png(SIDE, SIDE, 16, colour, b"".join(b"\0" + rng.randbytes(2 * channels * SIDE) for _ in range(SIDE))))


def frames(rng: random.Random, path: Path) -> None:
    made = [Image.fromarray(np.full((SIDE, SIDE), v, np.uint8)) for v in (0, 200)]
    made[0].save(path, save_all=True, append_images=made[1:])


NAMES = (
    "a\nclean   good.png",
    "\x1b[31mred\x1b[0m.png",
    "é日本.png",
    "-rf.png",
    " .png",
    "a\u202egnp.png",
    "x" * 200 + ".png",
    b"\xff\xfe.png",
)


def a_picture(rng: random.Random, w: World, folder: Path) -> Case:
    grey = np.array(Image.open(w.root / "pictures" / "natural.png"))
    colour = np.stack([grey] * 3, -1)
    clear = np.dstack([colour, np.full_like(grey, 128)])
    plain = Image.fromarray(grey)
    exif = Image.Exif()
    exif[0x0112] = rng.randrange(2, 9)
    ways: dict[str, tuple[str, Callable[[Path], Any], bool]] = {
        "16-bit RGB": ("x.png", lambda p: sixteen(rng, p, 2), True),
        "16-bit RGBA": ("x.png", lambda p: sixteen(rng, p, 6), True),
        "16-bit LA": ("x.png", lambda p: sixteen(rng, p, 4), True),
        "16-bit grey": ("x.png", lambda p: sixteen(rng, p, 0), True),
        "alpha": ("x.png", lambda p: Image.fromarray(clear).save(p), True),
        "LA": ("x.png", lambda p: Image.fromarray(clear).convert("LA").save(p), True),
        "palette with a clear colour": ("x.png", lambda p: plain.convert("P").save(p, transparency=0), True),
        "CMYK": ("x.jpg", lambda p: Image.fromarray(colour).convert("CMYK").save(p), True),
        "1 bit": ("x.png", lambda p: plain.convert("1").save(p), False),
        "float TIFF": ("x.tiff", lambda p: plain.convert("F").save(p), True),
        "GIF of frames": ("x.gif", lambda p: frames(rng, p), True),
        "WebP of frames": ("x.webp", lambda p: frames(rng, p), True),
        "TIFF of frames": ("x.tiff", lambda p: frames(rng, p), True),
        "APNG": ("x.png", lambda p: frames(rng, p), True),
        "turned": ("x.jpg", lambda p: plain.save(p, exif=exif.tobytes()), False),
        "another size": ("x.png", lambda p: plain.resize((rng.randrange(1, 99), 17)).save(p), True),
        "144 megapixels": ("x.png", lambda p: p.write_bytes(png(12000, 12000, 8, 0, b"\0")), True),
        "no rows": ("x.png", lambda p: p.write_bytes(png(SIDE, SIDE, 8, 0, b"")), True),
        "text": ("x.png", lambda p: p.write_text("I am a picture"), True),
        "another suffix": ("x.jpg", lambda p: plain.save(p, format="PNG"), False),
        "colour that is grey": ("x.png", lambda p: Image.fromarray(colour).save(p), False),
        "a pipe": ("x.png", lambda p: os.mkfifo(p), True),
        "a folder": ("x.png", lambda p: p.mkdir(), True),
        "a link to itself": ("x.png", lambda p: p.symlink_to(p), True),
        "not there": ("x.png", lambda p: None, True),
        "damaged": ("x.png", lambda p: (plain.save(p), damage(rng, p)), False),
    }
    if rng.random() < 0.3:
        name = rng.choice(NAMES)
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + (name if isinstance(name, bytes) else name.encode())))
        with open(path, "wb") as f:
            plain.save(f, format="PNG") if rng.random() < 0.6 else f.write(b"no picture")
        env = {"PYTHONIOENCODING": rng.choice(["utf-8", "latin-1", "cp1252", "ascii"])}
        more = rng.choice([[], ["--json"], ["--overlay", "maps"]])
        return Case(
            f"picture called {path.name!r}, {env['PYTHONIOENCODING']} {more}",
            ["check", str(w.root / "left/guard"), str(path), *more],
            env=env,
        )
    said = rng.choice(list(ways))
    name, make, refused = ways[said]
    make(folder / name)
    beside = [str(w.root / "pictures" / "natural.png")] if rng.random() < 0.4 else []
    return Case(f"picture: {said}", ["check", str(w.root / "left/guard"), *beside, name], refused=refused)


NETS = {
    "raise KeyError('no such layer')": True,
    "raise AssertionError": True,
    "raise MemoryError": True,
    "raise SystemExit(0)": True,
    "raise RuntimeError('a\\nb')": True,
    "raise ValueError('\\x1b[31m')": True,
    "return None": True,
    "return z.softmax(1)": True,
    "return z.sigmoid()": True,
    "return z * float('nan')": True,
    "return z[:1]": True,
    "return z.sum()": True,
    "return z + torch.rand_like(z)": True,
    "return z - z.mean(0)": True,
    "return z.detach()": False,
    "return z.half()": False,
    "return z.double()": False,
    "return z[:, :1]": False,
    "return {'a': z, 'b': z}": True,
    "return (z, z)": False,
    "return z.flatten()": True,
    "return z[:, :, None]": True,
    "x.clamp_(0, 0.5); return z": False,
    "with torch.no_grad(): return self.net(x * 1)": False,
    "return z * 1e4": False,
    "return z": False,
}
MODULE = """
import torch
from torch import nn
{top}
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        {init}
    def forward(self, x):
        z = self.net(x)
        {forward}
def build():
    torch.manual_seed(0)
    {build}
    return Net()
thing = 3
"""
BREAKS = (
    "raise KeyError(1)",
    "raise SystemExit(3)",
    "raise ImportError('gone')",
    "1 / 0",
    "import not_there",
    "raise MemoryError",
    "exit(1)",
    "assert False",
)


def a_network(rng: random.Random, w: World, folder: Path) -> Case:
    forward, top, init, build, name = "return z", "", "pass", "pass", "mine:build"
    draw, refused = rng.random(), True
    if draw < 0.65:
        forward, refused = rng.choice(list(NETS.items()))
    elif draw < 0.85:
        where, what = rng.choice(["top", "init", "build"]), rng.choice(BREAKS)
        top, init, build = (what if where == p else v for p, v in (("top", top), ("init", init), ("build", build)))
    else:
        name = rng.choice(
            ["mine:nothing", "mine:thing", "mine", "nowhere:build", ":", "mine:", ":build", "mine:build:x", "os:getcwd", "é:é", "../x:y"]
        )
    (folder / "mine.py").write_text(MODULE.format(top=top, init=init, build=build, forward=forward))
    args = ["--classifier", name, "--attack", rng.choice(["fgsm", "bim", "jsma"]), "--set", "steps=2"]
    args = args[:4] if "fgsm" in args else args
    said = (
        name
        if name != "mine:build"
        else next(s for s in (top, init if init != "pass" else "", build if build != "pass" else "", forward) if s)
    )
    return Case(f"network: {said}", ["attack", *args, "--data", str(w.root / "images.npz"), "--out", "out"], refused=refused)


def some_weights(rng: random.Random, w: World, folder: Path) -> Case:
    (folder / "mine.py").write_text(MODULE.format(top="", init="pass", build="pass", forward="return z"))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    state = {f"net.{k}": v for k, v in net.state_dict().items()}
    path = folder / rng.choice(["w.pt", "w.pth", "w.safetensors", "w"])
    ways: dict[str, tuple[Any, bool | None]] = {
        "sound": (state, False),
        "module.": ({f"module.{k}": v for k, v in state.items()}, False),
        "_orig_mod.": ({f"_orig_mod.{k}": v for k, v in state.items()}, False),
        "state_dict": ({"state_dict": state, "epoch": 3}, False),
        "a whole network": (net, True),
        "a list": ([1, 2], True),
        "another net's": (torch.nn.Linear(3, 3).state_dict(), True),
        "numbers": ({k: 3 for k in state}, True),
        "nothing": ({}, True),
        "half": ({k: v.half() for k, v in state.items()}, False),
        "nan": ({k: v * float("nan") for k, v in state.items()}, True),
        "one missing": (dict(list(state.items())[:1]), True),
        "damaged": (state, None),
    }
    said = rng.choice(list(ways))
    body, refused = ways[said]
    if path.suffix == ".safetensors" and isinstance(body, dict) and all(isinstance(v, torch.Tensor) for v in body.values()):
        from safetensors.torch import save_file

        save_file(body, path)
    else:
        torch.save(body, path)
        refused = True if path.suffix == ".safetensors" else refused
    if refused is None:
        said = damage(rng, path)
    args = [
        "attack",
        "--classifier",
        "mine:build",
        "--weights",
        path.name,
        "--attack",
        "fgsm",
        "--data",
        str(w.root / "images.npz"),
        "--out",
        "out",
    ]
    return Case(f"weights: {said}, {path.suffix}", args, refused=bool(refused))


def an_archive(rng: random.Random, w: World, folder: Path) -> Case:
    (folder / "mine.py").write_text(MODULE.format(top="", init="pass", build="pass", forward="return z"))
    good = dict(np.load(w.root / "images.npz"))
    x, y = good["images"], good["labels"]
    ways: dict[str, tuple[dict[str, Any], bool]] = {
        "float64": ({"images": x / 255, "labels": y}, False),
        "above 1": ({"images": x / 99.0, "labels": y}, True),
        "nan": ({"images": np.where(x > 250, np.nan, x / 255), "labels": y}, True),
        "int64": ({"images": x.astype(np.int64), "labels": y}, True),
        "channels last": ({"images": np.moveaxis(x, 1, 3), "labels": y}, True),
        "no channel": ({"images": x[:, 0], "labels": y}, True),
        "objects": ({"images": np.array([{}, 1], object), "labels": y}, True),
        "no images": ({"images": x[:0], "labels": y[:0]}, True),
        "labels too few": ({"images": x, "labels": y[:2]}, True),
        "labels of classes that are not": ({"images": x, "labels": y + 50}, True),
        "labels below 0": ({"images": x, "labels": y - 3}, True),
        "labels float": ({"images": x, "labels": y + 0.5}, True),
        "labels int32": ({"images": x, "labels": y.astype(np.int32)}, False),
        "another name": ({"x": x}, True),
        "complex": ({"images": x * 1j}, True),
        "bool": ({"images": x > 9, "labels": y}, True),
        "other size": ({"images": x[..., :20], "labels": y}, True),
    }
    path = folder / "images.npz"
    draw = rng.random()
    refused = False
    if draw < 0.6:
        said = rng.choice(list(ways))
        arrays, refused = ways[said]
        np.savez(path, **arrays)
    elif draw < 0.7:
        said, refused = "3 GiB of zeros", True
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z, z.open("images.npy", "w", force_zip64=True) as f:
            head = np.lib.format
            head.write_array_header_1_0(f, {"descr": "|u1", "fortran_order": False, "shape": (3 << 20, 1, 32, 32)})  # type: ignore[arg-type]
            for _ in range(8):  # a header that says more than is there is as good
                f.write(bytes(1 << 20))
    else:
        np.savez(path, **good)
        said = damage(rng, path)
    args = ["attack", "--classifier", "mine:build", "--attack", "fgsm", "--data", "images.npz", "--out", "out"]
    return Case(f"archive: {said}", args, refused=refused)


def a_folder(rng: random.Random, w: World, folder: Path) -> Case:
    (folder / "mine.py").write_text(MODULE.format(top="", init="pass", build="pass", forward="return z"))
    data = folder / "data"
    grey = Image.open(w.root / "pictures" / "natural.png")
    for k in range(3):
        (data / str(k)).mkdir(parents=True)
        for i in range(2):
            grey.save(data / str(k) / f"{i}.png")
    ways: dict[str, Callable[[], Any]] = {
        "a broken one": lambda: damage(rng, data / "1" / "0.png"),
        "another size": lambda: grey.resize((9, 9)).save(data / "1" / "0.png"),
        "colour": lambda: Image.merge("RGB", [grey, grey, grey.rotate(90)]).save(data / "1" / "0.png"),
        "grey stored as colour": lambda: grey.convert("RGB").save(data / "1" / "0.png"),
        "an empty class": lambda: (data / "7").mkdir(),
        "one beside": lambda: grey.save(data / "x.png"),
        "a pipe": lambda: os.mkfifo(data / "1" / "p.png"),
        "a loop": lambda: (data / "1" / "loop").symlink_to(data),
        "an odd class": lambda: (data / "0").rename(data / "\x1b[1mzero\nclean"),
        "a class that cannot be read": lambda: (data / "2").chmod(0),
        "no folder": lambda: shutil.rmtree(data),
    }
    said = rng.choice(list(ways))
    ways[said]()
    args = [
        "attack",
        "--classifier",
        "mine:build",
        "--attack",
        "fgsm",
        "--data",
        "data",
        "--out",
        "out",
        *rng.choice([[], ["--png"], ["--limit", "2"]]),
    ]
    return Case(f"folder: {said}", args)


def some_records(rng: random.Random, w: World, folder: Path) -> Case:
    left = w.copy("left", folder)
    files = [p for p in left.iterdir() if p.is_file() and p.suffix in (".json", ".safetensors", ".csv") and "gallery" not in p.name]
    files += list((left / "scores").iterdir())
    path = rng.choice([*files, *[p for p in files if p.name in ("records.json", "report.json")] * 3])
    if path.suffix == ".json" and rng.random() < 0.2:
        raw = path.read_bytes()
        path.unlink()
        path = path.with_name(path.name + ".xz")
        bomb = rng.random() < 0.3
        path.write_bytes(lzma.compress(bytes(1 << 28) if bomb else raw, preset=0))
        said = f"{path.name} is a bomb" if bomb else f"packed, {damage(rng, path)}"
    else:
        said = damage(rng, path)
    draw = rng.random()
    if draw < 0.6:
        return Case(f"records: {said}, verified", ["report", "left", "--verify"], w.plain["verify"].replace("ROOT/", ""))
    args = ["report", "left", *rng.choice([[], ["--cells", "figure2"], ["--claims", "claims.md"]])]
    return Case(f"records: {said}, {args[2:]}", args)


def a_store(rng: random.Random, w: World, folder: Path) -> Case:
    store = w.copy("store", folder)
    files = [p for p in store.rglob("*") if p.is_file()]
    said = damage(rng, rng.choice(files))
    if rng.random() < 0.3:
        return Case(f"store: {said}, export", ["export", "packed", "--store", "store"])
    command = rng.choice([["run", "tiny", "--workers", "1", "--out", "out"], ["plan", "tiny"]])
    return Case(f"store: {said}, {command[0]}", command, env={"SALIENTRY_HOME": str(store)})


def an_export(rng: random.Random, w: World, folder: Path) -> Case:
    packed = w.copy("export", folder)
    said = damage(rng, rng.choice([p for p in packed.iterdir() if p.is_file()]))
    return Case(f"export: {said}", ["import", "export", "--store", "fresh"])


OPTIONS = (
    ["run", "tiny", "--workers", "100000"],
    ["run", "tiny", "--workers", "-3"],
    ["run", "tiny", "--workers", "x"],
    ["run", "tiny", "--device", "cuda:99"],
    ["run", "tiny", "--device", "\x1b[1m"],
    ["run", "tiny", "--numerics", "float7"],
    ["run", "tiny", "--seed", "9" * 30],
    ["run", "tiny", "--seed", "-1", "--only", "zz"],
    ["run", "tiny", "nothing=1"],
    ["run", "tiny", "=", "a=", "=b"],
    ["run", "tiny", "action=" + "[" * 999],
    ["run", "tiny", "--only", "random:" + "9" * 30, "--compare", "nowhere"],
    ["run", "tiny", "--only", "abc", "--out", "x"],
    ["run", "tiny", "--out", "/dev/null"],
    ["run", "tiny", "--out", "/proc/nope"],
    ["plan", "tiny", "--device", "tpu"],
    ["plan"],
    ["plan", "\n"],
    ["report", "/dev/null"],
    ["report", "\x00x"],
    ["report", "nowhere", "--cells", "figure9"],
    ["report", "x", "y", "z", "--claims", "/dev/full"],
    ["check", "nowhere", "x.png"],
    ["check", "/dev/null", "/dev/zero"],
    ["import", "nowhere"],
    ["import", "/dev/null", "--store", "/dev/null"],
    ["export", "/dev/null/x"],
    ["datasets", "--verify"],
    ["attack"],
    ["attack", "--classifier", "a:b", "--attack", "none", "--data", "x", "--out", "y"],
    ["--nothing"],
    ["nothing"],
    ["check", "--json"],
)
SETS = (
    "eps=nan",
    "eps=-1",
    "eps=1e9",
    "eps=8/0",
    "eps=x",
    "eps=",
    "eps",
    "=1",
    "steps=1e3",
    "nothing=1",
    "fgsm.eps=2/255",
    "bim.steps=0",
    "eps=" + "9" * 400,
    "eps=inf",
    "eps=__import__('os')",
    "eps=1/255/2",
)


def an_option(rng: random.Random, w: World, folder: Path) -> Case:
    if rng.random() < 0.35:
        (folder / "mine.py").write_text(MODULE.format(top="", init="pass", build="pass", forward="return z"))
        more = rng.choice(
            [["--set", rng.choice(SETS)], ["--limit", rng.choice(["-1", "0", "9" * 30])], ["--seed", rng.choice(["9" * 30, "-9", "x"])]]
        )
        args = [
            "attack",
            "--classifier",
            "mine:build",
            "--attack",
            rng.choice(["fgsm", "fgsm,bim", "all,", ",", "é"]),
            "--data",
            str(w.root / "images.npz"),
            "--out",
            "out",
        ]
        return Case(f"option: {more}", [*args, *more])
    args = rng.choice(OPTIONS)
    home = {"SALIENTRY_HOME": str(folder / "home")} if rng.random() < 0.8 else {"SALIENTRY_HOME": "/dev/null/x"}
    shortened = args[0] == "run" and not ({"--workers", "--device", "--numerics", "--only"} & set(args))
    if shortened:  # what is taken after all must not compute for a minute
        home = {"SALIENTRY_HOME": str(w.copy("store", folder))}
    return Case(f"option: {args}", list(args), env=home)


KINDS: tuple[Callable[[random.Random, World, Path], Case], ...] = (
    a_guard,
    a_picture,
    a_network,
    some_weights,
    an_archive,
    a_folder,
    some_records,
    a_store,
    an_export,
    an_option,
)


# --- the judge -------------------------------------------------------------------------------------------------


def amiss(case: Case, code: int | None, out: str, err: str) -> str:
    """What is wrong with how a call ended; empty when nothing is."""
    if code is None:
        return "it hung"
    if code not in OWN:
        return f"exit code {code}"
    if "Traceback" in out + err or "bug in salientry" in err:
        return "a traceback"
    odd = [c for c in out + err if (ord(c) < 32 and c not in "\n\r\t") or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000]
    if odd:
        return f"control characters {odd[:3]!r}"
    taken = code == 0 or (code == 1 and "error:" not in err)
    if case.refused and taken:
        return "it was taken"
    if case.same is not None and taken and code == 0 and out != case.same:
        return f"another answer: {out[:200]!r} instead of {case.same[:200]!r}"
    if not taken and "error:" not in err and "Usage" not in err:
        return "it does not say why"
    return ""


def main() -> int:
    """Run the cases, two at a time."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("cases", type=int, nargs="?", default=600)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--only", type=int, help="this case alone, and what it printed")
    given = parser.parse_args()
    torch.set_num_threads(1)
    wrong: list[str] = []
    codes: Counter[str] = Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        w = world(Path(place) / "world")
        print(f"a sound world after {time.monotonic() - began:.0f} s", flush=True)
        numbers = [given.only] if given.only is not None else list(range(given.cases))
        going: list[tuple[int, Case, Call, float, Path]] = []
        while numbers or going:
            while numbers and len(going) < BESIDE:
                i = numbers.pop(0)
                folder = Path(place) / f"case{i}"
                folder.mkdir()
                case = KINDS[i % len(KINDS)](random.Random(f"{given.seed}/{i}"), w, folder)
                home = {"SALIENTRY_HOME": str(folder / "home"), "SALIENTRY_WORKERS": "1"}
                going.append((i, case, started(case.args, folder, home | case.env), time.monotonic() + SECONDS, folder))
            time.sleep(0.02)
            for one in list(going):
                i, case, call, until, folder = one
                if (code := ended(call)) is None and time.monotonic() < until:
                    continue
                going.remove(one)
                out, err = printed(call, code)
                codes[str(code)] += 1
                if (why := amiss(case, code, out, err)) or given.only is not None:
                    wrong += [f"case {i}: {case.kind!r}: {why}"] if why else []
                    print(
                        f"case {i}: {case.kind!r}: {why or 'fine'} (code {code})\n  {case.args}\n  {out[-600:]!r}\n  {err[-900:]!r}",
                        flush=True,
                    )
                for path in folder.rglob("*"):
                    if path.is_dir() and not path.is_symlink():
                        path.chmod(0o755)
                shutil.rmtree(folder, ignore_errors=True)
    took, found = time.monotonic() - began, dict(sorted(codes.items()))
    print(f"{sum(codes.values())} cases, seed {given.seed}, {took:.0f} s; exit codes {found}; {len(wrong)} amiss")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
