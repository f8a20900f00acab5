"""`preview` draws each augmentation of conf/ from training images alone."""

from __future__ import annotations

from pathlib import Path

from conftest import Command
from PIL import Image

from cxr_experiments.config.compose import CONF_DIR


def test_each_augmentation_gets_its_contact_sheet(tmp_path: Path, command: Command) -> None:
    choices = sorted(path.stem for path in (CONF_DIR / "augmentation").glob("*.yaml"))
    size = ("data.num_patients=20", "data.image_size_px=64")
    said = command("preview", "-m", f"augmentation={','.join(choices)}", *size, home=tmp_path)
    assert said.status == 0, said.err
    sheets = [Path(line) for line in said.out.splitlines()]
    assert [sheet.name for sheet in sheets] == [f"phantom-{choice}.png" for choice in choices]
    for sheet in sheets:
        with Image.open(sheet) as picture:
            assert picture.width > 6 * 64
    assert len({sheet.read_bytes() for sheet in sheets}) == len(choices), "no two choices look alike"


def test_sheet_goes_where_it_is_told(tmp_path: Path, command: Command) -> None:
    words = ("data.num_patients=20", "data.image_size_px=32", f"output={tmp_path}/a (1)/sheet.png")
    assert command("preview", *words, home=tmp_path).status == 0
    assert (tmp_path / "a (1)" / "sheet.png").is_file()
