# Debian builds a program that needs no library (tests/image proves it); the image is that program.
FROM rust:1.95-slim-bookworm AS build
ARG PODWIRE_COMMIT=unknown
# Addresses to be corrected at the start are kept packed, a quarter of a megabyte less.
ENV RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs"
WORKDIR /src
COPY . .
# With a named target the flags stay away from build scripts and macros.
RUN cargo build --release --locked --bin podwire --target "$(rustc --print host-tuple)" --target-dir /out \
    && mv /out/*/release/podwire /podwire

FROM scratch
LABEL org.opencontainers.image.title="podwire" \
      org.opencontainers.image.description="Puts the shell of a Kubernetes container into a browser" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --chown=65532:65532 LICENSE NOTICE /
COPY --from=build --chown=65532:65532 /podwire /podwire
ENV PODWIRE_LISTEN=0.0.0.0:8080
EXPOSE 8080
USER 65532:65532
ENTRYPOINT ["/podwire"]
