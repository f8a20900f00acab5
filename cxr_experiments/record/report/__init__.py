"""What a study found, to read, to print and to compute with: HTML, Markdown, CSV and LaTeX."""

from cxr_experiments.record.report.ensembles import write_ensembles
from cxr_experiments.record.report.facts import ArmFacts, StudyFacts
from cxr_experiments.record.report.writing import write_report

__all__ = ["ArmFacts", "StudyFacts", "write_ensembles", "write_report"]
