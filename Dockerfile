# Two images of static programs and nothing else: `glint`, with master, server and operator, and `examples`, with training
# programs and their text. `make images` builds the programs, gathers them as the context, and builds both.

FROM scratch AS examples
COPY lda logistic steady reuters.ldac reuters.tokens /
USER 65532:65532
ENTRYPOINT ["/lda"]
CMD ["--help"]

FROM scratch AS glint
COPY glint glint-operator /
USER 65532:65532
ENTRYPOINT ["/glint"]
CMD ["--help"]
