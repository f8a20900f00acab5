"""User names and passwords in addresses: taken out of what is shown or kept, and refused where they would be kept."""

from __future__ import annotations

import re

_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")
WHERE_THEY_BELONG = (
    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the environment"
)


def without_credentials(text: str) -> str:
    """`https://user:secret@host` -> `https://host`.

    Example:
        >>> without_credentials("cannot reach https://me:s@cret@host:5000/api")
        'cannot reach https://host:5000/api'
    """
    return _CREDENTIALS.sub("", text)


def holds_credentials(text: str) -> bool:
    """Whether an address in the text has a user name or a password."""
    return _CREDENTIALS.search(text) is not None
