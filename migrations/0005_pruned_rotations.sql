-- The ledger has an end: `rekeyd ledger prune` moves the rows of rotations that ended long ago
-- into an archive. What is needed to recognize their credentials stays.

-- Which ledger this is: an archive belongs to one.
CREATE TABLE ledger_number (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    number TEXT NOT NULL CHECK (length(number) = 32)
) STRICT;
INSERT INTO ledger_number (id, number) VALUES (1, lower(hex(randomblob(16))));

-- The rotations that were pruned. Their columns are those of rotation; with them a row is made
-- again if its credential is seen alive.
CREATE TABLE pruned_rotation (
    id              INTEGER PRIMARY KEY,
    rotation        TEXT NOT NULL UNIQUE,
    key             TEXT NOT NULL REFERENCES key_state (key),
    scope           TEXT NOT NULL,
    sequence        INTEGER NOT NULL,
    "trigger"       TEXT NOT NULL,
    started_at      TEXT NOT NULL,
    not_created_before TEXT,
    label           TEXT UNIQUE,
    credential_id   TEXT,
    name            TEXT,
    redacted_value  TEXT,
    wrong_redaction INTEGER NOT NULL CHECK (wrong_redaction IN (0, 1)),
    maybe_created   INTEGER NOT NULL CHECK (maybe_created IN (0, 1)),
    phase           TEXT NOT NULL CHECK (phase = 'revoked' OR phase = 'failed'),
    revoked_at      TEXT,
    CHECK (revoked_at IS NOT NULL OR phase <> 'revoked')
) STRICT;
CREATE INDEX pruned_rotation_by_credential ON pruned_rotation (credential_id)
    WHERE credential_id IS NOT NULL;

