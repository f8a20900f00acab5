"""Transfer syntaxes: which are read, by which codec, and what a codec has to have installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from cxr_experiments.errors import BadImageError


@dataclass(frozen=True)
class Codec:
    """Who unpacks the pixels of one transfer syntax.

    Attributes:
        name: of the compression, for messages.
        stream: "jpeg", "jpeg_ls", "jpeg_2000" or "rle": how the compressed bytes begin.
        plugin: pydicom's name of the plug-in.  One each, so that equal files give equal pixels on every machine.
        modules: what must be importable.
    """

    name: str
    stream: str
    plugin: str
    modules: tuple[str, ...] = ()


_LIBJPEG, _OPENJPEG = ("pylibjpeg", "libjpeg"), ("pylibjpeg", "openjpeg")
CODECS = {
    "1.2.840.10008.1.2.4.50": Codec("JPEG Baseline", "jpeg", "pillow"),
    "1.2.840.10008.1.2.4.51": Codec("JPEG Extended", "jpeg", "pylibjpeg", _LIBJPEG),
    "1.2.840.10008.1.2.4.57": Codec("JPEG Lossless", "jpeg", "pylibjpeg", _LIBJPEG),
    "1.2.840.10008.1.2.4.70": Codec("JPEG Lossless SV1", "jpeg", "pylibjpeg", _LIBJPEG),
    "1.2.840.10008.1.2.4.80": Codec("JPEG-LS Lossless", "jpeg_ls", "pyjpegls", ("jpeg_ls",)),
    "1.2.840.10008.1.2.4.81": Codec("JPEG-LS Near-Lossless", "jpeg_ls", "pyjpegls", ("jpeg_ls",)),
    "1.2.840.10008.1.2.4.90": Codec("JPEG 2000 Lossless", "jpeg_2000", "pylibjpeg", _OPENJPEG),
    "1.2.840.10008.1.2.4.91": Codec("JPEG 2000", "jpeg_2000", "pylibjpeg", _OPENJPEG),
    "1.2.840.10008.1.2.5": Codec("RLE Lossless", "rle", "pydicom"),
}


def require_plugin(codec: Codec) -> None:
    """Stop when the codec's plug-in is not installed.

    Raises:
        BadImageError: it is not; the text says what to install.
    """
    if any(find_spec(module) is None for module in codec.modules):
        raise BadImageError(
            f"{codec.name} pixels need a plug-in that is not installed: pip install 'cxr-experiments[dicom]'"
        )


def name_of(syntax: str) -> str:
    """The standard's name of a transfer syntax; what the standard does not know is not quoted from the file."""
    from pydicom.uid import UID, AllTransferSyntaxes

    return UID(syntax).name if syntax in AllTransferSyntaxes else "of no known UID"
