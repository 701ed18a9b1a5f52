#!/usr/bin/env bash
# Builds the images of the Dockerfile, and archives of them; no registry takes part unless one is named:
#   images.sh [glint] [examples]     both unless said
# REGISTRY=HOST/PATH also pushes them there, as HOST/PATH/glint and HOST/PATH/glint-examples, with the credentials that docker,
# podman or buildah have.
# PROFILE=dev builds faster and runs slower. The programs are static, so an image has nothing else in it.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/require.sh cargo

profile=${PROFILE:-release}
tag=${TAG:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)}
platform=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-target}
out=$target/images
programs=$target/$platform/$([ "$profile" = dev ] && echo debug || echo "$profile")
most=60
images=("$@")
if [ $# = 0 ]; then images=(glint examples); fi

# compile ARGUMENTS…: with glibc inside, which needs the platform named: else build scripts would be static too.
compile() {
  RUSTFLAGS="-C target-feature=+crt-static" CARGO_INCREMENTAL=0 \
    "${CARGO:-cargo}" build --profile "$profile" --target "$platform" "$@"
}

# A context of its own per image, with the programs stripped of what only a debugger reads.
for image in "${images[@]}"; do
  context=$out/$image
  rm -rf "$context"
  mkdir -p "$context"
  case "$image" in
    glint)
      compile -p glint-server --bin glint -p glint-operator --bin glint-operator
      strip -o "$context/glint" "$programs/glint"
      strip -o "$context/glint-operator" "$programs/glint-operator"
      ;;
    examples)
      scripts/require.sh python3
      python3 scripts/corpora/reuters.py
      compile -p glint-client --example lda --example logistic --example steady
      for program in lda logistic steady; do strip -o "$context/$program" "$programs/examples/$program"; done
      cp "$target"/data/reuters.{ldac,tokens} "$context"
      ;;
    *) echo "error: no image '$image'; there are: glint examples" >&2; exit 2 ;;
  esac
  cp Dockerfile "$context"
  name=glint:$tag
  if [ "$image" != glint ]; then name=glint-$image:$tag; fi
  scripts/image.sh "$name" "$out/$image.tar" "$context" "$image"
  size=$(du -m "$out/$image.tar" | cut -f1)
  echo "$name: $size MB, also in $out/$image.tar"
  # Every machine of a Kubernetes cluster fetches it.
  if [ "$image" = glint ] && [ "$size" -ge $most ]; then
    echo "error: the image $name has $size MB, and may have less than $most" >&2
    exit 1
  fi
done
