state=/var/lib/rekeyd
# The credentials that were live when rekeyd was last upgraded or removed. Not in $state: root
# reads it, and rekeyd's user must not be able to put something else in its place.
record=/var/lib/rekeyd.live-credentials

# Runs a command as rekeyd's user and for a limited time. Everything in $state belongs to that
# user, who can turn a file into a link or a FIFO at any moment.
as_rekeyd() {
    timeout --kill-after=5 60 \
        setpriv --reuid=rekeyd --regid=rekeyd --init-groups --no-new-privs "$@" </dev/null
}

# Tests whether the file $1 starts like every SQLite database: a ledger can have any name.
is_ledger='[ "$(head -c 15 "$1")" = "SQLite format 3" ]'

# Prints the live credentials of each ledger below $2, using the program $1.
# shellcheck disable=SC2016
list_alive='
set -e
work=$(mktemp -d)
trap '\''rm -rf "$work"'\'' EXIT
find "$2/" -type f -exec sh -c "$3" sh {} \; -print >"$work/ledgers"
while IFS= read -r ledger; do
    printf '\''[ledger]\npath = "%s"\n'\'' "$ledger" >"$work/config.toml"
    if "$1" --config "$work/config.toml" history --csv >"$work/csv" 2>"$work/problem"; then
        awk -F , -v ledger="$ledger" '\''
            NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
            $column["phase"] ~ /^(intended|created|verified|current|retired|stranded|orphaned)$/ {
                id = $column["credential_id"]
                print ledger ": " (id == "" ? "(id unknown; it may not exist)" : id) \
                    " " $column["label"] " (" $column["phase"] ")"
            }'\'' "$work/csv"
    else
        echo "$ledger: $(head -n 1 "$work/problem")"
    fi
done <"$work/ledgers"
'

# Records for `purge` which credentials are live, using the program $1. A ledger that cannot be
# read is recorded, too.
note_alive() {
    [ -d $state ] || return 0
    new=$(mktemp $record.XXXXXX)
    {
        as_rekeyd sh -c "$list_alive" sh "$1" $state "$is_ledger" ||
            echo "$state: not every ledger could be read"
    } | head -c 1000000 | LC_ALL=C tr -c '\n\40-\176' '?' >"$new"
    mv "$new" $record
}

# Prints the running units of rekeyd.
running() {
    systemctl list-units --plain --no-legend --state=active,activating,reloading,deactivating \
        rekeyd.service 'rekeyd-once.*' 'rekeyd@*.service' | cut -d ' ' -f 1
}
