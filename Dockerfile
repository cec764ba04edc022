# What make image makes, by way of a container engine: the same files, user and entry point. make image needs no engine, and is the one
# whose bytes are the same twice.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY . .
ARG TARGETARCH=amd64
RUN go -C cmd/image run . -C ../.. -platform linux/$TARGETARCH -root /rootfs

FROM scratch
COPY --from=build /rootfs/ /
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/function"]
