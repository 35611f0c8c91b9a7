#!/bin/sh
# Makes .venv with the pinned dependencies and this project in it; does nothing where all is as it
# should be. Needs Python 3.11 or newer with venv and pip; scripts/assets.sh then puts in what the
# dashboard's charts are drawn with, where it can.
#
#   scripts/setup.sh        what `up` needs          (requirements.lock)
#   scripts/setup.sh dev    that, and the test tools (requirements-dev.lock)
#
# PYTHON names the interpreter to use; pip's own settings (PIP_INDEX_URL, ...) hold as always.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=$root/.venv

case ${1-} in
    '') lock=requirements.lock ;;
    dev) lock=requirements-dev.lock ;;
    *) echo "usage: scripts/setup.sh [dev]" >&2 && exit 2 ;;
esac

# All that the environment was made from. The path is part of it: an environment does not
# survive being moved.
ingredients() {
    printf '%s\n' "$root"
    cat "$root/pyproject.toml" "$root/$1" "$root/scripts/setup.sh"
}

made_from() {
    [ -x "$venv/bin/python" ] && [ -x "$venv/bin/carbon-orchestrator" ] &&
        ingredients "$1" | cmp -s - "$venv/made-from-$1"
}

# The test tools' environment serves `up` as well.
up_to_date() {
    made_from "$lock" || { [ "$lock" = requirements.lock ] && made_from requirements-dev.lock; }
}

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON-}" ]; then
        recent "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 or newer"
        python=$PYTHON
        return
    fi
    for python in python3 python python3.13 python3.12 python3.11 python3.14; do
        if recent "$python"; then return; fi
    done
    fail "no Python 3.11 or newer found on PATH" \
        "install one, or name it: PYTHON=/path/to/python3 $0"
}

assets() {
    exec "$root/scripts/assets.sh" try
}

if up_to_date; then assets; fi

find_python
# One setup at a time. The lock is on this shell's descriptor, so it outlives the interpreter.
exec 9<"$root/scripts/setup.sh"
"$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
if up_to_date; then assets; fi

echo "setup: making .venv from $lock (the first time takes a minute)" >&2
rm -f "$venv"/made-from-*

usable() {
    recent "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1 &&
        grep -qF " $venv" "$venv/pyvenv.cfg"
}
if ! usable; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python has no venv module with pip" \
            "install it (Debian, Ubuntu: apt install python3-venv), or name another: PYTHON=... $0"
    "$python" -m venv --clear "$venv" || fail "cannot make $venv"
fi

pip() {
    "$venv/bin/python" -m pip --quiet --no-input --disable-pip-version-check "$@"
}
pip install --require-hashes -r "$root/$lock" ||
    fail "pip could not install what $lock pins; its reason stands above" \
        "without a network, or behind a mirror, set PIP_INDEX_URL or PIP_FIND_LINKS"
pip install --no-index --no-deps --no-build-isolation -e "$root" ||
    fail "pip could not install the project itself; its reason stands above"
ingredients "$lock" >"$venv/made-from-$lock"
assets
