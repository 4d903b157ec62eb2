-- Commits that a source has moved on from on its track, by descent or by a permit, the newest last: a copy of the floor
-- that names one of them lies behind.
CREATE TABLE passed (
  id     INTEGER PRIMARY KEY,
  source INTEGER NOT NULL REFERENCES source (id) ON DELETE CASCADE,
  oid    BLOB NOT NULL,
  UNIQUE (source, oid)
) STRICT;

-- What time it is at least: one row.
CREATE TABLE time (
  id    INTEGER PRIMARY KEY CHECK (id = 1),
  floor INTEGER NOT NULL
) STRICT;
