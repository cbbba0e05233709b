-- What a key's firings are counted by, and a person's pause.

-- The timetable as text: a changed one counts from the moment of the change.
ALTER TABLE key_state ADD COLUMN timetable TEXT;
-- Firings up to this moment are settled.
ALTER TABLE key_state ADD COLUMN counts_from TEXT
    CHECK (counts_from GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z');
-- A firing of the timetable before that is still to be made up for.
ALTER TABLE key_state ADD COLUMN owed TEXT
    CHECK (owed GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z');
-- The last pause; without an end it lasts until a person resumes the key.
ALTER TABLE key_state ADD COLUMN paused_from TEXT
    CHECK (paused_from GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z');
ALTER TABLE key_state ADD COLUMN paused_until TEXT
    CHECK (paused_until GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z');
