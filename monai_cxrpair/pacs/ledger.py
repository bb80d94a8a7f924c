"""What was planned and what has arrived, so that a pull can be killed at any moment and goes on where it was.

The ledger is an SQLite file in the export's folder. It holds identifiers, as the export itself does: mode 0600.
"""

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from monai_cxrpair.cohort.files import PRIVATE
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pacs.query import Instance, Series

_VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS series (uid TEXT PRIMARY KEY, study TEXT NOT NULL, modality TEXT, body_part TEXT);
CREATE TABLE IF NOT EXISTS instances (
    uid TEXT PRIMARY KEY, series TEXT NOT NULL, study TEXT NOT NULL, sop_class TEXT NOT NULL,
    bytes INTEGER,  -- NULL until it has arrived
    failure TEXT    -- why the last attempt failed
);
CREATE INDEX IF NOT EXISTS instances_of_study ON instances (study);
-- The studies whose instances were all planned, with the server's count at that time, for one filter of series.
CREATE TABLE IF NOT EXISTS listings (
    study TEXT, series_filter TEXT, instances INTEGER, PRIMARY KEY (study, series_filter)
);
"""


@dataclass(frozen=True)
class Entry:
    """An instance of the ledger: how many bytes it has on disk, or None where it has not arrived."""

    instance: Instance
    series: Series
    bytes: int | None


class Ledger:
    """The ledger of one folder; one process at a time has it, several threads may.

    Args:
        path: The SQLite file; made with mode 0600 where there is none.

    Raises:
        CxrPairError: Another pull has it open, or it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE))  # SQLite itself would follow the umask
            path.chmod(PRIVATE)
            # A rollback journal instead of WAL: exports lie on network drives, where WAL does not work.
            self._db = sqlite3.connect(path, timeout=0.2, isolation_level=None, check_same_thread=False)
            # The lock is held until the process ends, however it ends.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("BEGIN EXCLUSIVE")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise CxrPairError(f"{path} was written by another version of cxrpair: pull into a new folder")
            for statement in _TABLES.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {_VERSION}")
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise CxrPairError(f"another pull is writing to {path.parent.parent}: wait for it or stop it") from None
            raise CxrPairError(f"cannot write {path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise CxrPairError(f"{path} is damaged: delete it; what is on disk is not fetched again") from error
        except OSError as error:
            raise CxrPairError(f"cannot write {path}: {error.strerror or error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as error:  # a full disk ends the pull; SQLite has rolled back or does so when opened
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise CxrPairError(f"cannot write {self.path}: {error}") from error

    def listed(self, study: str, series_filter: str) -> int | None:
        """How many instances the server said a study has when it was planned; None where it was not."""
        with self._lock:
            found = self._db.execute(
                "SELECT instances FROM listings WHERE study = ? AND series_filter = ?", (study, series_filter)
            ).fetchone()
        return None if found is None else found[0]

    def plan(
        self,
        study: str,
        series: Iterable[Series],
        instances: Iterable[Instance],
        *,
        series_filter: str,
        count: int | None,
    ) -> None:
        """Note what a study has at the server now; what has arrived stays, what the server no longer has goes."""
        with self._transaction() as db:
            wanted = list(series)
            for each in wanted:
                # Planned before and not there any more: it would be asked for in vain for ever.
                db.execute("DELETE FROM instances WHERE series = ? AND bytes IS NULL", (each.uid,))
            db.executemany(
                "INSERT OR REPLACE INTO series VALUES (?, ?, ?, ?)",
                [(each.uid, study, each.modality, each.body_part) for each in wanted],
            )
            db.executemany(
                "INSERT OR IGNORE INTO instances (uid, series, study, sop_class) VALUES (?, ?, ?, ?)",
                [(each.uid, each.series, each.study, each.sop_class) for each in instances],
            )
            if count is not None:
                db.execute("INSERT OR REPLACE INTO listings VALUES (?, ?, ?)", (study, series_filter, count))

    def entries(self, study: str) -> list[Entry]:
        """The planned instances of a study, arrived or not, in a fixed order."""
        with self._lock:
            rows = self._db.execute(
                "SELECT i.uid, i.sop_class, i.series, i.study, i.bytes, s.modality, s.body_part "
                "FROM instances i JOIN series s ON s.uid = i.series WHERE i.study = ? ORDER BY i.series, i.uid",
                (study,),
            ).fetchall()
        return [Entry(Instance(*row[:4]), Series(row[2], row[5], row[6]), row[4]) for row in rows]

    def arrived(self, uid: str) -> bool:
        """Say whether an instance is marked as being on disk."""
        with self._lock:
            row = self._db.execute("SELECT 1 FROM instances WHERE uid = ? AND bytes IS NOT NULL", (uid,)).fetchone()
        return row is not None

    def mark(self, uid: str, size: int | None) -> None:
        """Mark an instance as on disk with so many bytes, or as not there (None)."""
        with self._transaction() as db:
            db.execute("UPDATE instances SET bytes = ?, failure = NULL WHERE uid = ?", (size, uid))

    def fail(self, study: str, reasons: dict[str, str]) -> None:
        """Note why instances of a study did not come; the study will be listed again by the next pull."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE instances SET failure = ? WHERE uid = ?", [(why, uid) for uid, why in reasons.items()]
            )
            db.execute("DELETE FROM listings WHERE study = ?", (study,))

    def close(self) -> None:
        """Close the file and let other pulls have it."""
        with self._lock:
            self._db.close()
