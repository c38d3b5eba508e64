#!/bin/sh
# Creates, at the first start, the key for player names, the file of API keys, and an API key for game servers in it.
# Existing files are kept. Each file is written completely or not at all.
set -eu
umask 077
keys="${1:-/keys}"

if [ ! -s "$keys/player_key" ]; then
  python -c 'import secrets; print("k1:" + secrets.token_hex(32))' > "$keys/player_key.part"
  mv "$keys/player_key.part" "$keys/player_key"
fi
if [ ! -s "$keys/api_key" ]; then
  lorestream keys create --file "$keys/keys.json" --tenant default --label "created at the first start" \
    --scope ingest --scope query --scope erase --scope admin > "$keys/api_key.part"
  mv "$keys/api_key.part" "$keys/api_key"
fi
