#!/bin/sh
# Deploys to a Kubernetes cluster, or brings what is there up to date; may be run any number of
# times. Passwords and API keys are made where they are missing, kept where they are there, and
# stand in no file of this repository. docs/kubernetes.md has the whole story.
#
#   scripts/deploy-k8s.sh --context NAME [--overlay NAME] [--registry HOST/PATH] [--tag TAG]
#                         [--push] [--redis-ca FILE] [--timeout LENGTH]
#
#   --context   of kubectl's configuration, which says the cluster
#   --overlay   a folder of k8s/overlays (production)
#   --registry  where the cluster gets the image carbon-orchestrator:TAG from
#   --tag       the image's tag (as in k8s/base)
#   --push      build the image and push it there, first
#   --redis-ca  file of the certificates that sign those of a stream server outside the cluster
#   --timeout   for each part to become ready (10m)
#
# Needs kubectl, what scripts/setup.sh needs, and docker for --push.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

fail() {
    printf 'deploy-k8s: %s\n' "$@" >&2
    exit 1
}

usage() {
    printf 'deploy-k8s: %s\n' "$1" >&2
    sed -n '/^#   scripts/,/^# Needs/s/^# \{0,3\}//p' "$0" >&2
    exit 2
}

context='' overlay=production registry='' tag='' push='' redis_ca='' timeout=10m
while [ $# -gt 0 ]; do
    case $1 in
        --push) push=yes && shift && continue ;;
        --context | --overlay | --registry | --tag | --redis-ca | --timeout)
            if [ -z "${2-}" ]; then usage "$1 needs a value"; fi ;;
        *) usage "what is $1?" ;;
    esac
    case $1 in
        --context) context=$2 ;;
        --overlay) overlay=$2 ;;
        --registry) registry=${2%/} ;;
        --tag) tag=$2 ;;
        --redis-ca) redis_ca=$2 ;;
        --timeout) timeout=$2 ;;
    esac
    shift 2
done

