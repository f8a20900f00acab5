"""A DICOM file becomes gray pixels: what is read of it, in which order, and what is never read.

    elements   bytes -> the few data elements that are asked for, undecoded
    layout     rows, columns, bits and kind of pixel, checked before anything is allocated
    stored     pixel data -> stored values, by NumPy or one of pydicom's plug-ins (`syntaxes`, `streams`)
    gray       stored values -> 8-bit gray (`tables`)

Of the patient, PatientID and its issuer alone are read, by `read_patient_identity` alone, for a key that is a salted
hash; names, dates and UIDs are stepped over.
"""

from __future__ import annotations

from cxr_experiments.images.decode.dicom.elements import is_dicom, read_elements
from cxr_experiments.images.decode.dicom.gray import GRAY_TAGS, to_gray
from cxr_experiments.images.decode.dicom.layout import LAYOUT_TAGS, read_layout
from cxr_experiments.images.decode.dicom.stored import PIXEL_TAGS, read_stored
from cxr_experiments.images.decode.limits import Gray, Header

__all__ = ["decode_dicom", "is_dicom", "read_dicom_header", "read_patient_identity"]

_PATIENT_ID, _ISSUER = 0x00100020, 0x00100021


def decode_dicom(data: bytes) -> Gray:
    """The gray pixels of one DICOM file in memory: (rows, columns) uint8 in [0, 255].

    Raises:
        BadImageError: damaged, without an image, of several frames, in a coding that is not read, or a plug-in is
            missing.
    """
    elements = read_elements(data, LAYOUT_TAGS | GRAY_TAGS | PIXEL_TAGS, with_pixels=True)
    layout = read_layout(elements)
    return to_gray(read_stored(elements, layout), elements, layout)


def read_dicom_header(data: bytes) -> Header:
    """Size and mode ("MONOCHROME2 12-bit") of one DICOM file in memory, without decoding it.

    Raises:
        BadImageError: damaged, or no image that `decode_dicom` would read.
    """
    layout = read_layout(read_elements(data, LAYOUT_TAGS))
    return Header(layout.columns, layout.rows, layout.mode)


def read_patient_identity(data: bytes) -> bytes:
    """What a DICOM file calls its patient: raw bytes of PatientID and its issuer, to be hashed and never shown.

    Empty when it names none, and for files of other kinds.

    Raises:
        BadImageError: a damaged file.
    """
    if not is_dicom(data):
        return b""
    elements = read_elements(data, frozenset((_PATIENT_ID, _ISSUER)))
    patient, issuer = (elements.raw(tag).strip(b" \0") for tag in (_PATIENT_ID, _ISSUER))
    return len(issuer).to_bytes(4, "big") + issuer + patient if patient else b""
