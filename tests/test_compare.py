"""`compare` on files as a stranger writes them: the verdict, and one line with status 2 for everything odd."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from simulated_arms import COLUMNS, make_arms, write_arm

from cxr_experiments.errors import ComparisonError, CxrError, RunError
from cxr_experiments.evidence.comparison import read_arm
from cxr_experiments.evidence.comparison.files import read_cell_file

PLAIN = ("image_id", "label", "probability")  # all that a file must have


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a/ and b/: four networks each, b truly worse."""
    folder = tmp_path_factory.mktemp("files")
    for name, arm in zip("ab", make_arms((-1.5,), num_seeds=4, num_patients=160), strict=True):
        write_arm(folder / name, arm)
    return folder


def test_two_folders_of_files_give_a_verdict(files: Path, tmp_path: Path, command: Command) -> None:
    words = (f"a={files}/a/*.csv", f"b={files}/b/*.csv", "margin=0.01", "name_b=no flips", f"output={tmp_path}/out")
    said = command("compare", *words, home=tmp_path)
    assert said.status == 0, said.err
    first, *rest = said.out.splitlines()
    assert first.startswith("no flips: worse by ")
    assert first.endswith("(AUROC on test, 4 seeds, 160 patient keys)")
    text = "\n".join(rest)
    for told in ("two-level bootstrap", "exact sign flip over seeds", "DeLong, seed 3", "exact McNemar, seed 0"):
        assert told in text
    for told in ("bacterial pneumonia", "from training", "a: AUROC .", "no flips: AUROC .", "degrees of freedom"):
        assert told in text
    assert "a and no flips, paired by seed or else by file order: 00abcdef00 with 10abcdef10, " in text
    with (tmp_path / "out" / "comparison.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["verdict"], row["arm"], row["num_seeds"]) == ("worse", "no flips", "4")
    assert (tmp_path / "out" / "forest.png").read_bytes().startswith(b"\x89PNG")


def test_compare_needs_neither_tensorflow_nor_mlflow(files: Path, tmp_path: Path) -> None:
    words = [f"a={files}/a/*.csv", f"b={files}/b/*.csv", "margin=0.01"]
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['compare', *{words!r}]\n"
        "sys.modules.update({name: None for name in ('tensorflow', 'keras', 'mlflow')})\n"  # importing raises
        "try:\n"
        "    runpy.run_module('cxr_experiments.compare', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n"
        "    print('STATUS', end.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert "b: worse by" in done.stdout, done.stdout + done.stderr
    assert "STATUS 2" not in done.stdout


def test_the_fewest_columns_are_enough(tmp_path: Path, command: Command) -> None:
    for name, arm in zip("ab", make_arms((0.0,), num_seeds=3), strict=True):
        write_arm(tmp_path / name, arm, columns=PLAIN)
    said = command("compare", "a=a/*.csv", "b=b/*.csv", "margin=0.05", "metric=brier", home=tmp_path)
    assert said.status == 0, said.err
    assert "(Brier score on split not told, 3 seeds, 120 images, patients not verifiable)" in said.out.splitlines()[0]
    assert "patient independence: not verifiable; intervals are over images" in said.out
    assert "a/run_0 with b/run_0, a/run_1 with b/run_1, a/run_2 with b/run_2" in said.out


def test_one_network_a_side_is_not_resolved(tmp_path: Path, command: Command) -> None:
    for name, arm in zip("ab", make_arms((-2.0,), num_seeds=1), strict=True):
        write_arm(tmp_path / name, arm)
    said = command("compare", "a=a/*.csv", "b=b/*.csv", "margin=0.01", home=tmp_path)
    assert said.status == 0, said.err
    assert said.out.startswith("b: not resolved (one seed: how much training alone moves AUROC is not known; ")
    assert "nan" not in said.out


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)


