-- Notifications survive their channel: at most one is undelivered for each alert and channel.
-- One that the receiver refuses for itself is tried again beside those behind it. One that is
-- being sent stands until its outcome is known, even if a newer one takes its place.

ALTER TABLE outbox_entry ADD COLUMN refused INTEGER NOT NULL DEFAULT 0 CHECK (refused IN (0, 1));
ALTER TABLE outbox_entry ADD COLUMN sending INTEGER NOT NULL DEFAULT 0 CHECK (sending IN (0, 1));

-- Finds the notifications of an alert.
CREATE INDEX notification_by_alert ON notification (key, alert_kind, scope, credential_id);
