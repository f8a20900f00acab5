"""DICOM files of every kind become the gray of the standard; others are refused, and nothing tells of a person."""

from __future__ import annotations

import struct
import threading
import time
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import IDENTIFYING, compressed, dataset, dicom, lossless_jpeg, table, written
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from cxr_experiments.errors import BadImageError
from cxr_experiments.images.decode import Header, decode_bytes, read_header, read_patient_identity
from cxr_experiments.images.decode.dicom import syntaxes

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def published(name: str) -> bytes:
    """A file that pydicom brings along."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path).read_bytes()


def film(bits: int = 12) -> NDArray[np.uint16]:
    """A smooth picture with a little noise, without symmetry."""
    rows, columns = np.mgrid[0:60, 0:44]
    noise = np.random.default_rng(0).integers(0, 9, (60, 44))
    picture = (rows / 59 * 0.6 + columns / 43 * 0.3) * (2**bits - 20) + noise
    return picture.astype(np.uint16)


def levels(fractions: NDArray[np.float64]) -> NDArray[np.uint8]:
    """[0, 1] as gray, halves rounded up."""
    return np.floor(np.clip(fractions, 0, 1) * 255 + 0.5).astype(np.uint8)


GRAY_FILES = {
    "693_J2KI.dcm": "MONOCHROME2 14-bit",
    "CT_small.dcm": "MONOCHROME2 16-bit",
    "J2K_pixelrep_mismatch.dcm": "MONOCHROME2 13-bit",
    "JPEG2000.dcm": "MONOCHROME2 16-bit",
    "JPGExtended.dcm": "MONOCHROME2 12-bit",
    "MR_small.dcm": "MONOCHROME2 16-bit",
    "MR_small_implicit.dcm": "MONOCHROME2 16-bit",
    "MR_small_bigendian.dcm": "MONOCHROME2 16-bit",
    "MR_small_RLE.dcm": "MONOCHROME2 16-bit",
    "MR_small_jp2klossless.dcm": "MONOCHROME2 16-bit",
    "MR_small_jpeg_ls_lossless.dcm": "MONOCHROME2 16-bit",
    "examples_overlay.dcm": "MONOCHROME2 12-bit",
    "dicomdirtests/77654033/CR1/6154": "MONOCHROME1 12-bit",
    "dicomdirtests/98892001/CT2N/6293": "MONOCHROME2 16-bit",
}


def by_pydicom(data: bytes) -> NDArray[np.float64]:
    """The same chain by pydicom's own functions, in [0, 255], not rounded."""
    file = dcmread(BytesIO(data))
    shown = apply_voi_lut(apply_modality_lut(file.pixel_array, file), file).astype(np.float64)
    low = -(2 ** (file.BitsStored - 1)) if file.PixelRepresentation else 0
    limits = np.array([low, low + 2**file.BitsStored - 1])
    low, high = limits * float(file.get("RescaleSlope", 1)) + float(file.get("RescaleIntercept", 0))
    gray = np.clip((shown - low) / (high - low), 0, 1) * 255
    return 255 - gray if file.PhotometricInterpretation == "MONOCHROME1" else gray


@pytest.mark.parametrize("name", GRAY_FILES)
def test_published_gray_files_look_as_pydicom_shows_them(name: str) -> None:
    data = published(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, on one file whose stream and header differ in sign
        expected = by_pydicom(data)
    decoded = decode_bytes(data)
    assert np.abs(decoded - expected).max() <= 0.51
    assert decoded.max() > decoded.min()
    assert read_header(data) == Header(decoded.shape[1], decoded.shape[0], GRAY_FILES[name])


COLOUR_FILES = (
    *("ExplVR_BigEnd.dcm", "SC_rgb_rle.dcm", "SC_rgb_rle_16bit.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_gdcm_KY.dcm"),
    *("GDCMJ2K_TextGBR.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_rgb_jls_lossy_sample.dcm", "examples_rgb_color.dcm"),
    *("SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_ybr_full_422_uncompressed.dcm", "examples_palette.dcm"),
    "SC_rgb_jpeg_lossy_gdcm.dcm",
)


@pytest.mark.parametrize("name", COLOUR_FILES)
def test_published_colour_files_become_rec_601_luma(name: str) -> None:
    file = dcmread(BytesIO(published(name)))
    pixels = file.pixel_array
    if file.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, file) / 257
    elif file.BitsStored == 16:
        pixels = pixels / 257
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    # YBR: our luma is the stored Y, pydicom's goes through RGB, where what is out of gamut is cut off
    tolerance = {"YBR_FULL": 1.75, "YBR_FULL_422": 1.75, "PALETTE COLOR": 1.0}.get(file.PhotometricInterpretation, 0.6)
    outside = np.any((np.round(pixels) <= 0) | (np.round(pixels) >= 255), axis=-1)
    difference = np.abs(decode_bytes(published(name)) - luma)
    assert difference[~outside].max(initial=0) <= tolerance
    assert difference.max() <= (tolerance if "YBR" not in file.PhotometricInterpretation else 8)


