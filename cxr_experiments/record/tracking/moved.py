"""A checkout that was moved or copied: MLflow keeps whole paths of its artifacts, and is told the new ones."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

_WHERE = (
    *(("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location")),
    *(("model_versions", "source"), ("model_versions", "storage_location")),
)


def follow_move(home: Path) -> bool:
    """Have the database under `home` name the artifacts beside it; whether it named those of another folder.

    What lies elsewhere because somebody wants it there is left alone.

    Args:
        home: CXR_HOME; nothing is done where it has no database.

    Raises:
        sqlite3.Error: the file is no database of MLflow's, or cannot be written.
    """
    database = home / "mlruns" / "mlflow.db"
    if not database.is_file():
        return False
    here = _root(home)
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        told = connection.execute("select name, artifact_location from experiments").fetchall()
        earlier = {
            str(place).removesuffix(quote(name))
            for name, place in told
            if str(place).startswith("file:///") and str(place).endswith(f"/mlruns/artifacts/{quote(name)}")
        }
        for root in sorted(earlier - {here}):
            for table, column in _WHERE:
                connection.execute(
                    f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?",
                    (here, len(root) + 1, len(root), root),
                )
    return bool(earlier - {here})


def _root(home: Path) -> str:
    return (home / "mlruns" / "artifacts").as_uri() + "/"
