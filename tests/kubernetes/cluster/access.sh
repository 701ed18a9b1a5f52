# Certificates, and the files by which components and people reach the API server. Sourced, not run.
# shellcheck shell=bash

# certificate NAME SUBJECT [ALTERNATIVE NAMES]: a key and a certificate that the cluster's own authority signs.
certificate() {
  local extension="basicConstraints=CA:FALSE"
  if [ $# -gt 2 ]; then extension="subjectAltName=$3"; fi
  openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -out "$1.crt" \
    -extfile <(echo "$extension") 2>/dev/null
}

# access NAME: the file with which NAME, whose certificate is there, talks to the API server.
access() {
  cat >"$state/access/$1.conf" <<END
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://$first_address:6443", certificate-authority: $state/keys/ca.crt}}]
users: [{name: $1, user: {client-certificate: $state/keys/$1.crt, client-key: $state/keys/$1.key}}]
contexts: [{name: test, context: {cluster: test, user: $1}}]
current-context: test
END
}

make_access() {
  cd "$state/keys"
  openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 365 -subj /CN=glint-test 2>/dev/null
  openssl genrsa -out accounts.key 2048 2>/dev/null
  openssl rsa -in accounts.key -pubout -out accounts.pub 2>/dev/null
  certificate apiserver /CN=kube-apiserver \
    "IP:127.0.0.1,IP:$first_address,IP:10.96.0.1,DNS:kubernetes.default.svc,DNS:localhost"
  certificate to-kubelet "/O=system:masters/CN=apiserver"
  certificate admin "/O=system:masters/CN=admin"
  certificate controllers "/CN=system:kube-controller-manager"
  certificate scheduler "/CN=system:kube-scheduler"
  certificate proxy "/CN=system:kube-proxy"
  cd "$root"
  local who
  for who in admin controllers scheduler proxy; do access $who; done
}