def test_lossless_files_of_one_film_are_equal_bit_for_bit() -> None:
    films = ["", "_implicit", "_bigendian", "_expb", "_RLE", "_jp2klossless", "_jpeg_ls_lossless", "_padded"]
    first = decode_bytes(published("MR_small.dcm"))
    for name in films:
        assert np.array_equal(decode_bytes(published(f"MR_small{name}.dcm")), first), name
    assert np.array_equal(decode_bytes(published("SC_rgb_jpeg_gdcm.dcm")), decode_bytes(published("SC_rgb_rle.dcm")))


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_lossless_compression_changes_no_pixel(syntax: str, bits: int) -> None:
    pixels = film(bits).astype(np.uint8 if bits == 8 else np.uint16)
    made = dataset(pixels, BitsStored=bits, WindowCenter=2 ** (bits - 1), WindowWidth=2**bits / 3)
    plain = decode_bytes(written(made))
    made.compress(syntax)
    assert np.array_equal(decode_bytes(written(made)), plain)
    assert len(np.unique(plain)) > 80


@pytest.mark.parametrize("signed_syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_signed_pixels_survive_compression(signed_syntax: str) -> None:
    made = dataset(film(12).astype(np.int16) - 2048, WindowCenter=-100, WindowWidth=1500)
    plain = decode_bytes(written(made))
    made.compress(signed_syntax)
    assert np.array_equal(decode_bytes(written(made)), plain)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_jpeg_is_exact(syntax: str, bits: int) -> None:
    pixels = film(bits).astype(np.uint8 if bits == 8 else np.uint16)
    data = compressed(pixels, syntax, lossless_jpeg(pixels, bits), BitsStored=bits)
    assert np.array_equal(decode_bytes(data), decode_bytes(dicom(pixels, BitsStored=bits)))


def test_lossless_jpeg_of_signed_pixels_is_exact() -> None:
    pixels = film(12).astype(np.int16) - 2048
    stream = lossless_jpeg((pixels & 0xFFF).astype(np.uint16), 12)
    data = compressed(pixels, "1.2.840.10008.1.2.4.70", stream, BitsStored=12)
    assert np.array_equal(decode_bytes(data), decode_bytes(dicom(pixels, BitsStored=12)))


def test_lossy_compression_stays_within_its_bound() -> None:
    pixels = film(8).astype(np.uint8)
    plain = decode_bytes(dicom(pixels)).astype(int)
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=98)
    baseline = decode_bytes(compressed(pixels, "1.2.840.10008.1.2.4.50", file.getvalue()))
    assert np.abs(baseline - plain).max() <= 3
    made = dataset(pixels)
    made.compress(JPEGLSNearLossless, jls_error=2)
    assert 1 <= np.abs(decode_bytes(written(made)) - plain).max() <= 2
    # one scan by two lossy codecs, of 12 and of 16 bits: counts up to 264, mostly noise
    one, other = (
        dcmread(BytesIO(published(name))).pixel_array.astype(int) for name in ("JPGExtended.dcm", "JPEG2000.dcm")
    )
    assert np.abs(one - other).mean() <= 5
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("bits", [8, 16])
def test_byte_order_and_implicit_types_change_nothing(syntax: str, bits: int) -> None:
    pixels = film(bits).astype(np.uint8 if bits == 8 else np.uint16)
    num_entries = min(2**bits, 60_000)
    voi = table(0, 12, np.linspace(4095, 0, num_entries).astype(np.uint16))
    made = dataset(pixels, VOILUTSequence=voi)
    plain = decode_bytes(written(made))
    made.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        made.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
        made.VOILUTSequence[0][0x00283006].value = np.linspace(4095, 0, num_entries).astype(">u2").tobytes()
    assert np.array_equal(decode_bytes(written(made)), plain)
    assert len(np.unique(plain)) > 20