GOOD = "image_id,label,probability\nx,0,0.25\ny,1,0.75\nz,1,0.5\n"
SAME = "a=a/*.csv b=a/*.csv margin=0.01"
BOTH = "a=a/*.csv b=b/*.csv margin=0.01"
MISTAKES = {  # the text of a/1.csv, that of b/1.csv, the words, and what is told
    "no file": (GOOD, None, "a=a/*.csv b=preds_b/*.csv margin=0.01", "b: no file fits 'preds_b/*.csv' (looked from "),
    "no sides": (None, None, "margin=0.01", "give both sides: a='FOLDER/*.csv' b='FOLDER/*.csv'"),
    "no margin": (
        *(GOOD, None, "a=a/*.csv b=a/*.csv"),
        "margin has no value: give the smallest difference in auroc that matters, as margin=0.01",
    ),
    "metric": (
        *(GOOD, None, f"{SAME} metric=balanced_acuracy"),
        "metric=balanced_acuracy: no such measure; did you mean balanced_accuracy?",
    ),
    "cut short": (GOOD[:-5], None, SAME, "a/1.csv, line 4: found a last line that is not ended; expected a line feed"),
    "label 2": (
        *(GOOD.replace("y,1", "y,2"), None, SAME),
        "a/1.csv, line 3: found label '2'; expected 0 or 1",
    ),
    "other images": (
        *(GOOD, GOOD.replace("z,", "w,"), BOTH),
        "runs a/1 and b/1 were judged on different images: 2 stand in one alone, as w",
    ),
    "phantoms beside films": (
        *("image_id,label,logit,synthetic\nx,0,1,true\n", "image_id,label,logit,synthetic\nx,0,1,false\n", BOTH),
        "different kinds of images: synthetic (run a/1) and real (run b/1)",
    ),
    "output": (
        GOOD,
        None,
        f"{SAME} output=a/1.csv",
        "output=a/1.csv cannot be written: File exists; give another folder",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_is_one_line_with_status_2(case: str, tmp_path: Path, command: Command) -> None:
    a, b, words, told = MISTAKES[case]
    for name, text in (("a", a), ("b", b)):
        if text:
            put(tmp_path, f"{name}/1.csv", text)
    said = command("compare", *words.split(), home=tmp_path)
    assert said.status == 2
    assert told in said.err
    assert said.err.startswith("compare: ")
    assert len(said.err.strip().splitlines()) == 1, said.err
    assert said.out == "" or case == "output"


def test_pattern_that_names_a_folder_or_the_wrong_split_is_told(tmp_path: Path) -> None:
    columns = "image_id,label,logit,split"
    put(tmp_path, "a/1.csv", f"{columns}\nx,0,1,val\ny,1,2,test\n")
    put(tmp_path, "b/1.csv", f"{columns}\nx,0,1,val\ny,1,2,val\n")
    with pytest.raises(ComparisonError, match=r"a' is a folder: give its files, as '.*/a/\*.csv'"):
        read_arm("a", f"{tmp_path}/a")
    with pytest.raises(ComparisonError, match=r"a/1.csv holds rows of 'test', 'val': say which with split=NAME"):
        read_arm("a", f"{tmp_path}/a/*.csv")
    with pytest.raises(ComparisonError, match=r"b/1.csv has no rows of split=test; there are: 'val'"):
        read_arm("b", f"{tmp_path}/b/*.csv", split="test")
    put(tmp_path, "c/1.csv", f"{columns}\nx,0,1,{'v' * 100_000}\ny,1,2,val\n")
    with pytest.raises(ComparisonError) as caught:
        read_arm("c", f"{tmp_path}/c/*.csv")
    assert len(str(caught.value)) < 1000
    assert read_arm("a", f"{tmp_path}/a/*.csv", split="test").cells[0].rows.image_id.tolist() == ["y"]


ODD = {
    "image_id,probability\nx,0.5\n": "line 1: found the columns 'image_id, probability'; expected image_id, label, and",
    "image_id,label\nx,1\n": "expected image_id, label, and logit or probability",
    "image_id;label;logit\nx;1;2\n": "line 1: found the columns 'image_id;label;logit'",
    "": "line 1: found no rows; expected a header and one row for each image",
    "image_id,label,logit\n": "line 1: found no rows",
    "image_id,label,label,logit\nx,1,1,2\n": "line 1: found a column twice",
    "image_id,label,logit\nx,1,2\nx,0,1\n": "line 3: found image_id 'x'; expected each image once",
    "image_id,label,logit\n,1,2\n": "line 2: found image_id ''; expected a name",
    "image_id,label,logit\nx,1,nan\n": "line 2: found 'nan'; expected a finite number",
    "image_id,label,logit\nx,1,1e999\n": "line 2: found '1e999'; expected a finite number",
    "image_id,label,logit\nx,1,1_0\n": "line 2: found '1_0'",
    "image_id,label,logit\nx,1,\ny,0,1\n": "line 2: found ''; expected a finite number",
    "image_id,label,logit\nx,1,\ny,0,\n": "found no logit and no probability",
    "image_id,label,probability\nx,1,0.5\ny,0,1.5\n": "line 3: found probability 1.5; expected a number in [0, 1]",
    "image_id,label,logit\nx,1,2": "line 2: found a last line that is not ended",
    "image_id,label,logit\nx,1\n": "line 2: found 2 cells; expected 3, as in the header; is the file cut short?",
    'image_id,label,logit\n"x,1,2\n': "found unexpected end of data; expected CSV text",
    "image_id,label,logit\nx,1,\0\n": "line 2: found a NUL character",
    "image_id,label,logit,seed\nx,1,2,1\ny,0,1,2\n": "line 3: found seed '2'; expected '1' as on the first row",
    "image_id,label,logit,seed\nx,1,2,one\n": "found seed 'one'; expected a whole number",
    f"image_id,label,logit,seed\nx,1,2,{'9' * 5000}\n": "found seed '99999",
    "image_id,label,logit,synthetic\nx,1,2,yes\n": "found synthetic 'yes'; expected true or false",
    "image_id,label,logit,threshold\nx,1,2,7\n": "found threshold 7; expected a probability in [0, 1]",
    "image_id,label,logit,run_id\nx,1,2,a\ny,1,2,b\n": "line 3: found run_id 'b'",
}


@pytest.mark.parametrize("text", ODD)
def test_odd_file_is_named_with_its_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(text)
    with pytest.raises(RunError) as error:
        read_cell_file(path)
    assert str(error.value).startswith(f"{path}, line ")
    assert ODD[text] in str(error.value)


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"gone.csv cannot be read: No such file or directory"):
        read_cell_file(tmp_path / "gone.csv")


def test_numbers_are_read_as_any_framework_writes_them(tmp_path: Path) -> None:
    """NumPy's savetxt, pandas, R, Excel: exponents of either case, bare points, a byte-order mark, carriage returns."""
    path = tmp_path / "x.csv"
    lines = ["image_id,label,logit,extra", "a,1,1.000000000000000000E+00,", "b,0,-1e-05,?", "c,0,.5,", "d,1,+2.,"]
    path.write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n").encode())
    cell = read_cell_file(path)
    assert cell.rows.logit.tolist() == [1.0, -1e-05, 0.5, 2.0]
    assert cell.rows.probability == pytest.approx(1 / (1 + np.exp(-cell.rows.logit)))
    assert cell.rows.label.tolist() == [1, 0, 0, 1]
    assert (cell.seed, cell.split, cell.synthetic, cell.threshold) == (-1, "", None, 0.5)
    assert cell.run_id == f"{tmp_path.name}/x"


def test_names_of_images_may_hold_any_mark(tmp_path: Path) -> None:
    names = ["a\u2028b", "c\x85d", "e\x0bf", "g,h", 'i"j', "k\nl", " m "]
    path = tmp_path / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image_id", "label", "logit"))
        writer.writerows((name, place % 2, place) for place, name in enumerate(names))
    assert read_cell_file(path).rows.image_id.tolist() == names


def test_whole_columns_are_told_once_for_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    columns = "image_id,label,probability,seed,run_id,dataset_digest,synthetic,threshold,split,patient"
    row = "0.3,7,run a,abc,True,0.25,test,p"
    path.write_text(f"{columns}\nx,1,{row}1\ny,0,{row}2\n")
    cell = read_cell_file(path)
    assert (cell.seed, cell.run_id, cell.dataset_digest, cell.synthetic) == (7, "run a", "abc", True)
    assert (cell.threshold, cell.split, cell.rows.patient.tolist()) == (0.25, "test", ["p1", "p2"])
    assert np.isnan(cell.rows.logit).all()
    assert cell.rows.score.tolist() == [0.3, 0.3]


def test_files_without_seeds_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        put(tmp_path, f"a/run_{number}.csv", GOOD)
    arm = read_arm("a", f"{tmp_path}/a/*.csv")
    assert [(cell.run_id, cell.seed) for cell in arm.cells] == [("a/run_1", 0), ("a/run_2", 1), ("a/run_10", 2)]


def test_files_with_seeds_come_in_the_order_of_these(tmp_path: Path) -> None:
    for name, seed in (("x", 5), ("y", 3)):
        put(tmp_path, f"a/{name}.csv", f"image_id,label,logit,seed\nx,0,1,{seed}\ny,1,2,{seed}\n")
    arm = read_arm("a", f"{tmp_path}/a/*.csv")
    assert [(cell.run_id, cell.seed) for cell in arm.cells] == [("a/y", 3), ("a/x", 5)]
    put(tmp_path, "a/z.csv", GOOD)
    with pytest.raises(ComparisonError, match=r"a: .*z.csv tells no seed and others do: "):
        read_arm("a", f"{tmp_path}/a/*.csv")


def test_prediction_files_of_runs_are_read_too(files: Path, tmp_path: Path) -> None:
    """The columns of the package's own predictions_test.csv, a subset of what `compare` knows."""
    (arm, _) = make_arms(num_seeds=2)
    own = ("image_id", "patient", "split", "label", "logit", "probability", "run_id", "dataset_digest")
    assert set(own) < set(COLUMNS)
    read = read_arm("a", write_arm(tmp_path / "a", arm, columns=own), split="test")
    assert [cell.run_id for cell in read.cells] == ["00abcdef00", "01abcdef01"]
    assert [cell.dataset_digest for cell in read.cells] == ["d" * 64] * 2


CELLS = st.one_of(st.sampled_from(["0", "1", "0.5", "", "x", "1e5", "val", "true"]), st.text(max_size=6))
NAMES = st.sampled_from([*COLUMNS, "synthetic", "threshold", "other"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@example("image_id,label,logit,seed\nx,1,2,\u0663\n")
@example("image_id,label,logit,seed\nx,1,2,\u00b2\n")
@example("image_id,label,logit\rx,1,2\r")
@given(
    st.one_of(
        st.text(),
        st.tuples(st.lists(NAMES, min_size=3, max_size=8), st.lists(st.lists(CELLS, min_size=3, max_size=8))).map(
            lambda table: "".join(",".join(row) + "\n" for row in (table[0], *table[1]))
        ),
    )
)
def test_arbitrary_text_is_a_cell_or_an_error_that_says_where(tmp_path: Path, text: str) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    told, cell = "", None
    try:
        cell = read_cell_file(path)
    except CxrError as error:
        told = str(error)
    assert (cell is None) == (str(path) in told)
    if cell is not None:
        assert len(cell.rows.image_id) == len(cell.rows.label) == len(cell.rows.probability) > 0
        assert set(cell.rows.label.tolist()) <= {0, 1}
        assert np.isfinite(cell.rows.probability).all()
        assert 0 <= cell.threshold <= 1
