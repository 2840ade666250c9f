"""Decoded images compared with known pixels: ramps, PNG and TIFF files made by hand, damaged metadata."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ddpmkit.contracts import ImageShape
from ddpmkit.decoding import ImageFileError, covering, on_background, open_upright
from ddpmkit.plugin import to_rgb8
from ddpmkit.recipe import DataSection
from ddpmkit.sampling.input_images import open_image
from ddpmkit_plugins.huggingface.dataset import decode_row
from ddpmkit_plugins.image_folder.decoding import decode

SIDE = 16
SQUARE = ImageShape(3, SIDE, SIDE)


def given(content: bytes, folder: Path) -> NDArray[np.uint8]:
    (folder / "given").write_bytes(content)
    return open_image(folder / "given", DataSection(image_size=SIDE)).numpy()


PLACES: dict[str, Callable[[bytes, Path], NDArray[np.uint8]]] = {
    "image-folder": lambda content, _folder: decode(content, SQUARE),
    "huggingface": lambda content, _folder: decode_row({"bytes": content, "path": None}, SQUARE),
    "given": given,
}
"""All code that decodes images: each function returns uint8 [3, 16, 16]."""


@pytest.fixture(params=PLACES)
def shown(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[bytes], NDArray[np.int64]]:
    place = PLACES[request.param]

    def convert(content: bytes) -> NDArray[np.int64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as the code that starts the decoding threads does
            return place(content, tmp_path).astype(np.int64)

    return convert


# JPEG decoded at a fraction of its size


def jpeg(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def ramp(width: int, height: int) -> NDArray[np.uint8]:
    """Gray from 0 at the left edge to 255 at the right edge: pixel i covers [i, i + 1] of `width`."""
    values = 255 * (np.arange(width) + 0.5) / width
    return np.broadcast_to(np.round(values).astype(np.uint8)[None, :, None], (height, width, 3)).copy()


ORIENTATIONS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}
"""Turns an upright image [H, W, C] as a camera stores it, by EXIF orientation: the inverse of EXIF 2.32, 4.6.4."""


@pytest.mark.parametrize("side", [64, 65, 127, 128, 129, 255, 256, 257, 263, 300, 511, 513, 1031])
def test_a_jpeg_of_any_size_is_not_stretched(shown: Callable[[bytes], NDArray[np.int64]], side: int) -> None:
    # Each of 16 pixels covers a sixteenth of the ramp, at any decoded size.
    expected = 255 * (np.arange(SIDE) + 0.5) / SIDE
    found = shown(jpeg(ramp(side, side)))
    inner = slice(2, -2)  # away from the edges, which the filter of the resize repeats
    assert np.abs(found[:, :, inner] - expected[inner]).max() <= 1.5
    full = np.asarray(Image.open(io.BytesIO(jpeg(ramp(side, side)))).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    # In the last, partial pixel the filter includes a little of the area beyond the edge.
    assert np.abs(found - full.transpose(2, 0, 1)).max() <= 2


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_rotated_jpeg_is_not_stretched(shown: Callable[[bytes], NDArray[np.int64]], orientation: int) -> None:
    upright = np.stack([ramp(257, 261)[:, :, 0], ramp(261, 257)[:, :, 0].T, np.zeros((261, 257), np.uint8)], axis=2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = shown(jpeg(np.ascontiguousarray(ORIENTATIONS[orientation](upright)), exif=exif, subsampling=0))
    full = np.asarray(ImageOps.fit(Image.fromarray(upright), (SIDE, SIDE), Image.Resampling.LANCZOS))
    assert np.abs(found - full.transpose(2, 0, 1)).max() <= 3


def test_large_jpegs_are_decoded_at_a_fraction_of_their_size_and_others_at_full_size() -> None:
    found = open_upright(jpeg(ramp(257, 130)), enough=32)
    assert (found.image.size, found.box) == ((65, 33), (0, 0, 64.25, 32.5))
    assert open_upright(jpeg(ramp(257, 130))).image.size == (257, 130)
    assert open_upright(png(ramp(257, 130)[:, :, 0], 8), enough=32).image.size == (257, 130)


@pytest.mark.parametrize("size", [(16, 16), (9, 30), (50, 20), (7, 64)])
def test_images_are_scaled_and_cropped_as_pillow_does(size: tuple[int, int]) -> None:
    for seed, shape in enumerate([(24, 31), (16, 16), (50, 17), (20, 50)]):
        image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8))
        found = covering(image, (0, 0, *image.size), size)
        assert np.array_equal(found, np.asarray(ImageOps.fit(image, size, Image.Resampling.LANCZOS)))


# 16 bits, other depths, and transparency


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: NDArray[Any], depth: int, transparent: Sequence[int] = (), more: bytes = b"") -> bytes:
    """A file of gray [H, W] or colour [H, W, 3] with `depth` bits a sample: PNG specification, sections 5 to 11."""
    height, width = values.shape[:2]
    if depth < 8:
        bits = (values[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
        rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    else:
        rows = values.reshape(height, -1).astype(">u2" if depth == 16 else "u1").view(np.uint8)
    header = struct.pack(">IIBBBBB", width, height, depth, 2 if values.ndim == 3 else 0, 0, 0, 0)
    trns = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + more + trns + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def halves(left: Any, right: Any) -> NDArray[np.int64]:
    """[32, 32] or [32, 32, 3]: two flat halves."""
    return np.stack(
        [np.broadcast_to(np.array(value), (32, *np.shape(value))) for value in [left] * 16 + [right] * 16], 1
    )


def ends(found: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """The colours of both halves, away from the edge between them."""
    return found[:, 8, 2].tolist(), found[:, 8, -3].tolist()


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_transparent_gray_becomes_the_background(shown: Callable[[bytes], NDArray[np.int64]], depth: int) -> None:
    white = 2**depth - 1
    values = halves(0, white)
    assert ends(shown(png(values, depth))) == ([0] * 3, [255] * 3)
    # The transparent half is shown on white.
    assert ends(shown(png(values, depth, (0,)))) == ([255] * 3, [255] * 3)
    assert ends(shown(png(halves(white, 0), depth, (white,)))) == ([255] * 3, [0] * 3)
    # A transparent value that no pixel has makes no pixel transparent, even if some of its bits are equal.
    if depth > 1:
        assert ends(shown(png(values, depth, (1,)))) == ([0] * 3, [255] * 3)


@pytest.mark.parametrize("depth", [8, 16])
def test_transparent_colour_becomes_the_background(shown: Callable[[bytes], NDArray[np.int64]], depth: int) -> None:
    scale = 257 if depth == 16 else 1
    left, right = (np.array(colour) * scale for colour in ((18, 86, 154), (200, 0, 0)))
    if depth == 16:
        left += (1, -2, 3)  # low bytes that differ from the high ones
    assert ends(shown(png(halves(left, right), depth))) == ([18, 86, 154], [200, 0, 0])
    assert ends(shown(png(halves(left, right), depth, left.tolist()))) == ([255] * 3, [200, 0, 0])
    assert ends(shown(png(halves(left, right), depth, right.tolist()))) == ([18, 86, 154], [255] * 3)


def tiff(values: NDArray[Any], bits: int, *, white_is_zero: bool = False) -> bytes:
    """Uncompressed gray [H, W] of 8, 12 or 16 bits: TIFF 6.0, section 4, "Baseline Field Reference Guide"."""
    height, width = values.shape
    if bits == 12:
        split = (values[:, :, None] >> np.arange(11, -1, -1)) & 1
        data = np.packbits(split.reshape(height, -1).astype(np.uint8), axis=1).tobytes()
    else:
        data = values.astype("<u2" if bits == 16 else "u1").tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: int(not white_is_zero), 273: 8, 277: 1, 278: height}
    tags[279] = len(data)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(("bits", "white_is_zero"), [(8, False), (8, True), (12, False), (16, False), (16, True)])
def test_gray_tiffs_of_every_depth_have_the_right_brightness(
    shown: Callable[[bytes], NDArray[np.int64]], bits: int, white_is_zero: bool
) -> None:
    white = 2**bits - 1
    level = 255 - 64 if white_is_zero else 64
    dark = 255 if white_is_zero else 0
    found = shown(tiff(halves(0, round(white * 64 / 255)), bits, white_is_zero=white_is_zero))
    assert ends(found) == ([dark] * 3, [level] * 3)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_values_without_a_defined_white_are_refused(kind: type) -> None:
    file = io.BytesIO()
    Image.fromarray(np.ones((24, 24), dtype=kind)).save(file, "TIFF")
    with pytest.raises(ImageFileError, match="no defined white"):
        open_upright(file.getvalue())


def test_an_image_without_transparency_is_returned_unchanged() -> None:
    image = Image.new("RGB", (4, 4), "red")
    assert on_background(image, "white") is image


def test_16_bits_are_scaled_to_8_and_not_clipped() -> None:
    image = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    assert image.mode == "I;16"
    assert np.asarray(to_rgb8(image)).tolist() == [[[0] * 3, [100] * 3, [255] * 3]]
    assert np.asarray(to_rgb8(image, channels=1)).tolist() == [[0, 100, 255]]


def test_transparency_becomes_white() -> None:
    image = Image.fromarray(np.array([[[9, 8, 7, 255], [9, 8, 7, 0]]], dtype=np.uint8))
    assert np.asarray(to_rgb8(image)).tolist() == [[[9, 8, 7], [255, 255, 255]]]


# Metadata

LEVELS = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
EXIF = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x03\0\0\0\0\0\0\0"
"""One tag: orientation 3, upside down."""


@pytest.mark.parametrize(
    "more",
    [
        chunk(b"eXIf", b"nonsense"),
        chunk(b"eXIf", b""),
        chunk(b"eXIf", EXIF[:13]),
        chunk(b"eXIf", EXIF[:18] + b"\x4d" + EXIF[19:]),
        chunk(b"eXIf", b"MM" + EXIF[2:]),
        chunk(b"eXIf", EXIF)[:-1] + b"\0",
        chunk(b"pHYs", b"\0"),
        chunk(b"gAMA", b"\0"),
        chunk(b"iCCP", b"name\0\0not zlib"),
        chunk(b"iCCP", b""),
        chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(80_000_000))),
        chunk(b"iTXt", b"key\0\1\0\0\0not zlib"),
        chunk(b"tEXt", b"key\0value")[:-1] + b"\0",
        chunk(b"acTL", b"\0"),
        chunk(b"fcTL", b"\0"),
    ],
    ids=lambda more: f"{more[4:8].decode()}-{zlib.crc32(more) % 1000}",
)
def test_damaged_metadata_of_a_png_is_ignored(shown: Callable[[bytes], NDArray[np.int64]], more: bytes) -> None:
    assert (shown(png(LEVELS, 8, more=more)) == LEVELS).all()


def test_intact_metadata_is_used_next_to_damaged_metadata(shown: Callable[[bytes], NDArray[np.int64]]) -> None:
    found = shown(png(LEVELS, 8, more=chunk(b"pHYs", b"\0") + chunk(b"eXIf", EXIF)))
    assert (found == LEVELS[::-1, ::-1]).all()


def test_a_png_with_damaged_pixels_or_transparency_is_bad() -> None:
    intact = png(LEVELS, 8, (7,))
    for kind in (b"IDAT", b"tRNS", b"IHDR"):
        content = bytearray(intact)
        content[content.index(kind) + 5] ^= 1
        with pytest.raises((SyntaxError, OSError, ValueError)):
            open_upright(bytes(content))


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


@pytest.mark.parametrize(
    "more",
    [
        segment(0xE0, b"JFIF\0"),
        segment(0xE0, b"JFIF\0\1"),
        segment(0xE1, b"Exif\0\0"),
        segment(0xE1, b"Exif\0\0nonsense"),
        segment(0xE1, b"Exif\0\0" + EXIF[:13]),
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xE2, b"MPF\0II*\0"),
        segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\xff"),
        segment(0xEE, b"Adobe"),
        segment(0xEE, b"Adobe\0d"),
        segment(0xFE, b""),
    ],
    ids=lambda more: f"{more[1]:02x}-{zlib.crc32(more) % 1000}",
)
def test_damaged_metadata_of_a_jpeg_is_ignored(shown: Callable[[bytes], NDArray[np.int64]], more: bytes) -> None:
    plain = jpeg(ramp(40, 40), subsampling=0)
    assert np.array_equal(shown(plain[:2] + more + plain[2:]), shown(plain))


def test_a_file_that_is_not_an_image_raises_the_exception_of_pillow(tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(jpeg(ramp(64, 64))[:500])
    with pytest.raises(OSError, match="runcated"):
        open_upright(tmp_path / "cut.jpg")
    with pytest.raises(ImageFileError, match="its header claims 64 x 64 pixels"):
        open_upright(jpeg(ramp(64, 64)), most_pixels=4000)
