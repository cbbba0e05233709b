#!/bin/bash
# A rotation as an administrator writes it for a crontab: creates an admin key,
# verifies it, replaces a file, records the credential and deletes the previous
# one. It takes none of rekeyd's further precautions.
set -euo pipefail
base=$1 dir=$2
keys=$base/organization/admin_api_keys
admin=$(<"$dir/admin-key")
file=$dir/script.key

as() { curl -sSf --noproxy "*" -H "@-" "${@:2}" <<<"Authorization: Bearer $1"; }

name=billing-$(date -u +%Y%m%dT%H%M%SZ)
answer=$(as "$admin" -H 'content-type: application/json' -d "{\"name\":\"$name\"}" "$keys")
read -r id secret <<<"$(jq -r '"\(.id) \(.value)"' <<<"$answer")"

as "$secret" "$keys?limit=1" >/dev/null

umask 077
printf '%s\n' "$secret" >"$file.new"
sync "$file.new"
mv "$file.new" "$file"
sync "$dir"

previous=$(sqlite3 "$dir/script.db" "
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS rotation (id INTEGER PRIMARY KEY, credential TEXT, at TEXT);
    SELECT credential FROM rotation ORDER BY id DESC LIMIT 1;
    INSERT INTO rotation (credential, at) VALUES ('$id', datetime('now'));")

if [ -n "$previous" ]; then
    as "$admin" -X DELETE "$keys/$previous" >/dev/null
else
    sqlite3 "$dir/script.db" 'PRAGMA journal_mode = WAL' >/dev/null
fi
