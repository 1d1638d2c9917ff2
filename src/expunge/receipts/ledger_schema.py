"""The tables, triggers and indexes of a ledger file, and whether a file has exactly these.

Without its triggers a file accepts edits, and one more trigger can change rows while they are written.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache

# In every file since the first version.
BASE = (
    """CREATE TABLE events (seq INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, request INTEGER,
                            body TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL)""",
    "CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL, hash TEXT NOT NULL)",
    # The triggers prevent accidents. Only the hash chain shows intended edits.
    *(
        f"CREATE TRIGGER no_{what} BEFORE {what} ON events "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        for what in ("UPDATE", "DELETE")
    ),
)
# Made with the first row that this version writes, also in files of earlier versions.
ADDED = (
    "CREATE TABLE IF NOT EXISTS state (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)) "
    "WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS mark (name TEXT PRIMARY KEY, count INTEGER NOT NULL, hash TEXT NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS limits_rows ON events (seq) WHERE kind = 'limits'",
    # For the other triggers, a row that replaces another one is no UPDATE and no DELETE.
    "CREATE TRIGGER IF NOT EXISTS no_REPLACE BEFORE INSERT ON events "
    "WHEN EXISTS (SELECT 1 FROM events WHERE seq = NEW.seq) "
    "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
)


def schema_problems(db: sqlite3.Connection) -> list[str]:
    """Return which tables, triggers and indexes are missing, altered or unknown, one phrase each."""
    base, every = _expected(BASE), _expected((*BASE, *ADDED))
    there = _schema(db)
    # a file of an earlier version has none of the later ones; one that has some of them has lost the others
    expected = every if there.keys() & (every.keys() - base.keys()) else base
    problems = [f"the {_name(key)} is missing" for key in expected if key not in there]
    problems += [f"the {_name(key)} is unknown" for key in there if key not in expected]
    return problems + [
        f"the {_name(key)} was altered" for key, sql in expected.items() if there.get(key, sql) != sql
    ]


def _name(key: tuple[str, str]) -> str:
    return f"{key[0]} {key[1]!r}"


def _schema(db: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """{(type, name): SQL} of a file, without what SQLite makes itself. White space does not count."""
    rows = db.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite~_%' ESCAPE '~'")
    return {(kind, name): " ".join(str(sql).split()) for kind, name, sql in rows}


@cache
def _expected(statements: tuple[str, ...]) -> dict[tuple[str, str], str]:
    """The schema that statements make. SQLite itself says in which words it keeps them."""
    with closing(sqlite3.connect(":memory:")) as db:
        for statement in statements:
            db.execute(statement)
        return _schema(db)
