-- What each source has cost on the network, a day. Rows outlive their source: a budget is not mended by declaring anew.
CREATE TABLE traffic (
  namespace TEXT NOT NULL,
  name      TEXT NOT NULL,
  day       TEXT NOT NULL,            -- 2026-11-24, in the time zone of the budget, UTC without one
  received  INTEGER NOT NULL,         -- bytes, with the heads of HTTP, without TLS
  sent      INTEGER NOT NULL,
  requests  INTEGER NOT NULL,
  PRIMARY KEY (namespace, name, day)
) STRICT, WITHOUT ROWID;
