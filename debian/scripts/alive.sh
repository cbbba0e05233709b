# Prints the credentials that the ledger $2 records as live, using the program $1.
alive() {
    printf '[ledger]\npath = "%s"\n' "$2" >"$work/config.toml"
    if "$1" --config "$work/config.toml" history --csv >"$work/csv" 2>"$work/problem"; then
        awk -F , -v ledger="$2" '
            NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
            $column["phase"] ~ /^(intended|created|verified|current|retired|stranded|orphaned)$/ {
                id = $column["credential_id"]
                print ledger ": " (id == "" ? "(id unknown; it may not exist)" : id) \
                    " " $column["label"] " (" $column["phase"] ")"
            }' "$work/csv"
    else
        echo "$2: $(head -n 1 "$work/problem")"
    fi
}

# Records for `purge` which credentials are live, using the program $1.
note_alive() {
    [ -d /var/lib/rekeyd ] || return 0
    work=$(mktemp -d)
    # A ledger can have any name, but starts like every SQLite database.
    find /var/lib/rekeyd -type f \
        -exec sh -c '[ "$(head -c 15 "$1")" = "SQLite format 3" ]' sh {} \; -print |
        while IFS= read -r ledger; do alive "$1" "$ledger"; done >"$work/alive" || true
    # Do not write through a link that rekeyd's user may have put there.
    chmod 644 "$work/alive"
    rm -rf /var/lib/rekeyd/alive
    mv -T "$work/alive" /var/lib/rekeyd/alive
    rm -r "$work"
}

# Prints the running units of rekeyd.
running() {
    systemctl list-units --plain --no-legend --state=active,activating,reloading,deactivating \
        rekeyd.service 'rekeyd-once.*' 'rekeyd@*.service' | cut -d ' ' -f 1
}
