#!/usr/bin/env bash
# Writes everything that an installation needs into one file, for `kubectl apply -f`: the definition of ParameterServer, the
# namespace glint-system, and what the chart makes with its default values:
#   manifests.sh [FILE]              target/manifests/glint.yaml unless said
# REGISTRY=HOST/PATH takes the image from there. SET="zones=false …" sets other values of the chart.
set -euo pipefail
cd "$(dirname "$0")/.."
file=${1:-${CARGO_TARGET_DIR:-target}/manifests/glint.yaml}
namespace=glint-system

# Helm only renders here: nothing is asked of a cluster. Where there is none, that of the test cluster does.
helm=$(command -v helm || echo target/kubernetes/programs/helm)
if [ ! -x "$helm" ]; then tests/kubernetes/cluster/cluster build; fi
values=(--set crds.keep=false)
if [ -n "${REGISTRY:-}" ]; then values+=(--set "image.repository=$REGISTRY/glint"); fi
for value in ${SET:-}; do values+=(--set "$value"); done

mkdir -p "$(dirname "$file")"
{
  echo "# Glint $(sed -n 's/^appVersion: //p' charts/glint/Chart.yaml) for Kubernetes, as charts/glint makes it. To install and to upgrade: kubectl apply -f $(basename "$file")"
  echo "# To remove the operator: kubectl delete namespace $namespace; the definition, objects and what runs for them stay."
  echo "apiVersion: v1"
  echo "kind: Namespace"
  echo "metadata:"
  echo "  name: $namespace"
  echo "  labels: {pod-security.kubernetes.io/enforce: restricted}"
  # Nothing of it is Helm's.
  "$helm" template glint charts/glint --namespace $namespace "${values[@]}" | sed '/^ *app.kubernetes.io\/managed-by: Helm$/d; /^ *helm.sh\/chart: /d'
} >"$file.new"
mv "$file.new" "$file"
echo "$file: $(grep -c '^kind: ' "$file") objects; kubectl apply -f $file"
