# Builds the programs of the test cluster from Go modules, and images without a registry. Sourced, not run.
# shellcheck shell=bash

# Kubernetes, CoreDNS, Helm and kubectl, and the image that holds a pod. Does nothing when nothing has changed.
build() {
  install_packages
  find_go
  mkdir -p "$programs"
  local log=$root/target/kubernetes/build.log version=k8s.io/component-base/version helm=helm.sh/helm/v3/pkg
  local flags="-s -w -X $version.gitVersion=$kubernetes_version -X $version.gitMajor=1 -X $version.gitMinor=34"
  # Which Kubernetes Helm takes a chart to be for when it asks none.
  flags+=" -X $helm/chartutil.k8sVersionMajor=1 -X $helm/chartutil.k8sVersionMinor=34"
  flags+=" -X $helm/lint/rules.k8sVersionMajor=1 -X $helm/lint/rules.k8sVersionMinor=34"
  if [ ! -x "$programs/kubernetes" ]; then say "building Kubernetes $kubernetes_version (the first time about 8 minutes on 2 cores; progress in $log)"; fi
  if ! (cd "$cluster" && CGO_ENABLED=0 nice go build -v -trimpath -o "$programs/" \
    -ldflags "$flags" \
    ./programs/kubernetes ./programs/dns helm.sh/helm/v3/cmd/helm k8s.io/kubernetes/cmd/kubectl) >"$log" 2>&1; then
    say "the build failed; the end of $log:"
    tail -15 "$log" >&2
    return 1
  fi
  if [ ! -f "$programs/pause.tar" ] || [ "$cluster/programs/pause/pause.c" -nt "$programs/pause.tar" ]; then
    mkdir -p "$programs/pause"
    cc -static -Os -o "$programs/pause/pause" "$cluster/programs/pause/pause.c"
    printf 'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n' >"$programs/pause/Dockerfile"
    REGISTRY="" "$root/scripts/image.sh" "$pause_image" "$programs/pause.tar" "$programs/pause"
  fi
}

# Gives an archive of images to every node.
load() {
  local archive directory
  for archive in "$@"; do
    for directory in "$state"/node*; do
      ctr --address "$directory/containerd.sock" --namespace k8s.io images import "$archive" >/dev/null
    done
  done
}
