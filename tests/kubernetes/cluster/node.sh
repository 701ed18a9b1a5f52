# One node: its network, containerd, kubelet and kube-proxy, and the volumes it has ready. Sourced, not run.
# shellcheck shell=bash

# A node after the first: a network namespace of its own on the first one's bridge, and a way to every other node's pods.
join_network() {
  local number=$1 other address
  address=$(address_of "$number")
  ip netns add "$(namespace_of "$number")"
  on_node "$number" ip link set lo up
  ip -n "$name" link add "peer$number" type veth peer name eth0 netns "$(namespace_of "$number")"
  ip -n "$name" link set "peer$number" master node0
  ip -n "$name" link set "peer$number" up
  on_node "$number" ip addr add "$address/24" dev eth0
  on_node "$number" ip link set eth0 up
  on_node "$number" ip route add default via "$first_address"
  on_node "$number" sysctl -qw net.ipv4.ip_forward=1 net.ipv4.tcp_congestion_control=reno
  for other in $(seq 0 $((number - 1))); do
    on_node "$other" ip route add "10.244.$number.0/24" via "$address"
    on_node "$number" ip route add "10.244.$other.0/24" via "$(address_of "$other")"
  done
}

# Kubelets on one machine must not share the root of their control groups.
make_control_groups() {
  local number=$1 controller file
  for controller in /sys/fs/cgroup/*/; do
    if [ ! -f "$controller/cgroup.procs" ]; then continue; fi
    mkdir -p "$controller/$name-$number"
    if [ "$(basename "$controller")" = cpuset ]; then
      for file in cpuset.cpus cpuset.mems; do cat "$controller/$file" >"$controller/$name-$number/$file"; done
    fi
  done
}

start_containerd() {
  local number=$1 directory=$2
  cat >"$directory/cni/10-bridge.conflist" <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipam": {
    "type": "host-local", "dataDir": "$directory/addresses",
    "ranges": [[{"subnet": "10.244.$number.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
  # restrict_oom_score_adj: root in a virtual machine or container may lack the right to lower it.
  cat >"$directory/containerd.toml" <<END
version = 2
root = "$directory/containerd/root"
state = "$directory/containerd/state"
[grpc]
  address = "$directory/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  # Networks of pods are below the state too, and not where those of other clusters are.
  netns_mounts_under_state_dir = true
  sandbox_image = "$pause_image"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$directory/cni"
END
  start "containerd$number" "$number" containerd --config "$directory/containerd.toml"
  wait_for ctr --address "$directory/containerd.sock" version
  ctr --address "$directory/containerd.sock" --namespace k8s.io images import "$programs/pause.tar" >/dev/null
}

start_kubelet() {
  local number=$1 directory=$2 keys=$state/keys
  cat >"$directory/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$directory/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$name-$number
failSwapOn: false
clusterDNS: [$first_address]
clusterDomain: cluster.local
resolvConf: ""
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $keys/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $keys/kubelet$number.crt
tlsPrivateKeyFile: $keys/kubelet$number.key
evictionHard: {memory.available: 100Mi, nodefs.available: 0%, imagefs.available: 0%}
imageGCHighThresholdPercent: 100
podLogsDir: $directory/pods
volumePluginDir: $directory/volume-plugins
END
  start "kubelet$number" "$number" "$programs/kubernetes" kubelet --config="$directory/kubelet.yaml" \
    --kubeconfig="$state/access/node$number.conf" --hostname-override="node$number" --node-ip="$(address_of "$number")" \
    --root-dir="$directory/kubelet" --cert-dir="$directory/kubelet-keys"
}

start_node() {
  local number=$1 directory=$state/node$1
  mkdir -p "$directory/cni" "$directory/volumes"
  if [ "$number" != 0 ]; then
    join_network "$number"
  fi
  make_control_groups "$number"
  cd "$state/keys"
  certificate "kubelet$number" "/CN=node$number" "IP:$(address_of "$number"),DNS:node$number"
  certificate "node$number" "/O=system:nodes/CN=system:node:node$number"
  cd "$root"
  access "node$number"
  start_containerd "$number" "$directory"
  start_kubelet "$number" "$directory"
  start "proxy$number" "$number" "$programs/kubernetes" proxy --kubeconfig="$state/access/proxy.conf" \
    --hostname-override="node$number" --cluster-cidr=$pod_range --proxy-mode=iptables \
    --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
}

# Ready-made local volumes: those that a host-path provisioner makes do not obey fsGroup, these do.
make_volumes() {
  cat <<END
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: local, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
END
  local number volume
  for number in $(seq 0 $((nodes - 1))); do
    for volume in $(seq 1 "$volumes"); do
      mkdir -p "$state/node$number/volumes/$volume"
      cat <<END
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: node$number-$volume}
spec:
  capacity: {storage: 20Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: local
  local: {path: $state/node$number/volumes/$volume}
  nodeAffinity:
    required:
      nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node$number]}]}]
END
    done
  done
}
