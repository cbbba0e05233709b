# The credentials that were live when rekeyd was last upgraded or removed. Not in a state
# folder: root reads it, and rekeyd's user must not be able to put something else in its place.
record=/var/lib/rekeyd.live-credentials

# Prints the state folders: the one of the user rekeyd, and those of instances with a user of
# their own, whose name is that of the folder.
list_states() {
    for state in /var/lib/rekeyd /var/lib/rekeyd-*; do
        [ -d "$state" ] && [ ! -h "$state" ] || continue
        case "$state" in
        *-*) [ "$(stat --format=%U "$state")" = "${state##*/}" ] || continue ;;
        esac
        echo "$state"
    done
}

# Runs a command as the user of the state folder $1, and writes what it prints to the file $2.
#
# That user prepares everything that the command reads, and controls each of its processes. So
# the command has a minute, no terminal, nothing of root's environment, and no descriptor of
# root's but this file, of at most 100 MB: root waits for no end of a pipe, which a process
# that has left the group could keep open.
as_user_of() {
    user=${1##*/} printed=$2
    shift 2
    setsid --wait timeout --kill-after=5 60 prlimit --fsize=100000000 \
        setpriv --reuid="$user" --regid="$user" --init-groups --no-new-privs --reset-env "$@" \
        </dev/null >"$printed" 2>/dev/null 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
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

# Prints the lines of the file $2 about the state folder $1.
select_lines() {
    awk -v state="$1" 'index($0, state "/") == 1 || index($0, state ":") == 1' "$2"
}

# Records for `purge` which credentials are live, using the program $1. A ledger that cannot be
# read is recorded, too.
note_alive() {
    work=$(mktemp -d $record.XXXXXX)
    install -m 600 /dev/null "$work/record"
    for state in $(list_states); do
        # A file for each, to which processes of another user cannot write any more.
        printed=$work/${state##*/}
        as_user_of "$state" "$printed" sh -c "$list_alive" sh "$1" "$state" "$is_ledger" ||
            echo "$state: not every ledger could be read" >>"$work/record"
        head -c 1000000 "$printed" | LC_ALL=C tr -c '\n\40-\176' '?' >"$work/cleaned"
        select_lines "$state" "$work/cleaned" >>"$work/record"
    done
    mv "$work/record" $record
    rm -r "$work"
}

# Prints the running units of rekeyd.
running() {
    systemctl list-units --plain --no-legend --state=active,activating,reloading,deactivating \
        rekeyd.service 'rekeyd-once.*' 'rekeyd-once@*' 'rekeyd@*.service' | cut -d ' ' -f 1
}
