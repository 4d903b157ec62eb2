-- How much of a commit a snapshot has: JSON; nothing where it has all.
ALTER TABLE snapshot ADD COLUMN extent TEXT;
