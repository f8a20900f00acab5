"""Broken JPEG, PNG, DICOM and npz files by number: the same number always gives the same bytes.

As a script it decodes inputs whose numbers it reads, one a line, and answers with outcome, processor time and peak
memory: `python fuzz_inputs.py` is the child that may crash in place of the test.
"""

from __future__ import annotations

import os
import random
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.data import get_testdata_file

# One file of each transfer syntax out of pydicom's own wheel, small ones, and the deflated one that is refused.
DICOM_FILES = {
    "implicit": "MR_small_implicit.dcm",
    "explicit": "CT_small.dcm",
    "big endian": "MR_small_bigendian.dcm",
    "big endian colour": "ExplVR_BigEnd.dcm",
    "4:2:2": "SC_ybr_full_422_uncompressed.dcm",
    "palette": "examples_palette.dcm",
    "deflated": "image_dfl.dcm",
    "RLE": "MR_small_RLE.dcm",
    "RLE colour": "SC_rgb_rle_16bit.dcm",
    "JPEG baseline": "SC_rgb_jpeg_dcmtk.dcm",
    "JPEG extended": "JPGExtended.dcm",
    "JPEG lossless": "SC_rgb_jpeg_gdcm.dcm",
    "JPEG-LS": "MR_small_jpeg_ls_lossless.dcm",
    "JPEG-LS near lossless": "SC_rgb_jls_lossy_line.dcm",
    "JPEG 2000": "JPEG2000.dcm",
    "JPEG 2000 lossless": "MR_small_jp2klossless.dcm",
    "JPEG 2000 colour": "GDCMJ2K_TextGBR.dcm",
}
RASTERS = ("gray JPEG", "progressive JPEG", "CMYK JPEG", "gray PNG", "16-bit PNG", "palette PNG", "RGBA PNG")
NPZ = "npz"
KINDS = (*RASTERS, *DICOM_FILES, NPZ)
_SOURCE = 0x5EED


@cache
def whole(kind: str) -> bytes:
    """The file before it is broken."""
    if kind in DICOM_FILES:
        path = get_testdata_file(DICOM_FILES[kind], download=False)
        assert isinstance(path, str), f"pydicom's wheel lacks {DICOM_FILES[kind]}"
        return Path(path).read_bytes()
    if kind == NPZ:
        return _npz()
    gray = Image.fromarray(np.add.outer(np.arange(90), np.arange(70)).astype(np.uint8))
    mode, options = {
        "gray JPEG": ("L", {}),
        "progressive JPEG": ("RGB", {"progressive": True}),
        "CMYK JPEG": ("CMYK", {}),
        "palette PNG": ("P", {}),
        "RGBA PNG": ("RGBA", {}),
    }.get(kind, ("L", {}))
    image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257) if kind == "16-bit PNG" else gray
    if mode != "L":
        image = gray.convert("RGB").convert(mode)
    file = BytesIO()
    image.save(file, format=kind.rpartition(" ")[2], **options)  # type: ignore[arg-type]
    return file.getvalue()


def _npz() -> bytes:
    """As MedMNIST publishes the 28 px file, with other pixels."""
    from cxr_experiments.images.published import known

    facts, arrays = known("pneumoniamnist"), {}
    assert facts is not None
    for split in ("train", "val", "test"):
        labels = np.repeat(np.arange(2, dtype=np.uint8), [facts.counts[split, 0], facts.counts[split, 1]])
        arrays[f"{split}_labels"] = labels[:, None]
        arrays[f"{split}_images"] = np.broadcast_to(labels[:, None, None], (len(labels), 28, 28)).copy()
    file = BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def kind_of(number: int) -> str:
    """Kinds take turns."""
    return KINDS[number % len(KINDS)]


def broken(number: int) -> bytes:
    """The bytes of one input: a whole file after one to three kinds of damage."""
    draw = random.Random(_SOURCE * 1_000_003 + number)
    data = bytearray(whole(kind_of(number)))
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        damage = draw.choices(list(DAMAGES), weights=list(DAMAGES.values()))[0]
        damage(data, draw)
        if not data:
            break
    return bytes(_sealed(data) if draw.random() < 0.5 else data)


