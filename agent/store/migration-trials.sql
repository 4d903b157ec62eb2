-- What became of each revision with each Kustomization that took it; the one that was begun last has the highest id.
CREATE TABLE trial (
  id               INTEGER PRIMARY KEY,
  namespace        TEXT NOT NULL,      -- the Kustomization
  name             TEXT NOT NULL,
  source_namespace TEXT NOT NULL,      -- the source whose snapshot it is
  source_name      TEXT NOT NULL,
  revision         TEXT NOT NULL,
  ending           TEXT NOT NULL,      -- trying, applied, healthy, rolled-back and so on
  instead          TEXT,               -- the revision that is kept in its stead
  began_at         INTEGER NOT NULL,
  ended_at         INTEGER,
  message          TEXT NOT NULL,
  UNIQUE (namespace, name, source_namespace, source_name, revision)
) STRICT;

-- The snapshots that Kustomizations need, however many newer ones there are: what each follows now, and what it would go
-- back to. A healthy revision counts for as long as it is the newest healthy one.
CREATE VIEW needed (source_namespace, source_name, revision) AS
  SELECT source_namespace, source_name, revision FROM trial WHERE id IN (
    SELECT max(id) FROM trial WHERE ending = 'healthy' GROUP BY namespace, name, source_namespace, source_name)
  UNION
  SELECT source_namespace, source_name, coalesce(instead, revision) FROM trial WHERE id IN (
    SELECT max(id) FROM trial GROUP BY namespace, name);
