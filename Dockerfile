# The image holds the binary, the libraries it needs and nothing to log in with.
#   docker build -t pgweir .
#   docker run --security-opt seccomp=conf/seccomp.json -e DATABASE_URL=... -e REPLICA_URLS=... -p 6432:6432 pgweir
ARG BASE=debian:trixie-slim

FROM ${BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
        gcc make pkg-config libc6-dev liburing-dev libssl-dev libpq-dev libinih-dev libidn-dev libjansson-dev
WORKDIR /src
COPY . .
RUN make -s build/pgweir \
    && install -D -s build/pgweir /out/usr/bin/pgweir \
    && install -D -m 644 LICENSE /out/usr/share/doc/pgweir/copyright \
    && build/pgweir --print-sample > /out/usr/share/doc/pgweir/pgweir.ini

FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends \
        liburing2 libssl3t64 libpq5 libinih1 libidn12 libjansson4 ca-certificates \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/* /var/cache/debconf/*-old
COPY --from=build /out /
RUN install -d -o 65532 -g 65532 /run/pgweir
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="pgweir" \
      org.opencontainers.image.description="One endpoint in front of a PostgreSQL primary and its replicas" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
USER 65532:65532
EXPOSE 6432
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s --retries=3 CMD ["/usr/bin/pgweir", "health"]
# Configured by PGWEIR_*, DATABASE_URL and REPLICA_URLS, or by an /etc/pgweir/pgweir.ini that is mounted.
ENTRYPOINT ["/usr/bin/pgweir"]
