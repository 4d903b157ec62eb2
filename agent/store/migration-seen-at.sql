-- The version of the live object that uid, metadata, fields and live_values are of: one that is earlier shows an earlier
-- state, as after a restore of the cluster from a backup.
ALTER TABLE inventory ADD COLUMN seen_at INTEGER;
