"""Can the label be had without the lungs?  Three headings kept apart, and small probes beside them.

    available   properties of the files alone (size, shape, mode) tell the label
    visible     the prepared pixels tell a property, so that a network could see it
    used        the model's score follows a property within a class, or follows a border that was swapped in
    probe       what a small classifier reads from the border, the centre or a thumbnail alone
    exposure    brightness, contrast or sharpness of whole films tell the label
    shift       the pixels tell train from test within a class

An alarm rings when the lower end of an interval passes a declared level.  Nothing here is fitted to a test split.
"""

from cxr_experiments.evidence.shortcuts.association import Association
from cxr_experiments.evidence.shortcuts.available import available
from cxr_experiments.evidence.shortcuts.exposure import exposure
from cxr_experiments.evidence.shortcuts.file import (
    read_associations,
    read_swapped,
    write_associations,
    write_swapped,
)
from cxr_experiments.evidence.shortcuts.gate import Gate, of_data, of_run
from cxr_experiments.evidence.shortcuts.levels import at_levels, unjudgeable
from cxr_experiments.evidence.shortcuts.probes import probes
from cxr_experiments.evidence.shortcuts.properties import PROPERTIES
from cxr_experiments.evidence.shortcuts.swap import Swapped, border_swap, judge_swap
from cxr_experiments.evidence.shortcuts.thumbnails import THUMBNAIL_PX, thumbnails_of
from cxr_experiments.evidence.shortcuts.used import used
from cxr_experiments.evidence.shortcuts.visible import split_shift, visible

__all__ = [
    "PROPERTIES",
    "THUMBNAIL_PX",
    "Association",
    "Gate",
    "Swapped",
    "at_levels",
    "available",
    "border_swap",
    "exposure",
    "judge_swap",
    "of_data",
    "of_run",
    "probes",
    "read_associations",
    "read_swapped",
    "split_shift",
    "thumbnails_of",
    "unjudgeable",
    "used",
    "visible",
    "write_associations",
    "write_swapped",
]
