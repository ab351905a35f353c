#!/bin/sh
# Makes a random password for each system, in a folder that only its owner can enter; one that is there stays.
# The files themselves can be read by all, because programs in containers, which are nobody here, must read them.
set -eu
folder=$(dirname "$0")/secrets
mkdir -p "$folder"
chmod 700 "$folder"
for name in clickhouse_password redis_password grafana_password; do
  [ -s "$folder/$name" ] || openssl rand -hex 24 | tr -d '\n' >"$folder/$name"
  chmod 644 "$folder/$name"
done
