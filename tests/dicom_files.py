"""DICOM files written for tests: any pixels, any elements, and what is nowhere to be found afterwards."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

Pixels = NDArray[Any]

# Each unmistakable; none may leave the file.
IDENTIFYING = {
    "PatientName": "Xylographer^Quillon",
    "PatientID": "PATID-7Q3Z-991177",
    "IssuerOfPatientID": "ISSUER-KRAKENWALD",
    "OtherPatientIDs": "OTHERID-55QX",
    "PatientBirthDate": "19370429",
    "PatientAddress": "12 Zwetschgen Lane",
    "PatientTelephoneNumbers": "0800-XYLO-55",
    "AccessionNumber": "ACCQ-8812-ZX",
    "StudyID": "STUDYQ-4417",
    "InstitutionName": "Hospital Brummkreisel",
    "ReferringPhysicianName": "Doktor^Ziegelstein",
    "OperatorsName": "Operator^Wumbaba",
    "StudyDate": "19991231",
    "StudyDescription": "Thorax of Xylographer",
    "PatientComments": "Comment QUAGMIRE-31",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.77771111777711117777",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.88882222888822228888",
    "SOPInstanceUID": "1.2.826.0.1.3680043.8.498.99993333999933339999",
}


def dataset(pixels: Pixels, **elements: Any) -> Dataset:
    """An image that pydicom could show: (rows, columns) or (rows, columns, 3) of uint8, uint16, int8 or int16."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1")
    made.file_meta.MediaStorageSOPInstanceUID = elements.get("SOPInstanceUID", generate_uid())
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID
    bits = 8 * pixels.dtype.itemsize
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    made.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated, made.BitsStored = bits, elements.pop("BitsStored", bits)
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    made["PixelData"].VR = "OB" if bits == 8 else "OW"
    for name, value in elements.items():
        if value is None:
            delattr(made, name)
        else:
            setattr(made, name, value)
    return made


def written(made: Dataset) -> bytes:
    """The file as bytes, in the transfer syntax that the dataset names."""
    file = BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def dicom(pixels: Pixels, **elements: Any) -> bytes:
    """An uncompressed little-endian file."""
    return written(dataset(pixels, **elements))


def compressed(pixels: Pixels, syntax: str, stream: bytes, **elements: Any) -> bytes:
    """A file around a stream that was compressed elsewhere."""
    made = dataset(pixels, **elements)
    made.file_meta.TransferSyntaxUID = UID(syntax)
    made.PixelData = encapsulate([stream])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return written(made)


def table(first: int, bits: int, entries: NDArray[np.uint16]) -> Sequence:
    """A modality or VOI LUT sequence of one item."""
    item = Dataset()
    item.add_new(0x00283002, "US", [len(entries) % 65536, first, bits])
    item.add_new(0x00283006, "OW", entries.astype("<u2").tobytes())
    return Sequence([item])


def lossless_jpeg(pixels: NDArray[np.uint16], bits: int) -> bytes:
    """A lossless JPEG stream (ITU-T T.81, annex H): each pixel by its difference from its left neighbour.

    One Huffman table, in which the 17 categories of differences have codes of five bits each.
    """
    height, width = pixels.shape
    values = pixels.astype(np.int64)
    predicted = np.empty_like(values)
    predicted[:, 1:], predicted[1:, 0], predicted[0, 0] = values[:, :-1], values[:-1, 0], 2 ** (bits - 1)
    told = []
    for difference in (((values - predicted) + 2**15) % 2**16 - 2**15).ravel().tolist():
        category = 16 if difference == -(2**15) else abs(difference).bit_length()
        told.append(format(category, "05b"))
        if 0 < category < 16:
            told.append(format(difference if difference > 0 else difference + 2**category - 1, f"0{category}b"))
    bitstream = "".join(told)
    bitstream += "1" * (-len(bitstream) % 8)
    coded = int(bitstream, 2).to_bytes(len(bitstream) // 8, "big").replace(b"\xff", b"\xff\0")
    huffman = b"\0" + bytes([0, 0, 0, 0, 17, *[0] * 11]) + bytes(range(17))
    frame = struct.pack(">BHHB", bits, height, width, 1) + b"\x01\x11\0"
    segments = [(0xC3, frame), (0xC4, huffman), (0xDA, b"\x01\x01\0\x01\0\0")]
    told_segments = b"".join(struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body for kind, body in segments)
    return b"\xff\xd8" + told_segments + coded + b"\xff\xd9"
