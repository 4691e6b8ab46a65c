"""Where MLflow keeps its runs: a quiet client of it, and the SQLite database by default."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def client_of(uri: str) -> Any:
    """A client of the tracking server or database there, which says nothing of its own."""
    with warnings.catch_warnings():
        # MLflow's own use of SQLAlchemy; its tables are set up here, where that is not said.
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        for name in ("alembic", "mlflow"):  # which set their own levels when they are imported
            logging.getLogger(name).setLevel(logging.ERROR)
        if uri.startswith("sqlite:"):
            import sqlalchemy.orm

            importlib.import_module("mlflow.store.tracking.dbmodels.models")
            sqlalchemy.orm.configure_mappers()
        return MlflowClient(tracking_uri=uri)


def make_database(path: Path) -> None:
    """Make MLflow's tables beside ``path`` and rename the whole: a process killed while they are
    being made, or two that start together, leave no half-made database behind.
    """
    if path.exists():
        return
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="mlflow-") as folder:
        draft = Path(folder) / path.name
        with _unsynced():
            client_of(f"sqlite:///{draft}").search_experiments(max_results=1)
        with open(draft, "rb") as whole:
            os.fsync(whole.fileno())
        # A link fails where a file stands already: the first of two processes wins.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)


@contextlib.contextmanager
def _unsynced() -> Iterator[None]:
    """SQLite databases opened meanwhile do not wait for the disk.

    MLflow's tables come in a history of migrations that waits for it a thousand times: many
    seconds, for a draft that nobody reads before it is whole.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def relax(connection: object, record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF").close()

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)
