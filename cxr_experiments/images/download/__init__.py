"""Public data sets brought to this machine, checked, and never half there.

`fetch` brings one file with a published checksum; `place` unpacks the Kermany set from an archive and holds it against
known counts; `kaggle` asks kagglehub for that archive.  Nothing is printed here, and no secret is kept.
"""

from __future__ import annotations

from cxr_experiments.images.download.addresses import checked, file_below, shown
from cxr_experiments.images.download.fetch import Fetched, Listener, alone, fetch, md5_of
from cxr_experiments.images.download.kaggle import by_hand, fetch_from_kaggle, partial_archive
from cxr_experiments.images.download.names import BadArchiveError
from cxr_experiments.images.download.partial import Partial
from cxr_experiments.images.download.place import (
    NAME,
    Placed,
    archives_in,
    is_archive,
    place_archive,
    present,
)
from cxr_experiments.images.download.transfer import Patience

__all__ = [
    "NAME",
    "BadArchiveError",
    "Fetched",
    "Listener",
    "Partial",
    "Patience",
    "Placed",
    "alone",
    "archives_in",
    "by_hand",
    "checked",
    "fetch",
    "fetch_from_kaggle",
    "file_below",
    "is_archive",
    "md5_of",
    "partial_archive",
    "place_archive",
    "present",
    "shown",
]