def test_without_window_the_stored_bits_span_the_gray_scale() -> None:
    for bits in (10, 12, 16):
        pixels = np.linspace(0, 2**bits - 1, 1024).round().astype(np.uint16).reshape(32, 32)
        decoded = decode_bytes(dicom(pixels, BitsStored=bits))
        assert np.array_equal(decoded, levels(pixels / (2**bits - 1)))
        dim = decode_bytes(dicom(pixels // 4, BitsStored=bits))
        assert dim.max() == 64, "a dim film stays dim: no film is stretched over its own range"
    signed = np.linspace(-2048, 2047, 1024).round().astype(np.int16).reshape(32, 32)
    assert np.array_equal(decode_bytes(dicom(signed, BitsStored=12)), levels((signed + 2048) / 4095))


def test_rescale_comes_before_the_window() -> None:
    decoded = decode_bytes(
        dicom(RAMP, BitsStored=12, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=500, WindowWidth=1001)
    )
    hounsfield = RAMP * 2.0 - 1000
    assert np.array_equal(decoded, levels((hounsfield - 499.5) / 1000 + 0.5))
    turned = decode_bytes(dicom(RAMP, BitsStored=12, RescaleSlope=-1, RescaleIntercept=4095))
    assert np.array_equal(turned, levels(1 - RAMP / 4095))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_follow_the_standard(function: str) -> None:
    decoded = decode_bytes(
        dicom(RAMP, BitsStored=12, WindowCenter=[2000, 1], WindowWidth=[1000, 1], VOILUTFunction=function)
    )
    x = RAMP.astype(np.float64)
    expected = {
        "LINEAR": (x - 1999.5) / 999 + 0.5,
        "LINEAR_EXACT": (x - 2000) / 1000 + 0.5,
        "SIGMOID": 1 / (1 + np.exp(-4 * (x - 2000) / 1000)),
    }[function]
    assert np.array_equal(decoded, levels(expected))


def test_a_window_of_one_is_a_threshold() -> None:
    decoded = decode_bytes(dicom(RAMP, BitsStored=12, WindowCenter=100, WindowWidth=1))
    assert np.array_equal(decoded, np.where(RAMP <= 99, 0, 255))


def test_monochrome1_is_turned_so_that_air_is_black() -> None:
    options: dict[str, Any] = {"BitsStored": 12, "WindowCenter": 2000, "WindowWidth": 1500}
    white = decode_bytes(dicom(RAMP, PhotometricInterpretation="MONOCHROME1", **options))
    assert np.array_equal(white, 255 - decode_bytes(dicom(RAMP, **options)))


def test_tables_win_over_rescale_and_window() -> None:
    modality = table(100, 12, (np.arange(500, dtype=np.uint16) * 8))
    voi = table(0, 10, np.minimum(np.arange(4096) // 8 + 400, 1023).astype(np.uint16))
    options: dict[str, Any] = {"RescaleSlope": 5, "WindowCenter": 1, "WindowWidth": 2}
    data = dicom(RAMP, BitsStored=12, ModalityLUTSequence=modality, VOILUTSequence=voi, **options)
    meant = np.clip(RAMP.astype(int) - 100, 0, 499) * 8
    assert np.array_equal(decode_bytes(data), levels(np.minimum(meant // 8 + 400, 1023) / 1023))
    alone = decode_bytes(dicom(RAMP, BitsStored=12, ModalityLUTSequence=modality))
    assert np.array_equal(alone, levels(meant / 4095))


def test_a_table_of_bytes_is_read_as_bytes() -> None:
    made = dataset(RAMP // 16, BitsStored=8, VOILUTSequence=table(0, 8, np.arange(256, dtype=np.uint16)))
    made.VOILUTSequence[0][0x00283006].value = bytes(range(255, -1, -1))
    assert np.array_equal(decode_bytes(written(made)), 255 - RAMP // 16)


def test_padding_is_air() -> None:
    pixels = np.full((20, 20), 1500, dtype=np.int16)
    pixels[:5], pixels[5:8] = -2000, -1990
    for kind in ("MONOCHROME1", "MONOCHROME2"):
        made = dataset(pixels, PhotometricInterpretation=kind)
        made.add_new(0x00280120, "SS", -2000)
        only = decode_bytes(written(made))
        assert only[:5].max() == 0
        assert only[5:].min() > 0
        made.add_new(0x00280121, "SS", -1980)
        assert decode_bytes(written(made))[:8].max() == 0


def test_bits_outside_the_stored_ones_are_ignored() -> None:
    plain = decode_bytes(dicom(RAMP, BitsStored=12))
    overlaid = RAMP | np.uint16(0xA000)
    assert np.array_equal(decode_bytes(dicom(overlaid, BitsStored=12)), plain)
    high = dataset(RAMP << 4, BitsStored=12, HighBit=15)
    assert np.array_equal(decode_bytes(written(high)), plain)
    high.BitsStored = 16
    high.compress(RLELossless)
    high.BitsStored, high.HighBit = 12, 15
    assert np.array_equal(decode_bytes(written(high)), plain)


def test_planar_colour_is_the_same_picture() -> None:
    colours = np.random.default_rng(2).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    planes = dataset(colours, PlanarConfiguration=1)
    planes.PixelData = np.moveaxis(colours, 2, 0).tobytes()
    assert np.array_equal(decode_bytes(written(planes)), decode_bytes(dicom(colours)))
    assert np.abs(decode_bytes(dicom(colours)) - colours @ np.array([0.299, 0.587, 0.114])).max() <= 0.51


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "frames": ({"NumberOfFrames": 12}, "DICOM of 12 frames; a radiograph has one: export the frames as files"),
    "no image": ({"Rows": None}, "DICOM without an image"),
    "no pixels": ({"PixelData": None}, "DICOM without pixel data"),
    "too few": ({"PixelData": b"\0" * 800}, "truncated DICOM: 800 bytes of pixels instead of 8,192"),
    "too many": ({"PixelData": b"\0" * 30_000}, "30,000 bytes of pixels instead of 8,192: several frames"),
    "32 bits": ({"BitsAllocated": 32, "BitsStored": 32}, "expected up to 16 bits in 8 or 16"),
    "one bit": ({"BitsAllocated": 1, "BitsStored": 1}, "expected up to 16 bits in 8 or 16"),
    "more bits": ({"BitsStored": 17}, "expected up to 16 bits"),
    "hue": ({"PhotometricInterpretation": "HSV", "SamplesPerPixel": 3}, "neither gray nor colour"),
    "huge": ({"Rows": 60_000, "Columns": 60_000}, "60,000 x 60,000 pixels: absurdly large"),
    "small": ({"Rows": 8, "Columns": 500}, "too small for a radiograph"),
    "flat": ({"RescaleSlope": 0, "RescaleIntercept": 0}, "a RescaleSlope of 0 leaves no image"),
    "half a window": ({"WindowCenter": 40}, "of WindowCenter and WindowWidth it has one alone"),
    "no width": ({"WindowCenter": 40, "WindowWidth": 0}, "a window of width 0"),
    "function": ({"WindowCenter": 40, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, "an unknown VOILUTFunction"),
    "short table": (
        {"VOILUTSequence": table(0, 17, np.zeros(9, dtype=np.uint16))},
        "the descriptor of its VOILUTSequence is missing or out of range",
    ),
    "no palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "the descriptor of its palette is missing"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_radiograph_is_refused_in_one_line(case: str) -> None:
    elements, reason = REFUSED[case]
    data = dicom(RAMP, **{"BitsStored": 12, **elements})
    with pytest.raises(BadImageError, match=reason) as refused:
        decode_bytes(data)
    assert "\n" not in str(refused.value)


def test_published_files_without_a_radiograph_are_refused() -> None:
    reasons = {
        "image_dfl.dcm": "transfer syntax Deflated Explicit VR Little Endian, which is not read; write it anew",
        "liver_1frame.dcm": "1 bits in 1",
        "examples_ybr_color.dcm": "30 frames",
        "MR_truncated.dcm": "truncated DICOM",
        "rtplan.dcm": "without an image",
        "test-SR.dcm": "without an image",
        "no_meta.dcm": "not a JPEG, PNG or DICOM file",
        "meta_missing_tsyntax.dcm": "does not say in which transfer syntax",
        "JPEG2000-embedded-sequence-delimiter.dcm": "more than 4,096 tiles",
        "JPEG-lossy.dcm": "its stream cannot be decoded",
    }
    for name, reason in reasons.items():
        with pytest.raises(BadImageError, match=reason):
            decode_bytes(published(name))


def test_float_pixels_are_refused() -> None:
    made = dataset(RAMP, PixelData=None, BitsStored=12)
    made.FloatPixelData = RAMP.astype("<f4").tobytes()
    with pytest.raises(BadImageError, match="floating-point"):
        decode_bytes(written(made))


@pytest.mark.parametrize(
    "name", ["JPEG2000.dcm", "JPGExtended.dcm", "SC_rgb_jpeg_gdcm.dcm", "MR_small_jpeg_ls_lossless.dcm"]
)
def test_a_stream_of_another_size_than_its_header_is_refused_at_once(name: str) -> None:
    data = bytearray(published(name))
    pixels = data.index(b"\xe0\x7f\x10\x00")
    if (start := data.find(b"\xff\x4f\xff\x51")) >= 0:
        data[start + 8 : start + 16] = struct.pack(">II", 60_000, 60_000)
    else:
        start = min(
            found for kind in (b"\xff\xc1\0", b"\xff\xc3\0", b"\xff\xf7\0") if (found := data.find(kind, pixels)) > 0
        )
        data[start + 5 : start + 9] = struct.pack(">HH", 60_000, 60_000)
    started = time.perf_counter()
    with pytest.raises(BadImageError, match=r"its stream is 60,000 x 60,000 pixels|more than 4,096 tiles"):
        decode_bytes(bytes(data))
    assert time.perf_counter() - started < 0.5


NOTHING = struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 0)
ITEM, OPEN_ITEM = (struct.pack("<HHI", 0xFFFE, 0xE000, length) for length in (0, 0xFFFFFFFF))
OPEN_SEQUENCE = struct.pack("<HH2sHI", 0x0007, 0x1001, b"SQ", 0, 0xFFFFFFFF)
END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
FLOODS = {
    "elements": NOTHING * 400_000,
    "items": OPEN_SEQUENCE + ITEM * 400_000 + END,
    "elements of an item": OPEN_SEQUENCE + OPEN_ITEM + NOTHING * 400_000 + END,
    "sequences in sequences": OPEN_SEQUENCE + (OPEN_ITEM + OPEN_SEQUENCE) * 100_000,
    "items of a table": struct.pack("<HH2sHI", 0x0028, 0x3010, b"SQ", 0, 8 * 400_000) + ITEM * 400_000,
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_is_refused_soon(kind: str) -> None:
    data = written(dataset(RAMP))
    start = data.index(b"\xe0\x7f\x10\x00" if kind == "items of a table" else b"\x08\x00\x16\x00")
    started = time.perf_counter()
    with pytest.raises(BadImageError, match=r"of more elements than a radiograph has|cannot be read to the end"):
        decode_bytes(data[:start] + FLOODS[kind] + data[start:])
    assert time.perf_counter() - started < 5


def test_long_private_elements_are_stepped_over() -> None:
    made = dataset(RAMP, BitsStored=12)
    plain = decode_bytes(written(made))
    made.add_new(0x00090010, "LO", "PRIVATE")
    made.add_new(0x00091001, "OB", bytes(2**25))
    assert np.array_equal(decode_bytes(written(made)), plain)


def test_a_file_cut_anywhere_is_refused() -> None:
    for data in (dicom(RAMP, BitsStored=12), published("JPEG2000.dcm"), published("MR_small_RLE.dcm")[:-200]):
        end = len(data) - data[::-1].find(b"\xe0\xdd"[::-1]) if data[-8:-4] == b"\xfe\xff\xdd\xe0" else len(data)
        for kept in [*range(1, 200, 7), *range(200, end - 16, max(1, end // 40))]:
            with pytest.raises(BadImageError):
                decode_bytes(data[:kept])


@pytest.mark.parametrize("vr", [b"Ow", b"OA", b"O\x80", b"MW"])
def test_an_unknown_value_representation_is_damage(vr: bytes) -> None:
    data = dicom(RAMP, BitsStored=12).replace(b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00" + vr)
    with pytest.raises(BadImageError, match=r"damaged DICOM|DICOM without pixel data"):
        decode_bytes(data)


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("JPGExtended.dcm", "libjpeg"),
        ("SC_rgb_jpeg_gdcm.dcm", "libjpeg"),
        ("JPEG2000.dcm", "openjpeg"),
        ("MR_small_jpeg_ls_lossless.dcm", "jpeg_ls"),
    ],
)
def test_a_missing_plugin_is_named(name: str, gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: Callable[[str], object] = syntaxes.find_spec
    monkeypatch.setattr(syntaxes, "find_spec", lambda module: None if module == gone else found(module))
    with pytest.raises(BadImageError, match=r"is not installed: pip install 'cxr-experiments\[dicom\]'"):
        decode_bytes(published(name))
    assert decode_bytes(published("MR_small_RLE.dcm")).shape == (64, 64)
    assert decode_bytes(published("SC_rgb_jpeg_dcmtk.dcm")).shape == (100, 100)


def test_patient_and_issuer_make_an_identity_and_nothing_else_does() -> None:
    one = read_patient_identity(dicom(RAMP, PatientID="12", PatientName="A^B"))
    assert one
    assert read_patient_identity(dicom(RAMP, PatientID="12", PatientName="C^D", StudyDate="20200101")) == one
    assert read_patient_identity(dicom(RAMP, PatientID="12", IssuerOfPatientID="site 2")) != one
    assert read_patient_identity(dicom(RAMP, PatientID="1", IssuerOfPatientID="2")) != one
    for nobody in (dicom(RAMP), dicom(RAMP, PatientID=""), dicom(RAMP, PatientName="A^B"), b"\xff\xd8\xff", b""):
        assert read_patient_identity(nobody) == b""


def secretive(**elements: Any) -> Dataset:
    """A film that says all it can of its patient, some of it in ways that pydicom warns of."""
    made = dataset(RAMP, BitsStored=12, **IDENTIFYING, **elements)
    item = Dataset()
    item.PatientID = IDENTIFYING["PatientID"]
    made.OtherPatientIDsSequence = Sequence([item])
    made.SpecificCharacterSet = "ISO_IR 100"
    return made


def test_no_message_warning_or_log_tells_of_a_person(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    whole = written(secretive()).replace(b"ISO_IR 100", b"QUAGMIRE31")  # an unknown character set
    draw = np.random.default_rng(5)
    errors: list[str] = []
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(0):
        warnings.simplefilter("always")
        for kept in range(140, len(whole) - 1000, 31):
            errors += told(whole[:kept])
        for _ in range(300):
            data = bytearray(whole)
            for place in draw.integers(132, len(whole) - 8192, 3):
                data[place] = draw.integers(256)
            errors += told(bytes(data))
    said = " ".join([*errors, *(str(one.message) for one in warned), caplog.text, *capfd.readouterr()])
    assert len(errors) > 60
    assert not warned
    for secret in [*IDENTIFYING.values(), "QUAGMIRE", "Xylographer", "Ziegelstein"]:
        assert secret not in said


def told(data: bytes) -> list[str]:
    """What is said of a file in all that is done with one; a chain of errors would be said as well."""
    reasons: list[str] = []
    for read in (decode_bytes, read_header, read_patient_identity):
        try:
            read(data)
        except BadImageError as error:
            chained = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
            reasons += [str(error), str(chained or "")]
    return reasons


def test_threads_decode_alike() -> None:
    names = ["JPEG2000.dcm", "JPGExtended.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm", "CT_small.dcm"]
    expected = {name: decode_bytes(published(name)) for name in names}
    wrong: list[str] = []

    def decode_all() -> None:
        for name in names * 4:
            if not np.array_equal(decode_bytes(published(name)), expected[name]):
                wrong.append(name)

    threads = [threading.Thread(target=decode_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
