"""From cells to verdicts: which runs may be compared, on what, and what the comparison says."""

from cxr_experiments.evidence.comparison.arms import Arm, Cell, Rows
from cxr_experiments.evidence.comparison.checks import Check, Overlap
from cxr_experiments.evidence.comparison.differences import Comparison, Difference, Estimate, arm_mean, compare_arms
from cxr_experiments.evidence.comparison.files import read_arm
from cxr_experiments.evidence.comparison.measures import MEASURES
from cxr_experiments.evidence.comparison.noise import NoiseFloor, noise_floor
from cxr_experiments.evidence.comparison.subgroups import Subgroup
from cxr_experiments.evidence.comparison.verdicts import sentence, verdict

__all__ = [
    "MEASURES",
    "Arm",
    "Cell",
    "Check",
    "Comparison",
    "Difference",
    "Estimate",
    "NoiseFloor",
    "Overlap",
    "Rows",
    "Subgroup",
    "arm_mean",
    "compare_arms",
    "noise_floor",
    "read_arm",
    "sentence",
    "verdict",
]
