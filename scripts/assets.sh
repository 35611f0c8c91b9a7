#!/bin/sh
# Puts what the dashboard and /docs take from elsewhere (package-lock.json: uPlot, Swagger UI) into
# carbon_orchestrator/dashboard/vendor; does nothing where all is as it should be. Needs npm, or,
# for want of it, takes a Node from PyPI (requirements-node.lock) for the moment.
#
#   scripts/assets.sh        exits 1 where they could not be had
#   scripts/assets.sh try    says so and exits 0, and tries no more until something changes
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
vendor=$root/carbon_orchestrator/dashboard/vendor
mode=${1-}

ingredients() {
    cat "$root/package.json" "$root/package-lock.json" "$root/scripts/assets.sh"
}

if ingredients | cmp -s - "$vendor/made-from"; then exit; fi
if [ "$mode" = try ] && ingredients | cmp -s - "$vendor/tried"; then exit; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

node_from_pypi() {
    python=$root/.venv/bin/python
    [ -x "$python" ] || python=python3
    "$python" -m venv "$work/node" &&
        "$work/node/bin/python" -m pip --quiet --no-input --disable-pip-version-check \
            --retries 1 --timeout 20 install --require-hashes --only-binary :all: \
            -r "$root/requirements-node.lock"
}

install() {
    path=$PATH
    if ! command -v npm >/dev/null; then
        echo "assets: no npm on PATH, taking one from PyPI" >&2
        node_from_pypi >&2 || return 1
        path=$work/node/bin:$PATH
    fi
    cp "$root/package.json" "$root/package-lock.json" "$root/.npmrc" "$work/"
    (cd "$work" && PATH=$path npm ci --no-audit --no-fund --no-update-notifier --loglevel=error \
        --fetch-retries=1 --fetch-timeout=30000 >&2)
}

put() {
    cp "$work/node_modules/$1" "$work/vendor/$2"
}

if install; then
    mkdir "$work/vendor"
    put uplot/dist/uPlot.esm.js uPlot.esm.js
    put uplot/dist/uPlot.min.css uPlot.min.css
    put uplot/LICENSE uPlot.LICENSE.txt
    put swagger-ui-dist/swagger-ui-bundle.js swagger-ui-bundle.js
    put swagger-ui-dist/swagger-ui-bundle.js.LICENSE.txt swagger-ui-bundle.js.LICENSE.txt
    put swagger-ui-dist/swagger-ui.css swagger-ui.css
    put swagger-ui-dist/LICENSE swagger-ui.LICENSE.txt
    put swagger-ui-dist/NOTICE swagger-ui.NOTICE.txt
    # No reference to what is not packaged: a browser's tools would ask for it.
    sed -i.bak '/^\/[/*]# sourceMappingURL=/d' "$work/vendor/swagger-ui-bundle.js" "$work/vendor/swagger-ui.css"
    rm -f "$work"/vendor/*.bak
    rm -rf "$vendor"
    mkdir -p "$vendor"
    mv "$work"/vendor/* "$vendor/"
    ingredients >"$vendor/made-from"
    exit
fi
echo "assets: charts and /docs are missing until scripts/assets.sh has found npm's registry" >&2
mkdir -p "$vendor"
ingredients >"$vendor/tried"
[ "$mode" = try ]
