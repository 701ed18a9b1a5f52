# What all parts of the test cluster share: where things are, and how its network looks. Sourced, not run.
# shellcheck shell=bash

cluster=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$cluster/../../.." && pwd)

programs=$root/target/kubernetes/programs                # what was built
state=$(realpath -m "${CLUSTER_STATE:-$root/target/kubernetes/state}")  # what a running cluster keeps; gone with it
tools=$root/target/kubernetes/tools                      # a Go that was fetched because none was there

# Of the first node's network namespace; the others are called NAME-1, NAME-2, … It follows from where the cluster keeps its
# state, so that several run beside each other.
name=glint-$(cksum <<<"$state" | cut -d' ' -f1)
nodes=${NODES:-1}                  # how many nodes
volumes=${VOLUMES:-150}            # how many ready-made volumes each node has

kubernetes_version=v1.34.4
pause_image=localhost/pause:1

# Node N has the address 10.250.0.(10 N + 1) and the pods 10.244.N.0/24. The first one also runs the control plane.
first_address=10.250.0.1
service_range=10.96.0.0/16
pod_range=10.244.0.0/16
address_of() { echo "10.250.0.$(($1 * 10 + 1))"; }
namespace_of() { if [ "$1" = 0 ]; then echo "$name"; else echo "$name-$1"; fi; }

# Enters a node's network. Not `ip netns exec`: that mounts /sys anew, and the kubelet would miss its control groups.
on_node() {
  local number=$1
  shift
  nsenter --net="/run/netns/$(namespace_of "$number")" "$@"
}
kubectl() { on_node 0 env KUBECONFIG="$state/access/admin.conf" "$programs/kubectl" "$@"; }

say() { echo "cluster: $*" >&2; }

# Tries a command again and again, for half a minute.
wait_for() {
  local try
  for try in $(seq 150); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.2
  done
  say "gave up after $try tries: $*; the logs are in $state/log"
  return 1
}

# Runs a component in the background: start NAME NODE COMMAND…
start() {
  local component=$1 number=$2
  shift 2
  setsid nsenter --net="/run/netns/$(namespace_of "$number")" "$@" >"$state/log/$component.log" 2>&1 </dev/null &
  echo $! >"$state/running/$component"
}
stop() {
  local component
  for component in "$@"; do
    if [ -f "$state/running/$component" ]; then kill "$(cat "$state/running/$component")" 2>/dev/null || true; fi
  done
}
