#!/usr/bin/env bash
# Installs this checkout, editable, with exact versions into .venv.
# usage: scripts/install.sh EXTRAS        e.g. scripts/install.sh models,data
#
# Indexes and wheel folders stay the user's: PIP_* and UV_* are left alone, no address is ever passed.
set -euo pipefail
cd "$(dirname "$0")/.."
extras=${1:?usage: scripts/install.sh EXTRAS}
base_python=${PYTHON:-python3}
venv_python=.venv/bin/python

fail() {
  printf 'install: %s\n' "$*" >&2
  exit 1
}

create_venv() {
  command -v "$base_python" >/dev/null || fail "$base_python not found; set PYTHON to a Python 3.11 or newer"
  "$base_python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or newer is needed, $base_python is $("$base_python" --version); set PYTHON"
  "$base_python" -m venv .venv ||
    fail "'$base_python -m venv' failed (Debian and Ubuntu: install the package python3-venv)"
}

# uv does not read pip's wheel folders; hand them over when uv has none of its own.
# pip separates them by white space, uv by commas.
share_find_links() {
  [ -z "${UV_FIND_LINKS:-}" ] || return 0
  local links=${PIP_FIND_LINKS:-}
  [ -n "$links" ] || links=$("$venv_python" -m pip config get global.find-links 2>/dev/null || true)
  links=$(printf '%s' "$links" | tr -s '[:space:]' ',' | sed 's/^,//; s/,$//')
  [ -z "$links" ] || export UV_FIND_LINKS=$links
}

install_with_uv() {
  [ -x .venv/bin/uv ] || "$venv_python" -m pip install --quiet -c constraints.txt uv || return 1
  share_find_links
  .venv/bin/uv pip install --python "$venv_python" -c constraints.txt -e ".[$extras]"
}

[ -x "$venv_python" ] || create_venv
if ! install_with_uv; then
  printf 'install: uv could not install, trying pip\n' >&2
  "$venv_python" -m pip install -c constraints.txt -e ".[$extras]"
fi
