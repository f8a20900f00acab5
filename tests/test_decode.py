"""Every kind of image file becomes the same gray; every broken one is refused with its reason, quickly."""

from __future__ import annotations

import os
import struct
import time
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cxr_experiments.errors import BadImageError
from cxr_experiments.images.decode import (
    MAX_FILE_BYTES,
    MIN_SIDE_PX,
    decode_bytes,
    decode_file,
    encode_png,
    read_image_bytes,
    resize,
)

Gray = NDArray[np.uint8]


def film(height: int = 60, width: int = 48) -> Gray:
    """A smooth picture without symmetry, so that JPEG hardly changes it and every turn or mirroring shows."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.clip(20 + 2.2 * rows + 1.1 * columns + 30 * np.sin(columns / 9), 0, 255).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *, depth: int = 8, colour: int = 0, rows: bytes = b"", extra: bytes = b"") -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = extra + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


GRAY = film()
PICTURE = Image.fromarray(GRAY)
OPAQUE = PICTURE.convert("RGBA")
FILES = {
    "gray PNG": (encoded(PICTURE, "PNG"), 0),
    "RGB PNG": (encoded(PICTURE.convert("RGB"), "PNG"), 0),
    "RGBA PNG": (encoded(OPAQUE, "PNG"), 0),
    "gray and alpha PNG": (encoded(PICTURE.convert("LA"), "PNG"), 0),
    "palette PNG": (encoded(PICTURE.convert("P"), "PNG"), 0),
    "16-bit PNG": (encoded(Image.fromarray(GRAY.astype(np.uint16) * 257), "PNG"), 0),
    "gray JPEG": (encoded(PICTURE, "JPEG", quality=98), 2),
    "RGB JPEG": (encoded(PICTURE.convert("RGB"), "JPEG", quality=98), 2),
    "progressive JPEG": (encoded(PICTURE.convert("RGB"), "JPEG", quality=98, progressive=True), 2),
    "RGB-coded JPEG": (encoded(PICTURE.convert("RGB"), "JPEG", quality=98, keep_rgb=True), 2),
    "CMYK JPEG": (encoded(PICTURE.convert("RGB").convert("CMYK"), "JPEG", quality=98), 2),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_mode_becomes_the_same_gray(kind: str) -> None:
    data, tolerance = FILES[kind]
    decoded = decode_bytes(data)
    assert (decoded.dtype, decoded.shape) == (np.uint8, GRAY.shape)
    assert np.abs(decoded.astype(int) - GRAY).max() <= tolerance


def test_one_bit_png_becomes_black_and_white() -> None:
    bits = GRAY > 100
    assert np.array_equal(decode_bytes(encoded(Image.fromarray(bits), "PNG")), np.where(bits, 255, 0))


def test_sixteen_bits_are_scaled_over_their_full_range() -> None:
    values = np.linspace(0, 65535, 40 * 40).round().astype(np.uint16).reshape(40, 40)
    decoded = decode_bytes(encoded(Image.fromarray(values), "PNG"))
    assert np.array_equal(decoded, np.round(values / 257.0))


def test_sixteen_bit_colour_keeps_its_gray() -> None:
    wide = (GRAY.astype(">u2") * 257).repeat(3, axis=1).reshape(*GRAY.shape, 3)
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    decoded = decode_bytes(png(GRAY.shape[1], GRAY.shape[0], depth=16, colour=2, rows=rows))
    assert np.abs(decoded.astype(int) - GRAY).max() <= 1


def test_colour_becomes_rec_601_luma() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    luma = colours @ np.array([0.299, 0.587, 0.114])
    decoded = decode_bytes(encoded(Image.fromarray(colours), "PNG"))
    assert np.abs(decoded - luma).max() <= 0.51


def test_the_adobe_segment_says_how_colour_is_coded() -> None:
    colours = np.full((32, 32, 3), (200, 30, 90), dtype=np.uint8)
    data = encoded(Image.fromarray(colours), "JPEG", quality=98, keep_rgb=True)
    frame, scan = data.index(b"\xff\xc0") + 10, data.index(b"\xff\xda") + 5
    unnamed = bytearray(data)
    for component in range(3):  # components called 1 2 3 instead of R G B: without the segment they would be YCbCr
        unnamed[frame + 3 * component] = unnamed[scan + 2 * component] = component + 1
    assert np.abs(decode_bytes(bytes(unnamed)) - colours[0, 0] @ np.array([0.299, 0.587, 0.114])).max() <= 3


def test_transparency_is_laid_over_black() -> None:
    pixels = np.full((20, 20, 4), 200, dtype=np.uint8)
    pixels[:10, :, 3], pixels[10:, :, 3] = 0, 255
    decoded = decode_bytes(encoded(Image.fromarray(pixels), "PNG"))
    assert decoded[:10].max() == 0
    assert decoded[10:].min() == 200
    palette = encoded(Image.fromarray(np.full((20, 20), 7, np.uint8)).convert("P"), "PNG", transparency=7)
    assert decode_bytes(palette).max() == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed_as_viewers_do(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description before the orientation"
    exif[0x0112] = orientation
    data = encoded(PICTURE, kind, exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(data))))
    assert np.array_equal(decode_bytes(data), shown)


@pytest.mark.parametrize(
    "exif", [b"", b"II*\x00", b"MM\x00*\xff\xff\xff\xff", b"II*\x00\x08\0\0\0\xff\xff", b"nonsense"]
)
def test_damaged_exif_leaves_the_pixels_as_stored(exif: bytes) -> None:
    assert np.array_equal(decode_bytes(encoded(PICTURE, "PNG", exif=exif or None)), GRAY)
    assert decode_bytes(encoded(PICTURE, "JPEG", exif=b"Exif\x00\x00" + exif)).shape == GRAY.shape


def test_decoded_pixels_belong_to_the_caller() -> None:
    decoded = decode_bytes(FILES["gray PNG"][0])
    decoded[0, 0] = 1  # a view into PIL's memory would be read-only
    assert decoded[0, 0] == 1


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_anywhere_is_refused(kind: str) -> None:
    data = FILES[kind][0]
    for kept in [*range(1, 12), *range(12, len(data) - 2, max(1, len(data) // 60)), len(data) - 1]:
        with pytest.raises(BadImageError):
            decode_bytes(data[:kept])


def test_a_download_padded_with_zeros_is_told_as_truncated() -> None:
    for kind in ("gray JPEG", "gray PNG"):
        data = FILES[kind][0]
        half = len(data) // 2
        with pytest.raises(BadImageError, match=r"truncated|damaged"):
            decode_bytes(data[:half] + b"\0" * 20_000)  # libjpeg reads zeros as gray and is content


def test_a_flipped_bit_in_a_png_is_noticed() -> None:
    data = bytearray(FILES["gray PNG"][0])
    data[len(data) // 2] ^= 1
    with pytest.raises(BadImageError, match="checksum"):
        decode_bytes(bytes(data))


@given(data=st.data())
@settings(max_examples=250, deadline=None)
def test_damage_gives_pixels_or_our_own_error_and_no_warning(data: st.DataObject) -> None:
    content = bytearray(FILES[data.draw(st.sampled_from(sorted(FILES)))][0])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_bytes(bytes(content))
    except BadImageError:
        return
    assert decoded.dtype == np.uint8
    assert decoded.ndim == 2


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_behind_a_signature_are_refused(tail: bytes) -> None:
    for start in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b""):
        with pytest.raises(BadImageError):
            decode_bytes(start + tail)


def test_other_files_are_told_apart_from_images(tmp_path: Path) -> None:
    text = tmp_path / "note.jpeg"
    text.write_text("Patient refused the examination.")
    with pytest.raises(BadImageError, match="not a JPEG, PNG or DICOM file") as refused:
        decode_file(text)
    assert "Patient" not in str(refused.value), "what a file holds is nobody's business"
    with pytest.raises(BadImageError, match="not a JPEG, PNG or DICOM"):
        decode_bytes(encoded(PICTURE, "GIF"))
    empty = tmp_path / "empty.png"
    empty.touch()
    for refused in (lambda: decode_file(empty), lambda: decode_bytes(b"")):
        with pytest.raises(BadImageError, match=r"empty file \(0 bytes\)"):
            refused()


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    for name, reason in (("pipe.png", "not a regular file"), ("link.png", "No such file"), (".", "not a regular file")):
        with pytest.raises(BadImageError, match=reason) as refused:
            decode_file(tmp_path / name)
        assert str(tmp_path) not in str(refused.value), "the caller adds the path"


def test_a_monstrous_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with open(tmp_path / "sparse.png", "wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(BadImageError, match="at most"):
        read_image_bytes(tmp_path / "sparse.png")


@pytest.mark.parametrize(
    ("width", "height"), [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (30_000, 40), (12_000, 12_000)]
)
def test_a_decompression_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    started = time.perf_counter()
    with pytest.raises(BadImageError, match="absurdly large"):
        decode_bytes(png(width, height, rows=b"\0" * 10_000))
    assert time.perf_counter() - started < 0.5


def test_a_bomb_with_a_jpeg_header_is_refused() -> None:
    data = encoded(PICTURE, "JPEG")
    start = data.index(b"\xff\xc0") + 5
    with pytest.raises(BadImageError, match="65,000 x 65,000 pixels: absurdly large"):
        decode_bytes(data[:start] + struct.pack(">HH", 65_000, 65_000) + data[start + 4 :])


def test_a_bomb_in_a_text_chunk_is_never_unpacked() -> None:
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b" " * 30_000_000))
    data = FILES["gray PNG"][0]
    assert np.array_equal(decode_bytes(data[:33] + bomb + data[33:]), GRAY)


def test_an_image_too_small_for_a_radiograph_is_refused() -> None:
    small = Image.fromarray(film(MIN_SIDE_PX - 1, 40))
    with pytest.raises(BadImageError, match="too small"):
        decode_bytes(encoded(small, "PNG"))
    least = Image.fromarray(film(MIN_SIDE_PX, MIN_SIDE_PX))
    assert decode_bytes(encoded(least, "PNG")).shape == (MIN_SIDE_PX, MIN_SIDE_PX)


def test_encoded_png_reads_back_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    encode_png(tmp_path / "film.png", GRAY)
    assert np.array_equal(decode_file(tmp_path / "film.png"), GRAY)
    assert [path.name for path in tmp_path.iterdir()] == ["film.png"]


def test_encoded_colours_read_back_with_the_size_in_print(tmp_path: Path) -> None:
    page = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    encode_png(tmp_path / "page.png", page, compress_level=2, dots_per_inch=150)
    with Image.open(tmp_path / "page.png") as found:
        assert np.array_equal(np.asarray(found), page)
        assert [round(dots) for dots in found.info["dpi"]] == [150, 150]


def test_png_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "film.png").mkdir()
    with pytest.raises(OSError, match=r"film\.png"):
        encode_png(tmp_path / "film.png", GRAY)
    assert [path.name for path in tmp_path.iterdir()] == ["film.png"]


def triangle_weights(num_out: int, num_in: int) -> NDArray[np.float64]:
    """(num_out, num_in) weights of a bilinear filter that is widened by the reduction factor."""
    scale = num_in / num_out
    support = max(scale, 1.0)
    centres = (np.arange(num_out) + 0.5) * scale
    distance = np.abs(np.arange(num_in)[None, :] + 0.5 - centres[:, None]) / support
    weights = np.clip(1 - distance, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("shape", [(23, 17), (60, 48), (7, 90)])
def test_resize_agrees_with_a_slow_triangle_filter(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, GRAY.shape, dtype=np.uint8)
    expected = triangle_weights(shape[0], 60) @ noise @ triangle_weights(shape[1], 48).T
    assert np.abs(resize(noise, *shape) - expected).max() <= 1.5
