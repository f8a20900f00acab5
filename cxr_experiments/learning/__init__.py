"""From arrays to trained weights: augmentation, pipeline, model, trainer.  The only wing that knows TensorFlow.

TensorFlow's C++ part writes its start-up notes to stderr before any setting reaches it; they are held back here, once,
and shown only when the import fails.  TF_CPP_MIN_LOG_LEVEL=0 lets everything through.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _held_back_notes() -> Iterator[None]:
    """Send file descriptor 2 to a temporary file; on an error its text is written to stderr after all."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as notes:
        stderr = os.dup(2)
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except BaseException:
            notes.seek(0)
            os.write(stderr, notes.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
    import tensorflow
else:
    with _held_back_notes():
        import tensorflow  # noqa: F401
