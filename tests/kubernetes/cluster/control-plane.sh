# The first node's network, and what runs once per cluster: etcd, API server, controllers, scheduler, DNS. Sourced, not run.
# shellcheck shell=bash

make_network() {
  ip netns add "$name"
  on_node 0 ip link set lo up
  # The address sits on a bridge with one veth in it, since not every kernel has dummy devices.
  on_node 0 ip link add node0 type bridge
  on_node 0 ip addr add "$first_address/24" dev node0
  on_node 0 ip link add up0 type veth peer name up1
  on_node 0 ip link set up0 master node0
  local device
  for device in up0 up1 node0; do on_node 0 ip link set "$device" up; done
  # Addresses of Services need some route before they are rewritten.
  on_node 0 ip route add default dev node0
  on_node 0 sysctl -qw net.ipv4.ip_forward=1 net.ipv4.tcp_congestion_control=reno
}

start_control_plane() {
  # Every change that anyone asks for, and who asked: what roles are compared with.
  cat >"$state/audit-policy.yaml" <<END
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: Metadata
    userGroups: ["system:serviceaccounts"]
    omitManagedFields: true
  - level: None
END
  local etcd=http://127.0.0.1:2379 keys=$state/keys program=$programs/kubernetes
  start etcd 0 "$program" etcd --data-dir "$state/etcd" --unsafe-no-fsync \
    --listen-client-urls $etcd --advertise-client-urls $etcd \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster default=http://127.0.0.1:2380
  start apiserver 0 "$program" apiserver --etcd-servers=$etcd --bind-address=$first_address --advertise-address=$first_address \
    --service-cluster-ip-range=$service_range --allow-privileged=true \
    --tls-cert-file="$keys/apiserver.crt" --tls-private-key-file="$keys/apiserver.key" --client-ca-file="$keys/ca.crt" \
    --service-account-key-file="$keys/accounts.pub" --service-account-signing-key-file="$keys/accounts.key" \
    --service-account-issuer=https://kubernetes.default.svc \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --kubelet-preferred-address-types=InternalIP --kubelet-certificate-authority="$keys/ca.crt" \
    --kubelet-client-certificate="$keys/to-kubelet.crt" --kubelet-client-key="$keys/to-kubelet.key" \
    --audit-policy-file="$state/audit-policy.yaml" --audit-log-path="$state/log/audit.json"
  # The controllers give up for good when they start before the default roles exist.
  wait_for kubectl get --raw /readyz
  start controllers 0 "$program" controllers --kubeconfig="$state/access/controllers.conf" --bind-address=127.0.0.1 \
    --authentication-kubeconfig="$state/access/controllers.conf" --authorization-kubeconfig="$state/access/controllers.conf" \
    --root-ca-file="$keys/ca.crt" --service-account-private-key-file="$keys/accounts.key" --use-service-account-credentials=true \
    --cluster-signing-cert-file="$keys/ca.crt" --cluster-signing-key-file="$keys/ca.key" \
    --allocate-node-cidrs=true --cluster-cidr=$pod_range --leader-elect=false
  start scheduler 0 "$program" scheduler --kubeconfig="$state/access/scheduler.conf" --bind-address=127.0.0.1 \
    --authentication-kubeconfig="$state/access/scheduler.conf" --authorization-kubeconfig="$state/access/scheduler.conf" \
    --leader-elect=false
}

start_dns() {
  cat >"$state/Corefile" <<END
.:53 {
  bind $first_address
  errors
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $state/access/admin.conf
    ttl 0
  }
}
END
  start dns 0 "$programs/dns" -conf "$state/Corefile"
}
