#!/bin/sh
# Sets up .venv where needed, then runs the tests in random order, one process a core (four at
# most). Arguments go to pytest, and paths among them are relative to the repository:
#   scripts/test.sh tests/unit -k lease
#   scripts/test.sh -n 0 --pdb              in one process
#   scripts/test.sh --randomly-seed=SEED    an order again
#   CARBON_TEST_THOROUGH=1 scripts/test.sh  what takes longer, too
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

"$root/scripts/setup.sh" dev
cd "$root"
# The tests start hundreds of processes: each would compile every module anew.
unset PYTHONDONTWRITEBYTECODE
cores=$(getconf _NPROCESSORS_ONLN)
set -- -n "$((cores < 4 ? cores : 4))" --dist worksteal "$@"
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
