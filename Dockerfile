# pgmove with the client tools that it runs, as an ordinary user. `docker build .` compiles it, and needs the images
# named below; Dockerfile.prebuilt takes a program that was built elsewhere.
# pg_dump must be at least as new as both servers. Debian 13 has major version 17; for another one, name a BASE whose
# apt-get brings postgresql-client-$CLIENT.

ARG BASE=debian:trixie-slim
ARG RUST=rust:1-trixie

FROM $BASE AS runtime
ARG CLIENT=17
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends ca-certificates postgresql-client-$CLIENT \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --create-home --home-dir /var/lib/pgmove pgmove
# Debian's /usr/bin/pg_dump is a script that chooses among installed versions; here it is known which one.
ENV PGMOVE_CLIENT_DIRECTORY=/usr/lib/postgresql/$CLIENT/bin LANG=C.UTF-8
# By number, so that Kubernetes can tell that it is not root. Plan and journal of a run are kept in the working directory.
USER 10001:10001
WORKDIR /var/lib/pgmove
ENTRYPOINT ["pgmove"]
CMD ["--help"]

FROM $RUST AS compiled
WORKDIR /source
COPY . .
RUN cargo build --locked --release --package pgmove --bin pgmove

FROM runtime
COPY --from=compiled /source/target/release/pgmove /usr/local/bin/pgmove
