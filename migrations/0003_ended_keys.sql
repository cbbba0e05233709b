-- Keys that an operator retired.

-- Since when the key is retired: it is never rotated, and its credentials end.
ALTER TABLE key_state ADD COLUMN retired_at TEXT
    CHECK (retired_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z');
-- They end without waiting for an overlap or a hold.
ALTER TABLE key_state ADD COLUMN retired_now INTEGER NOT NULL DEFAULT 0
    CHECK (retired_now IN (0, 1));

-- Keys that were renamed in the configuration.

-- The present name of the key whose former name this is. Its rotations and events keep the
-- former one.
ALTER TABLE key_state ADD COLUMN renamed_to TEXT CHECK (renamed_to <> key);
CREATE INDEX key_state_by_present_name ON key_state (renamed_to) WHERE renamed_to IS NOT NULL;

CREATE TRIGGER rotation_of_former_name BEFORE INSERT ON rotation
WHEN EXISTS (SELECT 1 FROM key_state WHERE key = NEW.key AND renamed_to IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'the key of a new rotation has another name now'); END;
