#!/bin/sh
# Rehearses a restore: takes a snapshot of a running `lorestream up`, restores it into a new directory, starts a second
# lorestream there, and compares what both export. The running one goes on answering, and is not changed.
#
#   deploy/rehearse-restore.sh URL DIRECTORY [PORT]
#
# URL: of the running lorestream. DIRECTORY: a new one, on this machine, that the running lorestream may write; it is kept.
# PORT: where the second lorestream listens on the loopback, and PORT + 1 for gRPC; default 18080. Settings and keys are
# those of the environment (LORESTREAM_API_KEY with the scope operator, LORESTREAM_PLAYER_KEY, ...).
# Ends with 0 if all that the running lorestream had before the snapshot is in the restored one, byte for byte.
set -eu

if [ $# -lt 2 ]; then
    sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
url=$1
mkdir "$2"
directory=$(cd "$2" && pwd)
port=${3:-18080}
second=http://127.0.0.1:$port

export LC_ALL=C

lorestream export "$directory/running.jsonl" --url "$url"
lorestream snapshot --url "$url" --to "$directory/snapshot"
lorestream restore "$directory/snapshot" --data "$directory/data"

lorestream up --data "$directory/data" --host 127.0.0.1 --port "$port" --grpc-port $((port + 1)) \
    >"$directory/up.log" 2>&1 &
process=$!
trap 'kill "$process" 2>/dev/null || true; wait "$process" 2>/dev/null || true' EXIT INT TERM

# The first line of an export says when it was made.
tail -n +2 "$directory/running.jsonl" | sort >"$directory/running.sorted"
lines=$(wc -l <"$directory/running.sorted")
tries=60
while :; do
    sleep 1
    kill -0 "$process" 2>/dev/null || { echo "the restored lorestream ended, see $directory/up.log" >&2; exit 1; }
    tries=$((tries - 1))
    # It fails until the second lorestream listens, and lacks lines until that has indexed the end of its log.
    if lorestream export "$directory/restored.jsonl" --url "$second" >"$directory/export.txt" 2>&1; then
        tail -n +2 "$directory/restored.jsonl" | sort >"$directory/restored.sorted"
        comm -23 "$directory/running.sorted" "$directory/restored.sorted" >"$directory/missing.jsonl"
        [ -s "$directory/missing.jsonl" ] || break
    fi
    if [ "$tries" -eq 0 ]; then
        echo "not restored: $(cat "$directory/missing.jsonl" 2>/dev/null | wc -l) of $lines memories and rows, see" \
            "$directory/missing.jsonl; what was erased, changed or has expired since the export is among them" >&2
        exit 1
    fi
done
echo "restored: all $lines memories and rows that the running lorestream had"
