"""The report of a data set: what was found wrong in it, how its images are spread, and pictures of what is odd.

finding   one thing found: level, code, a sentence, what to do, and the files
counts, copies, patients, shortcuts, quality   the checks, each from what is known of the images to findings
building  all of them together
kept      the report on disk, by the digest of the data set
terminal, page   the report as lines, and as a page with pictures
"""

from cxr_experiments.record.data_report.building import build_report, look
from cxr_experiments.record.data_report.finding import ERROR, INFO, WARNING, DataReport, Finding
from cxr_experiments.record.data_report.kept import (
    NOT_VERIFIED,
    data_folder,
    data_tags,
    find_report,
    keep_report,
    report_key,
    report_link,
    to_json,
    verify_command,
)
from cxr_experiments.record.data_report.page import write_page
from cxr_experiments.record.data_report.telling import tell_mlflow, tell_reports_again
from cxr_experiments.record.data_report.terminal import terminal_lines

__all__ = [
    "ERROR",
    "INFO",
    "NOT_VERIFIED",
    "WARNING",
    "DataReport",
    "Finding",
    "build_report",
    "data_folder",
    "data_tags",
    "find_report",
    "keep_report",
    "look",
    "report_key",
    "report_link",
    "tell_mlflow",
    "tell_reports_again",
    "terminal_lines",
    "to_json",
    "verify_command",
    "write_page",
]