-- What each prune took out of the event log, one row for each archive. The numbers of events up
-- to last_event have gaps; whatever vouches for the event log begins after it, and the digest
-- vouches for what was taken out.
CREATE TABLE prune_checkpoint (
    archive_digest TEXT PRIMARY KEY CHECK (length(archive_digest) = 64),
    archive        TEXT NOT NULL,
    pruned_at      TEXT NOT NULL CHECK (pruned_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'),
    last_event     INTEGER NOT NULL CHECK (last_event >= 0),
    rotations      INTEGER NOT NULL CHECK (rotations >= 0),
    events         INTEGER NOT NULL CHECK (events >= 0)
) STRICT, WITHOUT ROWID;

-- A row in pruned_rotation is the one door through which a rotation and its events leave, and
-- come back.
DROP TRIGGER event_log_no_delete;
CREATE TRIGGER event_log_no_delete BEFORE DELETE ON event_log
WHEN NOT EXISTS (SELECT 1 FROM pruned_rotation WHERE id = OLD.rotation_row)
BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;

DROP TRIGGER rotation_no_delete;
CREATE TRIGGER rotation_no_delete BEFORE DELETE ON rotation
WHEN NOT EXISTS (SELECT 1 FROM pruned_rotation WHERE id = OLD.id AND rotation = OLD.rotation)
BEGIN SELECT RAISE(ABORT, 'a rotation cannot be deleted'); END;

CREATE TRIGGER delivery_no_delete BEFORE DELETE ON delivery
WHEN NOT EXISTS (SELECT 1 FROM pruned_rotation WHERE id = OLD.rotation_row)
BEGIN SELECT RAISE(ABORT, 'a delivery cannot be deleted'); END;

DROP TRIGGER rotation_initial_phase;
CREATE TRIGGER rotation_initial_phase BEFORE INSERT ON rotation
WHEN NOT (NEW.phase = 'intended'
    OR (NEW."trigger" = 'adopted' AND (NEW.phase = 'current' OR NEW.phase = 'stranded'))
    OR EXISTS (SELECT 1 FROM pruned_rotation p
        WHERE p.id = NEW.id AND p.rotation = NEW.rotation AND p.key = NEW.key
            AND p.scope = NEW.scope AND p.sequence = NEW.sequence AND p.phase = NEW.phase
            AND p.label IS NEW.label AND p.credential_id IS NEW.credential_id))
BEGIN SELECT RAISE(ABORT, 'a rotation cannot start in this phase'); END;

DROP TRIGGER rotation_of_former_name;
CREATE TRIGGER rotation_of_former_name BEFORE INSERT ON rotation
WHEN EXISTS (SELECT 1 FROM key_state WHERE key = NEW.key AND renamed_to IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM pruned_rotation WHERE id = NEW.id AND rotation = NEW.rotation)
BEGIN SELECT RAISE(ABORT, 'the key of a new rotation has another name now'); END;

-- No create is ever sent twice under one label.
CREATE TRIGGER rotation_of_pruned_label BEFORE INSERT ON rotation
WHEN EXISTS (SELECT 1 FROM pruned_rotation WHERE rotation = NEW.rotation AND id <> NEW.id)
    OR EXISTS (SELECT 1 FROM pruned_rotation WHERE label = NEW.label AND id <> NEW.id)
BEGIN SELECT RAISE(ABORT, 'the id or the label belongs to a pruned rotation'); END;

CREATE TRIGGER rotation_pruned_credential BEFORE UPDATE OF credential_id ON rotation
WHEN OLD.credential_id IS NULL AND NEW.credential_id IS NOT NULL
    AND EXISTS (SELECT 1 FROM pruned_rotation
        WHERE credential_id = NEW.credential_id AND id <> NEW.id)
BEGIN SELECT RAISE(ABORT, 'the credential belongs to another rotation'); END;

CREATE TRIGGER pruned_rotation_ended BEFORE INSERT ON pruned_rotation
WHEN NOT EXISTS (SELECT 1 FROM rotation r
    WHERE r.id = NEW.id AND r.rotation = NEW.rotation AND r.key = NEW.key AND r.scope = NEW.scope
        AND r.sequence = NEW.sequence AND r.phase = NEW.phase AND r.label IS NEW.label
        AND r.credential_id IS NEW.credential_id)
BEGIN SELECT RAISE(ABORT, 'only a rotation that has ended can be pruned'); END;

-- A key's newest rotation stays, and its newest that was ever current, under whatever names.
CREATE TRIGGER pruned_rotation_not_newest BEFORE INSERT ON pruned_rotation
WHEN NEW.id >= (SELECT max(id) FROM rotation) OR NOT EXISTS (SELECT 1 FROM rotation r
    WHERE r.sequence > NEW.sequence AND r.key IN (SELECT n.key FROM key_state k JOIN key_state n
        ON n.key = coalesce(k.renamed_to, k.key) OR n.renamed_to = coalesce(k.renamed_to, k.key)
        WHERE k.key = NEW.key))
BEGIN SELECT RAISE(ABORT, 'the newest rotation of a key cannot be pruned'); END;

CREATE TRIGGER pruned_rotation_not_newest_current BEFORE INSERT ON pruned_rotation
WHEN EXISTS (SELECT 1 FROM rotation WHERE id = NEW.id AND current_at IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM rotation r
    WHERE r.sequence > NEW.sequence AND r.current_at IS NOT NULL
        AND r.key IN (SELECT n.key FROM key_state k JOIN key_state n
            ON n.key = coalesce(k.renamed_to, k.key) OR n.renamed_to = coalesce(k.renamed_to, k.key)
            WHERE k.key = NEW.key))
BEGIN SELECT RAISE(ABORT, 'the newest current rotation of a key cannot be pruned'); END;

CREATE TRIGGER pruned_rotation_no_update BEFORE UPDATE ON pruned_rotation
BEGIN SELECT RAISE(ABORT, 'a pruned rotation cannot be changed'); END;
CREATE TRIGGER pruned_rotation_no_delete BEFORE DELETE ON pruned_rotation
WHEN NOT EXISTS (SELECT 1 FROM rotation WHERE id = OLD.id AND rotation = OLD.rotation)
BEGIN SELECT RAISE(ABORT, 'a pruned rotation cannot be deleted'); END;
