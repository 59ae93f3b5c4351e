#!/usr/bin/env bash
# Prints the path of a redis-server: the environment's own, else the one on PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -x .venv/bin/redis-server ]; then
  printf '%s\n' "$PWD/.venv/bin/redis-server"
elif command -v redis-server; then
  :
else
  printf 'No redis-server: the dev extra brings one on Linux x86-64 with Python 3.11 or 3.12;\n' >&2
  printf 'elsewhere install it (Debian: apt-get install redis-server) and run again.\n' >&2
  exit 1
fi
