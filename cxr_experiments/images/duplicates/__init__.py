"""Which images of a data set are one film: files of equal bytes, equal pixels, or pixels that differ by a re-encoding.

`exact` reads the manifest alone and serves the splits; `near` needs the small copies of `fingerprints`.
"""

from cxr_experiments.images.duplicates.exact import content_key, exact_duplicates
from cxr_experiments.images.duplicates.near import NearDuplicates, find_near_duplicates, pixel_duplicates

__all__ = ["NearDuplicates", "content_key", "exact_duplicates", "find_near_duplicates", "pixel_duplicates"]
