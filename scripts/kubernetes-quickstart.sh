#!/usr/bin/env bash
# From nothing to trained topics on a real Kubernetes on this machine: builds and starts one, builds the images, installs
# the operator by its chart, and trains. The cluster is left running; the last lines say how to look and how to remove it.
set -euo pipefail
cd "$(dirname "$0")/.."
cluster=tests/kubernetes/cluster/cluster
step() { printf '\n== %s\n' "$*"; }

obstacle=$($cluster obstacle)
if [ -n "$obstacle" ]; then
  echo "error: a cluster cannot run here: $obstacle; docs/kubernetes.md says how to use one that you have" >&2
  exit 1
fi
step "1/5 Kubernetes: building it (the first time about 8 minutes), then starting it"
$cluster build
$cluster up
step "2/5 Images of Glint and its examples: building them (the first time some minutes)"
PROFILE=${PROFILE:-release} scripts/images.sh
$cluster load target/images/glint.tar target/images/examples.tar
step "3/5 The operator, by its chart"
$cluster run helm upgrade --install glint charts/glint --namespace glint-system --create-namespace --wait --timeout 120s 2>/dev/null | sed -n 1,6p
step "4/5 A parameter server of three servers, and a Job of two pods that train on it"
$cluster run kubectl delete job lda-training --ignore-not-found
$cluster run kubectl apply -f examples/kubernetes/lda.yaml
$cluster run kubectl wait parameterserver/news --for=condition=Ready --timeout=120s
$cluster run kubectl wait pod --selector=job-name=lda-training --for=jsonpath='{.status.phase}'=Running --timeout=60s >/dev/null || true
step "5/5 Training: what the first pod tells"
pod=$($cluster run kubectl get pods --selector=batch.kubernetes.io/job-completion-index=0,job-name=lda-training --output=name)
$cluster run kubectl logs --follow "$pod"
$cluster run kubectl wait job/lda-training --for=condition=Complete --timeout=60s
cat <<END

The cluster is still there. To look:
  make kubernetes-run COMMAND="kubectl get pserver,pods,pvc"
  make kubernetes-run COMMAND="kubectl describe pserver news"
  make kubernetes-run COMMAND="kubectl logs -n glint-system deployment/glint-operator"
To remove it, and everything in it:
  make kubernetes-down
END
