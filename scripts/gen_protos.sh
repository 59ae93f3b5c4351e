#!/usr/bin/env bash
# Generates the committed gRPC stubs from protos/.
#
#   scripts/gen_protos.sh           write the stubs
#   scripts/gen_protos.sh --check   fail if the committed stubs are out of date
#
# PYTHON names the interpreter that has grpcio-tools and mypy-protobuf.
set -euo pipefail

cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-.venv/bin/python}"
PYTHON="$(command -v "$PYTHON")"
# protoc finds the mypy plugins on PATH.
export PATH="$(cd "$(dirname "$PYTHON")" && pwd):$PATH"

generate() {
  find protos -name '*.proto' -print0 | sort -z | xargs -0 "$PYTHON" -m grpc_tools.protoc \
    -Iprotos --python_out="$1" --grpc_python_out="$1" --mypy_out="quiet:$1" --mypy_grpc_out="quiet:$1"
}

case "${1:-}" in
  "")
    find specbeam -name '*_pb2*.py*' -not -path '*/__pycache__/*' -delete
    generate .
    ;;
  --check)
    fresh="$(mktemp -d)"
    trap 'rm -rf "$fresh"' EXIT
    generate "$fresh"
    (cd "$fresh" && find specbeam -type f) | sort >"$fresh/expected"
    find specbeam -name '*_pb2*.py*' -not -path '*/__pycache__/*' | sort >"$fresh/committed"
    diff "$fresh/expected" "$fresh/committed"
    while read -r stub; do diff -u "$stub" "$fresh/$stub"; done <"$fresh/expected"
    echo "stubs are up to date"
    ;;
  *)
    echo "usage: $0 [--check]" >&2
    exit 2
    ;;
esac
