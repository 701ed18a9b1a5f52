#!/usr/bin/env bash
# Builds one image with docker, podman or buildah, whichever works here, and writes it into an archive; no registry takes
# part unless one is named:  image.sh NAME ARCHIVE CONTEXT [TARGET]
# The Dockerfile is CONTEXT/Dockerfile; TARGET is one of its stages, the last unless said.
# REGISTRY=HOST/PATH also pushes it, as HOST/PATH/NAME.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1 archive=$2 context=$3 target=${4:-}
stage=(${target:+--target "$target"})
rm -f "$archive"

# A name without a host is one of docker.io's: that is how Kubernetes reads it, while podman calls it localhost/NAME.
case "$name" in
  */*) full=$name ;;
  *) full=docker.io/library/$name ;;
esac
remote=${REGISTRY:+${REGISTRY%/}/$name}

if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
  docker build --quiet --tag "$name" "${stage[@]}" "$context" >/dev/null
  docker save --output "$archive" "$name"
  if [ -n "$remote" ]; then
    docker tag "$name" "$remote"
    docker push --quiet "$remote" >/dev/null
  fi
elif command -v podman >/dev/null && podman info >/dev/null 2>&1; then
  podman build --quiet --tag "$full" "${stage[@]}" "$context" >/dev/null
  podman save --quiet --format docker-archive --output "$archive" "$full"
  if [ -n "$remote" ]; then podman push --quiet "$full" "docker://$remote"; fi
elif command -v buildah >/dev/null; then
  # Its storage is of this build alone, and copies whole files: that works in containers and without a daemon.
  store=$(mktemp -d target/buildah.XXXXXX)
  trap 'rm -rf "$store"' EXIT
  buildah() { command buildah --storage-driver vfs --root "$PWD/$store/root" --runroot "$PWD/$store/run" "$@"; }
  buildah build --isolation chroot --quiet --tag "$full" "${stage[@]}" "$context" >/dev/null
  buildah push --quiet "$full" "docker-archive:$archive:$full"
  if [ -n "$remote" ]; then buildah push --quiet "$full" "docker://$remote"; fi
else
  echo "error: no docker, podman or buildah works here; install one, such as Debian's buildah (apt-get install buildah)" >&2
  exit 1
fi
if [ -n "$remote" ]; then echo "pushed $remote"; fi