[ -n "$context" ] || usage "--context is missing; kubectl config get-contexts lists them"
case $overlay in
    */* | .*) usage "--overlay $overlay: only a name of k8s/overlays" ;;
esac
[ -f "$root/k8s/overlays/$overlay/kustomization.yaml" ] ||
    usage "--overlay $overlay: there are $(cd "$root/k8s/overlays" && echo *)"
[ -z "$redis_ca" ] || [ -r "$redis_ca" ] || fail "--redis-ca $redis_ca: no such file"
[ -z "$push" ] || [ -n "$registry" ] || usage "--push needs --registry"
command -v kubectl >/dev/null ||
    fail "kubectl is not on PATH; install it: https://kubernetes.io/docs/tasks/tools/"
[ -z "$push" ] || command -v docker >/dev/null ||
    fail "docker is not on PATH, and --push builds with it: https://docs.docker.com/get-docker/"
[ -n "$tag" ] || tag=$(sed -n 's/^ *image: carbon-orchestrator://p' "$root/k8s/base/role.yaml")
image=${registry:+$registry/}carbon-orchestrator

"$root/scripts/setup.sh"
umask 077 # of what is written below, much is secret
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

if [ -n "$push" ]; then
    revision=$(git -C "$root" rev-parse HEAD 2>/dev/null) || revision=unknown
    docker build --build-arg VERSION="$tag" --build-arg REVISION="$revision" --tag "$image:$tag" "$root"
    docker push "$image:$tag"
fi

cp -R "$root/k8s" "$work/k8s"
cat >"$work/kustomization.yaml" <<END
resources:
  - k8s/overlays/$overlay
images:
  - name: carbon-orchestrator
    newName: $image
    newTag: "$tag"
END
kubectl kustomize "$work" >"$work/all.yaml" || fail "overlay $overlay cannot be built; see above"
namespace=$(sed -n '/^kind: Deployment$/,/^---$/s/^  namespace: //p' "$work/all.yaml" | head -n 1)
[ -n "$namespace" ] || fail "overlay $overlay has no Deployment in a namespace"
inside=$(sed -n '/^kind: StatefulSet$/p' "$work/all.yaml") # the stream server

kube() {
    kubectl --context "$context" --namespace "$namespace" "$@"
}

apply() {
    kube apply --server-side --field-manager carbon-orchestrator "$@"
}

# A Secret or ConfigMap from files: KIND... NAME OPTION
keep() {
    kube create "$@" --dry-run=client --output yaml | apply --filename -
}

apply --filename "$work/all.yaml" --selector app.kubernetes.io/component=namespace ||
    fail "the cluster of context $context does not take it; see above"

if [ -n "$redis_ca" ]; then
    keep configmap redis-ca --from-file "ca.crt=$redis_ca"
elif grep -q '^ *name: redis-ca$' "$work/all.yaml" &&
    [ -z "$(kube get configmap redis-ca --ignore-not-found --output name)" ]; then
    fail "who signs the stream server's certificate? name a file with --redis-ca"
fi

echo "deploy-k8s: who may log in at the stream server" >&2
# shellcheck disable=SC2016 # variables of the template
kube get secret redis-users --ignore-not-found --output \
    'go-template={{range $user, $password := .data}}{{$user}} {{$password | base64decode}}{{"\n"}}{{end}}' \
    >"$work/passwords"
kube get secret redis-acl --ignore-not-found --output \
    'go-template={{index .data "users.acl" | base64decode}}' >"$work/acl.before"
known=$(wc -l <"$work/passwords")
"$root/.venv/bin/carbon-orchestrator" doctor --acl --passwords "$work/passwords" \
    >"$work/users.acl" 2>"$work/said" || fail "$(cat "$work/said")"
sed 's/ /=/' "$work/passwords" >"$work/passwords.env"
keep secret generic redis-users --from-env-file "$work/passwords.env"
keep secret generic redis-acl --from-file "users.acl=$work/users.acl"
acl_is_new=$(cmp -s "$work/acl.before" "$work/users.acl" || echo yes)
if [ -z "$inside" ] && [ -n "$acl_is_new" ]; then
    show='go-template={{index .data "users.acl" | base64decode}}'
    printf 'deploy-k8s: %s\n' >&2 \
        "your stream server has to know the users of redis-acl. Load them there (ACL LOAD):" \
        "  kubectl --context $context --namespace $namespace get secret redis-acl --output '$show'"
    if [ "$known" -eq 0 ]; then
        fail "then run this again"
    fi
fi

apply --filename "$work/all.yaml"

ready() {
    kube rollout status "$1" --timeout "$timeout" ||
        fail "$1 is not ready; see: kubectl --context $context --namespace $namespace get pods"
}

if [ -n "$inside" ]; then
    # The server reads the file when it starts.
    if [ -s "$work/acl.before" ] && [ -n "$acl_is_new" ]; then
        kube rollout restart statefulset/redis
    fi
    ready statefulset/redis
fi
ready deployment/router

# The program as the operator, where it reaches the server. The password comes by standard input,
# as everybody may read arguments.
operate() {
    # shellcheck disable=SC2016 # for the shell there
    sed -n 's/^carbon-operator //p' "$work/passwords" |
        kube exec --stdin deployment/router -- sh -c '
            read -r CARBON_REDIS_PASSWORD
            CARBON_REDIS_USERNAME=carbon-operator CARBON_OPERATOR=deploy-k8s
            export CARBON_REDIS_PASSWORD CARBON_REDIS_USERNAME CARBON_OPERATOR
            exec carbon-orchestrator "$@"' sh "$@"
}

# An API key in a Secret, unless it is there and the deployment knows it: SECRET OPTION...
key() {
    secret=$1
    shift
    held=$(kube get secret "$secret" --ignore-not-found --output \
        'go-template={{.data.token | base64decode}}')
    id=$(printf '%s' "$held" | cut -d _ -f 2)
    listed=$(operate keys list --json) || fail "the API keys cannot be listed; see above"
    case $listed in
        *"\"${id:-none}\""*) return ;;
    esac
    made=$(operate keys create "$secret" "$@") || fail "no API key could be made; see above"
    printf '%s' "$made" >"$work/token"
    keep secret generic "$secret" --from-file "token=$work/token"
    key_is_new=yes
}

key_is_new=''
key api-key --scope submit --scope operate
if grep -q '^kind: ScaledObject$' "$work/all.yaml"; then
    key keda-api-key --scope read
fi
if [ -n "$key_is_new" ]; then
    # A gateway that found no key at all has ended, and Kubernetes takes its time.
    kube rollout restart deployment/gateway
fi
for each in signal accounting gateway; do
    ready "deployment/$each"
done

cat >&2 <<END
deploy-k8s: ready. To use it from here:
  scripts/port-forward.sh --context $context --namespace $namespace
END
