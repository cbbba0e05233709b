# Prints the credentials that the ledger $2 records as alive, with the program $1.
alive() {
    printf '[ledger]\npath = "%s"\n' "$2" >"$work/config.toml"
    if "$1" --config "$work/config.toml" history --csv >"$work/csv" 2>"$work/problem"; then
        awk -F , -v ledger="$2" '
            NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
            $column["phase"] ~ /^(intended|created|verified|current|retired|stranded|orphaned)$/ {
                id = $column["credential_id"]
                print ledger ": " (id == "" ? "one that may have been made" : id) \
                    " " $column["label"] " (" $column["phase"] ")"
            }' "$work/csv"
    else
        echo "$2: $(head -n 1 "$work/problem")"
    fi
}

# Notes for `purge` which credentials are alive, with the program $1.
note_alive() {
    [ -d /var/lib/rekeyd ] || return 0
    work=$(mktemp -d)
    # A ledger may have any name; all begin alike.
    find /var/lib/rekeyd -type f \
        -exec sh -c '[ "$(head -c 15 "$1")" = "SQLite format 3" ]' sh {} \; -print |
        while IFS= read -r ledger; do alive "$1" "$ledger"; done >"$work/alive" || true
    # Nothing is written through what rekeyd's user may have put there.
    chmod 644 "$work/alive"
    rm -rf /var/lib/rekeyd/alive
    mv -T "$work/alive" /var/lib/rekeyd/alive
    rm -r "$work"
}

# Prints the units of rekeyd that run.
running() {
    systemctl list-units --plain --no-legend --state=active,activating,reloading,deactivating \
        rekeyd.service 'rekeyd-once.*' 'rekeyd@*.service' | cut -d ' ' -f 1
}
