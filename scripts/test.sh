#!/bin/sh
# Sets up .venv where needed, then runs the tests in random order. Arguments go to pytest, and
# paths among them are relative to the repository: scripts/test.sh tests/unit -k lease
# To repeat an order: scripts/test.sh --randomly-seed=SEED
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

"$root/scripts/setup.sh" dev
cd "$root"
# Chosen here, so that it is printed even where pytest is told to be quiet.
seed=$(.venv/bin/python -c 'import random; print(random.randrange(2**32))')
for argument; do
    case $argument in
        --randomly-seed=*) seed=${argument#*=} ;;
        *no:randomly) exec .venv/bin/python -m pytest "$@" ;;
    esac
done
echo "random order: --randomly-seed=$seed"
exec .venv/bin/python -m pytest "$@" --randomly-seed="$seed"
