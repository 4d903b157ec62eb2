-- The whole state of an agent. Times are milliseconds since 1970, UTC; digests and Git ids are their bytes.

-- Git objects, content-addressed, inflated size beside the deflated bytes.
CREATE TABLE object (
  oid  BLOB PRIMARY KEY NOT NULL,
  kind INTEGER NOT NULL,              -- 1 commit, 2 tree, 3 blob, 4 tag: Git's own numbers
  size INTEGER NOT NULL,
  data BLOB NOT NULL                  -- zlib
) STRICT;

-- Sources as far as they must outlive a restart: what was accepted last, and how low history may never go again.
CREATE TABLE source (
  id         INTEGER PRIMARY KEY,
  namespace  TEXT NOT NULL,
  name       TEXT NOT NULL,
  track      TEXT,                    -- url and reference the floor belongs to; another track begins another floor
  floor      BLOB,                    -- the commit that history may not go behind
  floor_tag  BLOB,                    -- the annotated tag it was reached by, if it was
  floor_version TEXT,                 -- the version that a semver range chose, if one did
  floor_at   INTEGER,
  server     TEXT,                    -- what the server was found to be able to do, JSON
  pending    BLOB,                    -- the commit that is being fetched: what it reaches is not collected
  UNIQUE (namespace, name)
) STRICT;

-- Verified snapshots, newest last. The row, its objects and the floor commit together.
CREATE TABLE snapshot (
  id          INTEGER PRIMARY KEY,
  source      INTEGER NOT NULL REFERENCES source (id) ON DELETE CASCADE,
  revision    TEXT NOT NULL,
  oid         BLOB NOT NULL,          -- the commit
  tag         BLOB,                   -- the annotated tag it was reached by, if it was
  signer      TEXT,                   -- who signed, for people; the signature is checked again at every load
  bytes       INTEGER NOT NULL,       -- received from the network for it
  accepted_at INTEGER NOT NULL,
  UNIQUE (source, revision)
) STRICT;

-- What is said of each resource: status, and the marks people leave on it.
CREATE TABLE resource (
  kind       TEXT NOT NULL,
  namespace  TEXT NOT NULL,
  name       TEXT NOT NULL,
  origin     TEXT NOT NULL,           -- file or cluster
  spec       TEXT NOT NULL,           -- digest of the spec the generation belongs to, hexadecimal
  generation INTEGER NOT NULL,
  suspended  INTEGER NOT NULL DEFAULT 0,
  status     TEXT NOT NULL,           -- JSON, as the status subresource shows it
  document   TEXT,                    -- the spec as last seen, JSON: a restart without the API starts from it
  PRIMARY KEY (kind, namespace, name)
) STRICT, WITHOUT ROWID;

-- What each Kustomization has put into the cluster.
CREATE TABLE inventory (
  owner_namespace TEXT NOT NULL,
  owner_name      TEXT NOT NULL,
  api_group       TEXT NOT NULL,
  kind            TEXT NOT NULL,
  namespace       TEXT NOT NULL,
  name            TEXT NOT NULL,
  version         TEXT NOT NULL,
  state           TEXT NOT NULL,      -- planned, applied, deleting
  manifest        BLOB,
  uid             TEXT,
  metadata        BLOB,
  fields          BLOB,
  live_values     BLOB,
  PRIMARY KEY (owner_namespace, owner_name, api_group, kind, namespace, name)
) STRICT, WITHOUT ROWID;

-- How each run of a Kustomization ended.
CREATE TABLE run (
  id          INTEGER PRIMARY KEY,
  namespace   TEXT NOT NULL,
  name        TEXT NOT NULL,
  revision    TEXT NOT NULL,
  cause       TEXT NOT NULL,          -- what set it off: revision, drift, spec, request, retry
  started_at  INTEGER NOT NULL,
  ended_at    INTEGER NOT NULL,
  reason      TEXT NOT NULL,
  message     TEXT NOT NULL,
  changes     TEXT NOT NULL           -- how many objects were created, changed and so on, JSON
) STRICT;
CREATE INDEX run_by_owner ON run (namespace, name, id);

-- Events, bounded; each is written with the work it describes.
CREATE TABLE event (
  seq  INTEGER PRIMARY KEY,
  body TEXT NOT NULL                  -- JSON
) STRICT;

-- One row for each event and Provider that it must still reach, in order. A row leaves when its receiver has said yes.
CREATE TABLE outbox (
  seq       INTEGER PRIMARY KEY,
  namespace TEXT NOT NULL,            -- the Provider
  name      TEXT NOT NULL,
  event     TEXT NOT NULL,            -- the event's id
  severity  INTEGER NOT NULL,         -- 0 info, 1 error, 2 a note of rows that were dropped here
  at        INTEGER NOT NULL,         -- when the event happened
  bytes     INTEGER NOT NULL,         -- of the body
  dropped   INTEGER NOT NULL,         -- how many rows a note stands for
  refused   TEXT,                     -- why the receiver will not have it: the row is set aside
  body      TEXT NOT NULL             -- the event, JSON
) STRICT;
CREATE INDEX outbox_by_provider ON outbox (namespace, name, seq);
-- Covers the count, the sum and the choice of what goes first when the outbox is full.
CREATE INDEX outbox_by_severity ON outbox (severity, seq, bytes);
