-- A step of a rotation costs less; what may be in the ledger stays the same.

-- What a key has at most one of: an open rotation, and a current credential.
ALTER TABLE rotation ADD COLUMN slot TEXT AS (CASE phase
    WHEN 'intended' THEN 'open' WHEN 'created' THEN 'open' WHEN 'verified' THEN 'open'
    WHEN 'current' THEN 'current' END);

-- Each move between phases writes to the indices of the live. One instead of
-- three finds them and sees to that.
DROP INDEX rotation_open;
DROP INDEX rotation_current;
DROP INDEX rotation_live;
CREATE UNIQUE INDEX rotation_live ON rotation (key, slot) WHERE phase NOT IN ('revoked', 'failed');

-- How often a key was rotated lately is told by the index alone.
DROP INDEX rotation_key_started;
CREATE INDEX rotation_key_started ON rotation (key, started_at, maybe_made);

-- For a list of three or more SQLite makes a table of its own, each time that a
-- row is written. What is compared with words one by one takes a tenth of that.
DROP TRIGGER rotation_begins;
CREATE TRIGGER rotation_begins BEFORE INSERT ON rotation
WHEN NOT (NEW.phase = 'intended'
    OR (NEW."trigger" = 'adopted' AND (NEW.phase = 'current' OR NEW.phase = 'stranded')))
BEGIN SELECT RAISE(ABORT, 'a rotation cannot begin in this phase'); END;

DROP TRIGGER rotation_moves;
CREATE TRIGGER rotation_moves BEFORE UPDATE OF phase ON rotation
WHEN OLD.phase <> NEW.phase AND NOT CASE OLD.phase
    WHEN 'intended' THEN NEW.phase = 'created' OR NEW.phase = 'orphaned'
        OR NEW.phase = 'failed' OR NEW.phase = 'stranded'
    WHEN 'created' THEN NEW.phase = 'verified' OR NEW.phase = 'orphaned'
        OR NEW.phase = 'stranded' OR NEW.phase = 'revoked'
    WHEN 'verified' THEN NEW.phase = 'orphaned' OR NEW.phase = 'stranded'
        OR NEW.phase = 'current' OR NEW.phase = 'revoked'
    WHEN 'current' THEN NEW.phase = 'retired' OR NEW.phase = 'revoked'
    WHEN 'stranded' THEN NEW.phase = 'retired' OR NEW.phase = 'revoked'
    WHEN 'retired' THEN NEW.phase = 'revoked'
    WHEN 'orphaned' THEN NEW.phase = 'revoked'
    WHEN 'failed' THEN NEW.phase = 'orphaned'
    WHEN 'revoked' THEN NEW.phase = 'orphaned'
    ELSE false END
BEGIN SELECT RAISE(ABORT, 'a rotation cannot move between these phases'); END;

-- The same for the lists within the tables that a step writes. What says the
-- same of the same rows may be changed in the schema itself
-- (sqlite.org/lang_altertable.html, "making other kinds of table schema
-- changes"); to write every row anew would take an old ledger long. Nothing is
-- ever deleted from the journal: without a row that counts its entries they get
-- the same numbers.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(replace(sql,
    '("trigger" IN (''first'', ''schedule'', ''catch-up'', ''retry'', ''repair'', ''manual'', ''adopted''))',
    '("trigger" = ''first'' OR "trigger" = ''schedule'' OR "trigger" = ''catch-up'' OR "trigger" = ''retry'''
        || ' OR "trigger" = ''repair'' OR "trigger" = ''manual'' OR "trigger" = ''adopted'')'),
    '(phase IN (''intended'', ''created'', ''verified'', ''current'', ''retired'', ''stranded'', ''orphaned'', ''revoked'', ''failed''))',
    '(phase = ''intended'' OR phase = ''created'' OR phase = ''verified'' OR phase = ''current'' OR phase = ''retired'''
        || ' OR phase = ''stranded'' OR phase = ''orphaned'' OR phase = ''revoked'' OR phase = ''failed'')')
WHERE type = 'table' AND name = 'rotation';
UPDATE sqlite_schema SET sql = replace(sql,
    '(state IN (''pending'', ''uncertain'', ''accepted'', ''refused'', ''missed'', ''removed''))',
    '(state = ''pending'' OR state = ''uncertain'' OR state = ''accepted'' OR state = ''refused'''
        || ' OR state = ''missed'' OR state = ''removed'')')
WHERE type = 'table' AND name = 'delivery';
UPDATE sqlite_schema SET sql = replace(sql, 'PRIMARY KEY AUTOINCREMENT', 'PRIMARY KEY')
WHERE type = 'table' AND name = 'journal_entry';
PRAGMA writable_schema = RESET;
