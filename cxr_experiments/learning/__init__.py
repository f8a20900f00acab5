"""From arrays to trained weights: augmentation, pipeline, model, trainer.  The only wing that knows TensorFlow.

TensorFlow's C++ part writes its start-up notes to stderr before any setting reaches it; they are held back here, once,
and shown only when the import fails.  TF_CPP_MIN_LOG_LEVEL=0 lets everything through.
"""

from __future__ import annotations

import os

from cxr_experiments.config.quiet import stderr_held_back

if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
    import tensorflow
else:
    with stderr_held_back():
        import tensorflow  # noqa: F401
