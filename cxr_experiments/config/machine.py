"""What the machine refuses, in one line: room on the disk, a folder to write into, memory."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from cxr_experiments.errors import CxrError, MachineError

_TO_DO = {
    errno.ENOSPC: "free the disk",
    errno.EDQUOT: "free space within your quota",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.EROFS: "set CXR_HOME to a folder that can be written",
    errno.EACCES: "mend its permissions, or set CXR_HOME to a folder that can be written",
    errno.EPERM: "mend its permissions, or set CXR_HOME to a folder that can be written",
    errno.EIO: "look after the disk",
    errno.ENOMEM: "free memory",
}


def refusal(error: BaseException, where: str = "") -> str:
    """What the machine refused, and what to do; "" for errors of any other kind.

    Args:
        error: anything.
        where: what was being written, for errors that do not know their file.

    Example:
        >>> refusal(OSError(errno.ENOSPC, "No space left on device", "/runs/a"))
        '/runs/a: No space left on device; free the disk, then the same command goes on'
        >>> refusal(FileNotFoundError(errno.ENOENT, "No such file", "/runs/a"))
        ''
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":  # TensorFlow's own
        found = re.search(r"(OOM when allocating|Unable to allocate|failed to allocate)[^\n\[]*", str(error))
        told = f" ({found[0].strip()})" if found else ""
        return f"out of memory{told}; try a smaller training.batch_size or data.image_size_px, or close other programs"
    if not isinstance(error, OSError):
        return ""
    number = _number(error)
    if number not in _TO_DO:
        return ""
    place = str(error.filename or where)
    return f"{place}{place and ': '}{os.strerror(number)}; {_TO_DO[number]}, then the same command goes on"


def _number(error: OSError) -> int:
    """The kernel's number of the error; HDF5 tells it in its text alone."""
    told = re.search(r"\berrno = (\d+)", str(error))
    return error.errno or (int(told[1]) if told else 0)


@contextmanager
def refusals_told(where: str = "") -> Iterator[None]:
    """Every refusal of the machine leaves as one MachineError.

    Raises:
        MachineError: no room on the disk, a folder that cannot be written, no memory.
    """
    try:
        yield
    except CxrError:
        raise
    except Exception as error:
        if told := refusal(error, where):
            raise MachineError(told) from error
        raise
