/* The stream drivers' connection over something else than a Unix-domain socket, to stand beside it: TCP over loopback, or
 * two pipes. What the server makes shows that it is ready: the file PATH with the port, or the pipe PATH.answers. */
#pragma once

#include "stream_io.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>

enum over { OVER_UNIX, OVER_TCP, OVER_PIPE };

static inline enum over over_by_name(const char *name) {
    if (!strcmp(name, "unix")) return OVER_UNIX;
    if (!strcmp(name, "tcp")) return OVER_TCP;
    if (!strcmp(name, "pipe")) return OVER_PIPE;
    die("unknown --over '%s'; use unix, tcp or pipe", name);
}

static inline void name_of(char *name, size_t room, const char *path, const char *end) {
    if ((size_t)snprintf(name, room, "%s%s", path, end) >= room) die("path too long: %s", path);
}

static inline struct stream tcp_stream(int fd, enum api api) {
    int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on)) die("TCP_NODELAY: %s", strerror(errno));
    return stream_open(fd, api);
}

static inline struct stream tcp_serve(const char *path, enum api api) {
    char part[256];
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&address, &size))
        die("cannot listen on 127.0.0.1: %s", strerror(errno));
    name_of(part, sizeof part, path, ".part");
    FILE *port = fopen(part, "w");
    if (!port || fprintf(port, "%d\n", ntohs(address.sin_port)) < 0 || fclose(port) || rename(part, path))
        die("cannot write %s: %s", path, strerror(errno));
    int fd = accept_on(listener);
    close(listener);
    return tcp_stream(fd, api);
}

static inline struct stream tcp_connect(const char *path, enum api api) {
    int port = 0, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FILE *from = fopen(path, "r");
    if (!from || fscanf(from, "%d", &port) != 1) die("no port in %s", path);
    fclose(from);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
        die("cannot connect to 127.0.0.1:%d: %s", port, strerror(errno));
    return tcp_stream(fd, api);
}

/* Opening a pipe waits for the other end, so both sides open the requests' first. */
static inline struct stream pipes(const char *path, int serves, enum api api) {
    char requests[256], answers[256];
    if (api != API_BLOCK) die("pipes are measured with --api block only");
    name_of(requests, sizeof requests, path, ".requests");
    name_of(answers, sizeof answers, path, ".answers");
    if (serves && (mkfifo(requests, 0600) || mkfifo(answers, 0600))) die("mkfifo: %s", strerror(errno));
    int first = open(requests, (serves ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
    int second = open(answers, (serves ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
    if (first < 0 || second < 0) die("cannot open the pipes of %s: %s", path, strerror(errno));
    return (struct stream){serves ? first : second, serves ? second : first, -1, api, 1};
}

/* The server's end of the one connection that it serves. */
static inline struct stream serve_over(enum over over, const char *path, enum api api) {
    if (over == OVER_TCP) return tcp_serve(path, api);
    if (over == OVER_PIPE) return pipes(path, 1, api);
    int listener = listen_on(path); /* stays open, as a server's does */
    return stream_open(accept_on(listener), api);
}

static inline struct stream connect_over(enum over over, const char *path, enum api api) {
    if (over == OVER_TCP) return tcp_connect(path, api);
    if (over == OVER_PIPE) return pipes(path, 0, api);
    return stream_open(connect_to(path), api);
}
