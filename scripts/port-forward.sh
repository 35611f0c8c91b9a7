#!/bin/sh
# Serves a cluster's gateway on http://127.0.0.1:8000 until Ctrl-C, and says how to get an API key.
#
#   scripts/port-forward.sh [--context NAME] [--namespace NAME] [--port NUMBER]
set -eu

context=kind-aiacc namespace=carbon-orchestrator port=8000
while [ $# -gt 0 ]; do
    case $1 in
        --context | --namespace | --port) [ -n "${2-}" ] || set -- '' ;;
    esac
    case $1 in
        --context) context=$2 ;;
        --namespace) namespace=$2 ;;
        --port) port=$2 ;;
        *)
            echo "usage: scripts/port-forward.sh [--context NAME] [--namespace NAME] [--port NUMBER]" >&2
            exit 2
            ;;
    esac
    shift 2
done

command -v kubectl >/dev/null || {
    echo "port-forward: kubectl is not on PATH; install it: https://kubernetes.io/docs/tasks/tools/" >&2
    exit 1
}
set -- --context "$context" --namespace "$namespace"
kubectl "$@" get service/gateway --output name >/dev/null || {
    echo "port-forward: no gateway in $namespace of $context: scripts/deploy-kind.sh, or --context" >&2
    exit 1
}
cat >&2 <<END
Serving http://127.0.0.1:$port until Ctrl-C. In another terminal:
  export CARBON_URL=http://127.0.0.1:$port
  export CARBON_API_KEY=\$(kubectl $* get secret api-key --output 'go-template={{.data.token | base64decode}}')
END
exec kubectl "$@" port-forward service/gateway "$port:8000"
