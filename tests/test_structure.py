"""The house plan, read from the syntax: who imports whom, what stands on the straight page, what is never called."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import cxr_experiments

PACKAGE = Path(cxr_experiments.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
WINGS = {"images", "learning", "evidence", "record"}
MAY_IMPORT = {
    "config": {"config", "errors"},
    "errors": set(),
    "images": {"images", "config", "errors"},
    "learning": {"learning", "images", "config", "errors"},
    "evidence": {"evidence", "images", "config", "errors"},
    "record": {"record", "images", "evidence", "config", "errors"},
    "commands": {*WINGS, "config", "errors"},
}
# The commands that run others; `register` asks `evaluate` which runs may be one network, and at which threshold.
MAY_CALL = {"study": ("train", "evaluate"), "search": ("train",), "register": ("evaluate",)}
DOORS = {
    "tensorflow": {"learning"},
    "keras": {"learning"},
    "ai_edge_litert": {"record/exported"},
    "h5py": {"learning"},
    "optuna": {"commands/search"},
    "mlflow": {"record/tracking"},
    "matplotlib": {"record/figures"},
    "PIL": {"images/decode"},
    "flask": {"commands/app"},
    "werkzeug": {"commands/app"},
    "pydicom": {"images/decode"},
    "requests": {"images/download", "record/tracking"},
    "urllib3": {"images/download"},
    "ray": {"config/ray_launcher"},
    "submitit": {"config/submitit_launcher"},
    "hydra": {"config", "commands"},
    "omegaconf": {"config", "commands"},
    "scipy": {"evidence"},
    "sklearn": {"evidence"},
}


def place_of(path: Path) -> tuple[str, str]:
    """(wing, wing/module); the front row is "commands"."""
    parts = [part.removesuffix(".py") for part in path.relative_to(PACKAGE).parts]
    if parts[0] in WINGS | {"config", "errors"}:
        return parts[0], "/".join(parts[:2])
    return "commands", f"commands/{parts[0]}"


def imports_of(path: Path) -> set[str]:
    """Every dotted name that the file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_what_its_place_allows(path: Path) -> None:
    wing, module = place_of(path)
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        if top == "cxr_experiments":
            target = rest.partition(".")[0]
            command = path.relative_to(PACKAGE).parts[0]
            own = {command, *MAY_CALL.get(command.removesuffix(".py"), ())}
            assert path.name == "__init__.py" or target in MAY_IMPORT[wing] | own, f"{module} imports {name}"
        elif top in DOORS:
            assert DOORS[top] & {wing, module}, f"{module} imports {name}: its door is {DOORS[top]}"


def test_package_itself_imports_nothing() -> None:
    assert imports_of(PACKAGE / "__init__.py") == set()


def test_run_experiment_is_one_page_and_stays_one() -> None:
    tree = ast.parse((PACKAGE / "train.py").read_text())
    (page,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run_experiment"]
    docstring = page.body[0]
    lines = (page.end_lineno or 0) - page.lineno + 1 - ((docstring.end_lineno or 0) - docstring.lineno + 1)
    assert lines <= 40


def test_train_never_names_the_test_split() -> None:
    source = ast.unparse(ast.parse((PACKAGE / "train.py").read_text()))
    assert "split.test" not in source
    assert "'test'" not in source


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_from_a_file_is_executed_or_unpickled(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in {"eval", "exec", "pickle.load", "pickle.loads", "joblib.load", "os.system"}, name
            assert not any(
                keyword.arg == "allow_pickle" and ast.unparse(keyword.value) == "True" for keyword in node.keywords
            )