def _place(data: bytearray, draw: random.Random) -> int:
    """Anywhere, or near the beginning of the header or of DICOM's pixel data: little stands there, and it decides."""
    header = 132 if data[128:132] == b"DICM" else 0
    start = draw.choice((header, max(0, data.find(b"\xe0\x7f\x10\x00")), max(0, data.find(b"\xe0\x7f\x10\x00"))))
    return min(len(data) - 1, start + draw.randrange(draw.choice((100, 600, len(data) + 1))))


def _flip_bits(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.randint(1, 8)):
        data[_place(data, draw)] ^= 1 << draw.randrange(8)


def _overwrite(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.randint(1, 8)):
        data[_place(data, draw)] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))


def _huge_number(data: bytearray, draw: random.Random) -> None:
    number = draw.choice((0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 40_000, 8_192))
    order = draw.choice("<>")
    coded = struct.pack(order + ("I" if number > 0xFFFF or draw.random() < 0.3 else "H"), number)
    start = _place(data, draw)
    data[start : start + len(coded)] = coded


def _truncate(data: bytearray, draw: random.Random) -> None:
    del data[draw.choice((_place(data, draw), draw.randrange(len(data)))) :]


def _zeros(data: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(data))
    data[start:] = bytes(len(data) - start)


def _cut_out(data: bytearray, draw: random.Random) -> None:
    start = _place(data, draw)
    del data[start : start + draw.choice((1, 2, 4, 64, 1000))]


def _repeat(data: bytearray, draw: random.Random) -> None:
    start, length = _place(data, draw), draw.choice((1, 2, 8, 64, 4000))
    data[start:start] = data[start : start + length] * draw.choice((1, 2, 50))


def _insert_noise(data: bytearray, draw: random.Random) -> None:
    start = _place(data, draw)
    data[start:start] = draw.randbytes(draw.choice((1, 2, 16, 500)))


def _another_head(data: bytearray, draw: random.Random) -> None:
    """The beginning of one kind before the end of another."""
    other = whole(draw.choice(KINDS[:-1]))
    length = draw.choice((8, 140, 400))
    data[:length] = other[:length]


def _another_syntax(data: bytearray, draw: random.Random) -> None:
    """Another transfer syntax than the pixels are in, where its UID has room."""
    start = data.find(b"\x02\x00\x10\x00UI") + 8
    if start >= 8 and start + 2 < len(data):
        ends = ("", ".1", ".2", ".5", ".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91")
        room = data[start - 2]
        fitting = [uid for uid in (f"1.2.840.10008.1.2{end}".encode() for end in ends) if len(uid) <= room]
        data[start : start + room] = draw.choice(fitting or [b""]).ljust(room, b"\0")


def _grow(data: bytearray, draw: random.Random) -> None:
    """Dimensions as large as the limits let through, or larger, in the DICOM header and in the stream alike."""
    height, width = draw.choice(((8_192, 8_192), (20_000, 3_355), (6_600, 6_600), (60_000, 60_000), (4_000, 17)))
    for tag, value in ((b"\x28\x00\x10\x00US\x02\x00", height), (b"\x28\x00\x11\x00US\x02\x00", width)):
        if (start := data.find(tag)) >= 0:
            data[start + 8 : start + 10] = struct.pack("<H", value)
    if (start := data.find(b"\xff\x4f\xff\x51")) >= 0:
        data[start + 8 : start + 16] = data[start + 24 : start + 32] = struct.pack(">II", width, height)
    for marker in (b"\xff\xc0\x00", b"\xff\xc1\x00", b"\xff\xc2\x00", b"\xff\xc3\x00", b"\xff\xf7\x00"):
        if (start := data.find(marker)) >= 0 and start + 9 < len(data):
            data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    if (start := data.find(b"IHDR")) >= 0:
        data[start + 4 : start + 12] = struct.pack(">II", width, height)


