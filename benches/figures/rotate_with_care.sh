#!/bin/bash
# A rotation in a script that requests and records all that rekeyd does, so that
# a killed run leaves no unknown key: it records the intent before the create,
# and each step after it. It verifies the new secret twice before the delivery,
# deletes the previous credential only while both exist, and checks that the
# deletion took effect.
set -euo pipefail
base=$1 dir=$2
keys=$base/organization/admin_api_keys
admin=$(<"$dir/admin-key")
file=$dir/careful.key

as() { curl -sSf --noproxy "*" -H "@-" "${@:2}" <<<"Authorization: Bearer $1"; }
ledger() { sqlite3 -bail "$dir/careful.db" "PRAGMA synchronous = FULL; $1"; }

[ -e "$dir/careful.db" ] || sqlite3 "$dir/careful.db" "
    PRAGMA journal_mode = WAL;
    CREATE TABLE rotation (
        id INTEGER PRIMARY KEY, name TEXT UNIQUE, credential TEXT, phase TEXT, at TEXT
    );
    CREATE INDEX rotation_phase ON rotation (phase);" >/dev/null

name=billing-$(date -u +%Y%m%dT%H%M%SZ)-$$
previous=$(ledger "
    SELECT credential FROM rotation WHERE phase = 'current';
    INSERT INTO rotation (name, phase, at) VALUES ('$name', 'intended', datetime('now'));")

answer=$(as "$admin" -H 'content-type: application/json' -d "{\"name\":\"$name\"}" "$keys")
read -r id secret <<<"$(jq -r '"\(.id) \(.value)"' <<<"$answer")"
ledger "UPDATE rotation SET credential = '$id', phase = 'created', at = datetime('now')
    WHERE name = '$name'"

as "$secret" "$keys?limit=1" >/dev/null
as "$secret" "$keys?limit=1" >/dev/null
ledger "UPDATE rotation SET phase = 'verified', at = datetime('now') WHERE name = '$name'"

umask 077
printf '%s\n' "$secret" >"$file.new"
sync "$file.new"
mv "$file.new" "$file"
sync "$dir"
ledger "BEGIN;
    UPDATE rotation SET phase = 'retired', at = datetime('now') WHERE phase = 'current';
    UPDATE rotation SET phase = 'current', at = datetime('now') WHERE name = '$name';
    COMMIT"

if [ -n "$previous" ]; then
    as "$admin" "$keys/$previous" >/dev/null
    as "$admin" "$keys/$id" >/dev/null
    as "$admin" -X DELETE "$keys/$previous" >/dev/null
    gone=$(as "$admin" -o /dev/null -w '%{http_code}' "$keys/$previous" 2>/dev/null || true)
    [ "$gone" = 404 ]
    ledger "UPDATE rotation SET phase = 'revoked', at = datetime('now')
        WHERE credential = '$previous'"
fi
