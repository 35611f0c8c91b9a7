#!/bin/sh
# Everything in a small Kubernetes cluster on this machine: makes the cluster "aiacc" with kind if
# it is missing, builds the image, loads it and deploys it, and waits until the API is ready. May
# be run any number of times. Needs kind, docker and kubectl, and what scripts/setup.sh needs.
#
#   scripts/deploy-kind.sh
#   kind delete cluster --name aiacc    when it is not wanted any more
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cluster=aiacc

[ $# -eq 0 ] || {
    echo "usage: scripts/deploy-kind.sh" >&2
    exit 2
}

need() {
    command -v "$1" >/dev/null || {
        echo "deploy-kind: $1 is not on PATH; install it: $2" >&2
        exit 1
    }
}
need kind https://kind.sigs.k8s.io/docs/user/quick-start/
need docker https://docs.docker.com/get-docker/
need kubectl https://kubernetes.io/docs/tasks/tools/
docker info >/dev/null 2>&1 || {
    echo "deploy-kind: the docker daemon does not answer; start it, or see: docker info" >&2
    exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

if kind get clusters 2>/dev/null | grep -qx "$cluster"; then
    kind export kubeconfig --name "$cluster"
else
    kind create cluster --name "$cluster" --wait 3m
fi
docker build --iidfile "$work/id" --tag carbon-orchestrator:dev "$root"
# A tag of its own for each image, so that another image is another deployment.
tag=$(cut -d : -f 2 "$work/id" | cut -c 1-12)
docker tag carbon-orchestrator:dev "carbon-orchestrator:$tag"
kind load docker-image "carbon-orchestrator:$tag" --name "$cluster"
"$root/scripts/deploy-k8s.sh" --context "kind-$cluster" --overlay kind --tag "$tag"
