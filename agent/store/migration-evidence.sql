-- What a snapshot was judged by beside its own commit.
ALTER TABLE snapshot ADD COLUMN since BLOB;         -- the commit accepted before, since which history was judged
ALTER TABLE snapshot ADD COLUMN rules TEXT;         -- digest of the rules that history was judged by
ALTER TABLE snapshot ADD COLUMN trust_domain TEXT;  -- the policy whose trust file it was judged by
ALTER TABLE snapshot ADD COLUMN trust_from INTEGER; -- the version that was trusted before; 0 where none was
ALTER TABLE snapshot ADD COLUMN trust_upto INTEGER; -- the version that was trusted then

CREATE TABLE evidence (
  snapshot INTEGER NOT NULL REFERENCES snapshot (id) ON DELETE CASCADE,
  oid      BLOB NOT NULL,             -- an object that was read: it is kept as long as the snapshot
  about    BLOB                       -- of a note with signatures: the commit it is about
) STRICT;
CREATE INDEX evidence_by_snapshot ON evidence (snapshot);

-- Trusted versions of trust files. They outlive their sources: whoever deletes one does not bring old signers back.
CREATE TABLE trust (
  domain   TEXT NOT NULL,             -- the policy that trusts it
  version  INTEGER NOT NULL,
  document BLOB NOT NULL,
  PRIMARY KEY (domain, version)
) STRICT, WITHOUT ROWID;
