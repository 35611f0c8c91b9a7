#!/bin/sh
# Sets up .venv where needed, then runs everything on this machine: the bundled server and all
# roles in one process, on http://127.0.0.1:8000. Arguments go to `carbon-orchestrator up`:
# scripts/up.sh --help lists them.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

"$root/scripts/setup.sh"
exec "$root/.venv/bin/carbon-orchestrator" up "$@"