def _bomb(data: bytearray, draw: random.Random) -> None:
    """Small files of much: a PNG whose few bytes inflate to millions, a deflated DICOM file that does the same."""
    packed = zlib.compress(bytes(draw.choice((10, 60, 200)) * 1_000_000), 9)
    if (start := data.find(b"IDAT")) >= 0:
        head = bytes(data[: start - 4])
        data[:] = head + b"".join(map(_chunk, (b"zTXt", b"IDAT", b"IEND"), (b"c\0\0" + packed, packed, b"")))
        return
    if (start := data.find(b"1.2.840.10008.1.2.1.99")) >= 0:
        data[start + 30 :] = packed[2:-4]
        return
    data += packed


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _sealed(data: bytearray) -> bytearray:
    """PNG chunks with their checksums mended, so that damage reaches what lies behind them."""
    position = 8
    while data[:4] == b"\x89PNG" and position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[position + 4 : end]))
        position = end + 4
    return data


DAMAGES: dict[Callable[[bytearray, random.Random], None], int] = {
    _flip_bits: 6,
    _overwrite: 6,
    _huge_number: 5,
    _truncate: 3,
    _zeros: 1,
    _cut_out: 3,
    _repeat: 2,
    _insert_noise: 2,
    _another_head: 1,
    _another_syntax: 2,
    _grow: 2,
    _bomb: 1,
}


def read(number: int, folder: Path) -> str:
    """ "decoded", or "refused" with our own error's text; any other error is the caller's to see."""
    from cxr_experiments.errors import DataError
    from cxr_experiments.images.decode import decode_bytes, read_header, read_patient_identity

    data = broken(number)
    try:
        if kind_of(number) == NPZ:
            return _read_npz(data, folder)
        pixels = decode_bytes(data)
        header = read_header(data)
        read_patient_identity(data)
    except DataError as error:
        text = str(error)
        assert text.isprintable(), f"more than one line, or control characters: {text!r}"
        assert len(text) < 600, text
        return f"refused: {text}"
    assert (pixels.dtype, pixels.ndim) == (np.uint8, 2)
    assert sorted(pixels.shape) == sorted((header.width, header.height))
    return "decoded"


def _read_npz(data: bytes, folder: Path) -> str:
    """As if these bytes had been published."""
    import hashlib

    from cxr_experiments.config.schema import DataConfig
    from cxr_experiments.images.manifest import load_pixels
    from cxr_experiments.images.manifest.pneumoniamnist import read_npz
    from cxr_experiments.images.published import PublishedFile

    path = folder / "pneumoniamnist.npz"
    path.write_bytes(data)
    published = PublishedFile(path.name, "", hashlib.md5(data, usedforsecurity=False).hexdigest())
    options = DataConfig(source="pneumoniamnist", root=str(folder), npz_size_px=28)
    manifest = read_npz(path, published, options)
    load_pixels(manifest.rows[-1], manifest, options)
    return "decoded"


def _raise() -> str:
    raise RuntimeError("planted")


def _hoard() -> str:
    return f"decoded {np.ones(40 * 2**20).nbytes}"  # 320 MiB


def _sleep() -> str:
    time.sleep(60)
    return "decoded"


def _toil() -> str:
    started = time.process_time()
    while time.process_time() < started + 1.2:
        pass
    return "decoded"


def _chatter() -> str:
    print("a warning")
    return "decoded"


# Faults that must be noticed, by numbers that no input has.
PLANTED: dict[int, Callable[[], str]] = {-1: os.abort, -2: _raise, -3: _hoard, -4: _sleep, -5: _chatter, -6: _toil}


def peak_mib() -> float:
    """The most that this process ever held; getrusage would count what its parent held when it was forked."""
    (told,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(told.split()[1]) / 1024


def serve(make: Callable[[int], object], ask: Callable[[int, Path], str]) -> None:
    """A number in, a line out: number, outcome, processor seconds, peak MiB of this process, separated by tabs.

    `make` prepares an input before the clock starts; `ask` reads it, with a folder to put it in.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        print("ready", flush=True)
        for line in sys.stdin:
            if int(line) >= 0:
                make(int(line))
            started = time.process_time()  # of the processor: other work on the machine does not count
            try:
                outcome = PLANTED[int(line)]() if int(line) in PLANTED else ask(int(line), Path(folder))
            except BaseException as error:  # what escapes is what the test is for
                outcome = f"escaped: {type(error).__name__}: {str(error)[:500]}"
            seconds = time.process_time() - started
            print(line.strip(), " ".join(outcome.split()), f"{seconds:.3f}", f"{peak_mib():.0f}", sep="\t", flush=True)


if __name__ == "__main__":
    serve(broken, read)
