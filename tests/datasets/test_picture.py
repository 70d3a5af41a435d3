from __future__ import annotations

import io
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from salientry.datasets import _folder
from salientry.datasets._folder import pictures
from salientry.errors import DataDamaged, DataMissing, UsageError
from salientry.pixels import read_pixels, write_pixels

COLOUR = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
GREY = COLOUR[:, :, 0].copy()


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png(depth: int, kind: int, rows: bytes, size: tuple[int, int] = (1, 1), *more: bytes) -> bytes:
    """A PNG by hand: Pillow writes no 16-bit colour."""
    head = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big") + bytes([depth, kind, 0, 0, 0])
    chunks = [chunk(b"IHDR", head), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def saved(path: Path, image: Image.Image, **settings: Any) -> Path:
    image.save(path, **settings)
    return path


# --- what is read exactly --------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["png", "bmp", "tif", "ppm", "webp"])
def test_what_is_written_without_loss_is_read_as_it_was(tmp_path: Path, end: str) -> None:
    settings = {"lossless": True} if end == "webp" else {}
    found = read_pixels(saved(tmp_path / f"a.{end}", Image.fromarray(COLOUR), **settings))
    assert (found == COLOUR.transpose(2, 0, 1)).all() and found.dtype == np.uint8
    if end != "webp":  # it has no grey
        found = read_pixels(saved(tmp_path / f"g.{end}", Image.fromarray(GREY)))
        assert found.shape == (1, 6, 8) and (found[0] == GREY).all()


def test_alpha_that_hides_nothing_and_palettes_are_read(tmp_path: Path) -> None:
    opaque = Image.fromarray(COLOUR)
    opaque.putalpha(255)
    assert (read_pixels(saved(tmp_path / "a.png", opaque)) == COLOUR.transpose(2, 0, 1)).all()
    grey = Image.fromarray(GREY)
    grey.putalpha(255)
    assert (read_pixels(saved(tmp_path / "la.png", grey))[0] == GREY).all()
    few = Image.fromarray(COLOUR // 128 * 128)
    assert (read_pixels(saved(tmp_path / "p.png", few.convert("P", palette=Image.Palette.ADAPTIVE))) == few_pixels(few)).all()
    assert (read_pixels(saved(tmp_path / "p.gif", few)) == few_pixels(few)).all()
    bits = Image.fromarray(GREY > 100)
    assert (read_pixels(saved(tmp_path / "1.png", bits))[0] == 255 * (GREY > 100)).all()


def few_pixels(image: Image.Image) -> Any:
    return np.asarray(image).transpose(2, 0, 1)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_turned_as_its_exif_orientation_says(tmp_path: Path, turn: int) -> None:
    upright = COLOUR.transpose(2, 0, 1)
    undo = {1: lambda a: a, 2: lambda a: a[:, :, ::-1], 3: lambda a: a[:, ::-1, ::-1], 4: lambda a: a[:, ::-1]}
    undo |= {5: lambda a: a.transpose(0, 2, 1), 6: lambda a: np.rot90(a, 1, (1, 2))}
    undo |= {7: lambda a: a[:, ::-1, ::-1].transpose(0, 2, 1), 8: lambda a: np.rot90(a, -1, (1, 2))}
    exif = Image.Exif()
    exif[274] = turn
    stored = Image.fromarray(np.ascontiguousarray(undo[turn](upright).transpose(1, 2, 0)))
    assert (read_pixels(saved(tmp_path / "a.png", stored, exif=exif)) == upright).all()


def test_written_pixels_come_back(tmp_path: Path) -> None:
    for pixels in (COLOUR.transpose(2, 0, 1), GREY[None]):
        write_pixels(tmp_path / "deep" / "a.png", pixels)
        assert (read_pixels(tmp_path / "deep" / "a.png") == pixels).all()


# --- what would be cut off -------------------------------------------------------------------------------------


def refused(tmp_path: Path) -> dict[str, tuple[bytes, str]]:
    """Files that say more than 8 bits of grey or RGB, and what is said of them."""

    def bytes_of(image: Image.Image, kind: str, **settings: Any) -> bytes:
        out = io.BytesIO()
        image.save(out, kind, **settings)
        return out.getvalue()

    clear = Image.fromarray(COLOUR)
    clear.putalpha(Image.fromarray(np.where(GREY > 3, 255, GREY).astype(np.uint8)))
    keyed = png(8, 2, b"\0\x0a\x0b\x0c", (1, 1), chunk(b"tRNS", bytes([0, 10, 0, 11, 0, 12])))
    other = Image.fromarray(255 - COLOUR)
    several: dict[str, Any] = {"save_all": True, "append_images": [other]}
    tiff16 = np.array([[[1, 65535, 0]]], "<u2").tobytes()
    return {
        "rgb16.png": (png(16, 2, b"\0\0\xff\0\0\0\0"), "more than 8 bits"),
        "rgba16.png": (png(16, 6, b"\0\0\xff\0\0\0\0\xff\xff"), "more than 8 bits"),
        "la16.png": (png(16, 4, b"\0\0\xff\xff\xff"), "more than 8 bits"),
        "grey16.png": (png(16, 0, b"\0\0\xff"), "more than 8 bits"),
        "rgb16.tif": (tiff(tiff16), "more than 8 bits"),
        "rgb16.ppm": (b"P6\n1 1\n65535\n" + tiff16, "more than 8 bits"),
        "rgb4.ppm": (b"P6\n1 1\n15\n\1\2\3", "more than 8 bits"),
        "float.tif": (bytes_of(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "more than 8 bits"),
        "rgba.png": (bytes_of(clear, "PNG"), "not fully opaque"),
        "rgba.webp": (bytes_of(clear, "WEBP", lossless=True), "not fully opaque"),
        "key.png": (keyed, "not fully opaque (alpha 0 of 255)"),
        "palette.gif": (bytes_of(Image.fromarray(COLOUR).quantize(8), "GIF", transparency=1), "not fully opaque"),
        "cmyk.jpg": (bytes_of(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"), "is CMYK; grey or RGB expected"),
        "frames.gif": (bytes_of(Image.fromarray(COLOUR), "GIF", **several), "holds 2 frames"),
        "frames.png": (bytes_of(Image.fromarray(COLOUR), "PNG", **several), "holds 2 frames"),
        "frames.webp": (bytes_of(Image.fromarray(COLOUR), "WEBP", **several), "holds 2 frames"),
        "frames.tif": (bytes_of(Image.fromarray(COLOUR), "TIFF", **several), "holds 2 frames"),
    }


def tiff(pixel: bytes) -> bytes:
    """One RGB pixel of 16 bits a channel."""
    entries = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 14), (277, 3, 1, 3)]
    entries += [(278, 3, 1, 1), (279, 4, 1, 6)]
    head = b"II*\0" + (20).to_bytes(4, "little") + b"\x10\0\x10\0\x10\0" + pixel
    tags = b"".join(b"".join(n.to_bytes(s, "little") for n, s in zip(entry, (2, 2, 4, 4), strict=True)) for entry in entries)
    return head + len(entries).to_bytes(2, "little") + tags + bytes(4)


@pytest.mark.parametrize("name", sorted(refused(Path())))
def test_what_would_be_cut_off_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    data, why = refused(tmp_path)[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError) as e:
        read_pixels(tmp_path / name)
    assert why in str(e.value) and name in str(e.value)


def test_a_picture_of_144_megapixels_is_not_decoded(tmp_path: Path) -> None:
    for size, pixels in (((12_000, 12_000), "12000 x 12000"), ((2**26 + 1, 1), "67108865 x 1")):
        (tmp_path / "a.png").write_bytes(png(8, 0, b"", size))
        with pytest.raises(UsageError, match=f"has {pixels} pixels; 67108864 at most are read"):
            read_pixels(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(png(8, 0, b"", (2**26, 1)))
    with pytest.raises(DataDamaged):  # it would have been: its pixels are missing
        read_pixels(tmp_path / "a.png")


def test_no_picture(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="no picture at"):
        read_pixels(tmp_path / "none.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataDamaged, match="is a named pipe"):
        read_pixels(tmp_path / "pipe.png")
    whole = saved(tmp_path / "a.png", Image.fromarray(COLOUR)).read_bytes()
    for size in (len(whole) - 40, len(whole) // 2, 30, 5, 0):
        (tmp_path / "a.png").write_bytes(whole[:size])
        with pytest.raises(DataDamaged, match="cannot be read as a picture"):
            read_pixels(tmp_path / "a.png")
    out = io.BytesIO()
    Image.fromarray(COLOUR).save(out, "PCX")  # Pillow would read it
    (tmp_path / "a.png").write_bytes(out.getvalue())
    with pytest.raises(DataDamaged, match="it is no PNG, JPEG, BMP, GIF, TIFF, WEBP or PPM file"):
        read_pixels(tmp_path / "a.png")


# --- folders and .npz ------------------------------------------------------------------------------------------


def test_grey_and_colour_files_in_one_folder(tmp_path: Path) -> None:
    write_pixels(tmp_path / "a.png", GREY[None])
    write_pixels(tmp_path / "b.png", COLOUR.transpose(2, 0, 1))
    found = pictures(tmp_path)
    assert found.shape == (3, 6, 8)
    assert (found.read(slice(0, 2)) == np.stack([GREY[None].repeat(3, 0), COLOUR.transpose(2, 0, 1)])).all()
    write_pixels(tmp_path / "b.png", GREY[None].repeat(3, 0))  # colour that is grey
    again = pictures(tmp_path)
    assert again.shape == (1, 6, 8) and again.ids[0] == again.ids[1] and (again.read(slice(0, 2)) == GREY).all()
    write_pixels(tmp_path / "b.png", COLOUR.transpose(2, 0, 1)[:, :5])
    with pytest.raises(UsageError, match="must be of one size"):
        pictures(tmp_path)


def test_an_npz_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w", force_zip64=True) as f:
        np.lib.format.write_array_header_1_0(f, {"descr": "|u1", "fortran_order": False, "shape": (3 * 2**10, 1, 2**10, 2**8)})  # type: ignore[arg-type]
        for _ in range(3 * 2**8):
            f.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    with pytest.raises(DataDamaged, match="say that they unpack to 805306"):
        pictures(path)


def test_an_npz_whose_header_lies_is_refused_before_room_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("images.npy", "w") as f:
        np.lib.format.write_array_header_1_0(f, {"descr": "|u1", "fortran_order": False, "shape": (2**50, 1, 1, 1)})  # type: ignore[arg-type]
        f.write(bytes(100))
    with pytest.raises(DataDamaged, match="says that its shape is"):
        pictures(path)
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(DataDamaged, match="is a named pipe"):
        pictures(tmp_path / "pipe.npz")


def test_the_module_is_the_only_reader() -> None:
    assert _folder.read_pixels is read_pixels
