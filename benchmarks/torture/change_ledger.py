"""Change the rows and tables of a ledger with SQL."""

from __future__ import annotations

import json
import random
import sqlite3
import tempfile
from pathlib import Path

from change_json import INTS, changed_value

STATEMENTS = (
    "UPDATE events SET body = ? WHERE seq = ?", "UPDATE events SET kind = ? WHERE seq = ?", "UPDATE events SET request = ? WHERE seq = ?",
    "UPDATE events SET at = ? WHERE seq = ?", "UPDATE events SET hash = ? WHERE seq = ?", "DELETE FROM events WHERE body = ? OR seq = ?",
    "UPDATE head SET count = ? WHERE one = ?", "UPDATE head SET hash = ? WHERE one = ?", "UPDATE state SET value = ? WHERE rowid > ?",
    "UPDATE state SET value = ? WHERE key > ?", "UPDATE mark SET count = ? WHERE name > ?", "UPDATE mark SET hash = ? WHERE name > ?",
)  # fmt: skip
DROPS = ("DROP TABLE head", "DROP TABLE state", "DROP TABLE mark", "DROP INDEX limits_rows", "CREATE TABLE extra (x)", "DROP TABLE events",
         "PRAGMA user_version = 99", "PRAGMA application_id = 7", "CREATE VIEW v AS SELECT * FROM events")  # fmt: skip


def database(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """Change the rows of a ledger with SQL, behind the backs of its triggers, which are put back."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "l.db"
        file.write_bytes(data)
        db = sqlite3.connect(file)
        try:
            if chance.random() < 0.3:
                db.execute(chance.choice(DROPS))
            else:
                triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
                for name, _ in triggers:
                    db.execute(f"DROP TRIGGER {name}")
                value = chance.choice(
                    [b"\xff", "", "x", 7, 2.5, None, *INTS[:16], "{}", "[]", "{" * 500, '{"a": NaN}']
                )
                if chance.random() < 0.5:
                    row = db.execute(
                        "SELECT body FROM events WHERE seq = ?", (chance.randint(1, 5),)
                    ).fetchone()
                    value = json.dumps(changed_value(json.loads(row[0]), chance)) if row else value
                db.execute(chance.choice(STATEMENTS), (value, chance.randint(0, 5)))
                for _, sql in triggers:
                    db.execute(sql)
            db.commit()
        finally:
            db.close()
        return file.read_bytes()
