"""Equal files are found whatever they are called, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.images.duplicates import exact_duplicates
from cxr_experiments.images.manifest import read_manifest


def test_equal_files_form_groups_in_order(tmp_path: Path) -> None:
    contents = {
        "NORMAL/c": b"one",
        "NORMAL/a": b"two",
        "NORMAL/b": b"one",
        "PNEUMONIA/d": b"two",
        "PNEUMONIA/e": b"six",
    }
    for name, content in {**contents, "PNEUMONIA/f": b"one"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    manifest = read_manifest(DataConfig(source="folder", root=str(tmp_path)))
    expected = (("NORMAL/a", "PNEUMONIA/d"), ("NORMAL/b", "NORMAL/c", "PNEUMONIA/f"))
    assert exact_duplicates(manifest) == expected
    assert exact_duplicates(replace(manifest, rows=manifest.rows[::-1])) == expected


def test_empty_and_unreadable_files_are_copies_of_nothing(tmp_path: Path) -> None:
    for name in ("NORMAL/a", "PNEUMONIA/b"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
        (tmp_path / f"{name}-link").symlink_to(tmp_path / "gone")
    assert exact_duplicates(read_manifest(DataConfig(source="folder", root=str(tmp_path)))) == ()


def test_phantoms_have_no_copies() -> None:
    assert exact_duplicates(read_manifest(DataConfig(num_patients=50))) == ()
