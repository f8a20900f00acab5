"""Openings of a test split are counted by its digest, over both ledgers, and never lost to a neighbour."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.images.manifest import read_manifest
from cxr_experiments.images.splits import make_split
from cxr_experiments.record.ledger import count_openings, record_opening

ROOT = Path(__file__).resolve().parents[1]


def test_openings_are_counted_by_test_split(tmp_path: Path) -> None:
    assert record_opening(tmp_path, "a" * 64, {"run_id": "1"}) == 1
    assert record_opening(tmp_path, "b" * 64, {"run_id": "1"}) == 1
    assert record_opening(tmp_path, "a" * 64, {"run_id": "2"}) == 2
    lines = (tmp_path / "test_ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["run_id"] for line in lines] == ["1", "1", "2"]
    assert all("time" in json.loads(line) for line in lines)


def test_published_ledger_counts_too_and_a_copied_line_once(tmp_path: Path) -> None:
    record_opening(tmp_path, "a" * 64, {"run_id": "1"})
    published = tmp_path / "results" / "test_ledger.jsonl"
    published.parent.mkdir()
    earlier = json.dumps({"test_digest": "a" * 64, "openings": 12, "note": "before the ledger"})
    published.write_text(earlier + "\n" + (tmp_path / "test_ledger.jsonl").read_text())
    assert count_openings(tmp_path, "a" * 64) == 13


def test_processes_at_once_lose_no_line(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom cxr_experiments.record.ledger import record_opening\n"
        "for n in range(20):\n    record_opening(Path(sys.argv[1]), 'a' * 64, {'run_id': f'{sys.argv[2]}-{n}'})\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(n)]) for n in range(3)]
    assert [process.wait(timeout=60) for process in started] == [0, 0, 0]
    assert count_openings(tmp_path, "a" * 64) == 60


@pytest.mark.real_data
def test_projects_ledger_begins_with_the_looks_from_before_it(real_data: Path) -> None:
    data = DataConfig(source="kaggle", root=str(real_data))
    digest = make_split(read_manifest(data), data, seed=0).test_digest
    lines = [json.loads(line) for line in (ROOT / "results" / "test_ledger.jsonl").read_text().splitlines()]
    assert all(line["test_digest"] == digest for line in lines if line.get("source") == "kaggle")
    before = [line for line in lines if "openings" in line]
    assert sum(line["openings"] for line in before) == 18
    assert lines[: len(before)] == before
