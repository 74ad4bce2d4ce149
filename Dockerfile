# The program needs no library (tests/image proves it), because it has musl in it; the image is that
# program.
FROM rust:1.95-slim-bookworm AS build
ARG PODWIRE_COMMIT=unknown
# Addresses to be corrected at the start are kept packed, a tenth of a megabyte less.
ENV RUSTFLAGS="-C link-arg=-Wl,-z,pack-relative-relocs"
# What is compiled of C needs nothing of a C library, so that Debian's compiler does.
ENV TARGET_CC=gcc
WORKDIR /src
COPY . .
RUN rustup target add "$(uname -m)-unknown-linux-musl" \
    && cargo build --release --locked --bin podwire --target "$(uname -m)-unknown-linux-musl" --target-dir /out \
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
