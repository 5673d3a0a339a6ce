/* Exact sends and receives in the four ways in which programs wait for a stream socket. */
#pragma once

#include "common.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

/* BLOCK: recv() sleeps. POLL: poll(), then recv(). EPOLL: epoll_wait(), then recv() on a non-blocking
 * socket. SPIN: recv(MSG_DONTWAIT) until there is something. */
enum api { API_BLOCK, API_POLL, API_EPOLL, API_SPIN };

/* out: where sends go. plain: no socket but two pipes, which only read() and write() work on. */
struct stream {
    int fd, out, epoll;
    enum api api;
    int plain;
};

static inline enum api api_by_name(const char *name) {
    if (!strcmp(name, "block")) return API_BLOCK;
    if (!strcmp(name, "poll")) return API_POLL;
    if (!strcmp(name, "epoll")) return API_EPOLL;
    if (!strcmp(name, "spin")) return API_SPIN;
    die("unknown --api '%s'; use block, poll, epoll or spin", name);
}

static inline struct sockaddr_un address_of(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) die("socket path too long: %s", path);
    strcpy(address.sun_path, path);
    return address;
}

static inline int listen_on(const char *path) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = address_of(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 128))
        die("cannot listen on %s: %s", path, strerror(errno));
    return fd;
}

static inline int accept_on(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
        if (errno != EINTR) die("accept4: %s", strerror(errno));
    return fd;
}

static inline int connect_to(const char *path) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = address_of(path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
        die("cannot connect to %s: %s", path, strerror(errno));
    return fd;
}

static inline struct stream stream_open(int fd, enum api api) {
    struct stream s = {fd, fd, -1, api, 0};
    if (api == API_EPOLL) {
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK)) die("fcntl: %s", strerror(errno));
        s.epoll = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event interest = {.events = EPOLLIN, .data.fd = fd};
        if (s.epoll < 0 || epoll_ctl(s.epoll, EPOLL_CTL_ADD, fd, &interest))
            die("epoll: %s", strerror(errno));
    }
    return s;
}

static inline void stream_close(struct stream *s) {
    if (s->epoll >= 0) close(s->epoll);
    if (s->out != s->fd) close(s->out);
    close(s->fd);
}

/* Waits as the chosen interface does; returns when a receive is worth trying. */
static inline void wait_readable(struct stream *s) {
    if (s->api == API_EPOLL) {
        struct epoll_event event;
        while (epoll_wait(s->epoll, &event, 1, -1) < 0)
            if (errno != EINTR) die("epoll_wait: %s", strerror(errno));
    } else if (s->api == API_POLL) {
        struct pollfd wanted = {.fd = s->fd, .events = POLLIN};
        while (poll(&wanted, 1, -1) < 0)
            if (errno != EINTR) die("poll: %s", strerror(errno));
    }
}

static inline void wait_writable(struct stream *s) {
    if (s->api != API_EPOLL) return;
    struct epoll_event interest = {.events = EPOLLOUT, .data.fd = s->fd}, event;
    if (epoll_ctl(s->epoll, EPOLL_CTL_MOD, s->fd, &interest)) die("epoll_ctl: %s", strerror(errno));
    while (epoll_wait(s->epoll, &event, 1, -1) < 0)
        if (errno != EINTR) die("epoll_wait: %s", strerror(errno));
    interest.events = EPOLLIN;
    if (epoll_ctl(s->epoll, EPOLL_CTL_MOD, s->fd, &interest)) die("epoll_ctl: %s", strerror(errno));
}

/* Takes what is there, at most `room` bytes. Returns 0 at the end of the stream. */
static inline size_t receive_some(struct stream *s, void *into, size_t room) {
    for (;;) {
        wait_readable(s);
        ssize_t got = s->plain ? read(s->fd, into, room)
                               : recv(s->fd, into, room, s->api == API_SPIN ? MSG_DONTWAIT : 0);
        if (got >= 0) return (size_t)got;
        if (errno != EINTR && errno != EAGAIN) die("recv: %s", strerror(errno));
        if (s->api == API_SPIN) cpu_pause();
    }
}

/* Takes exactly `size` bytes. Returns 0 if the stream ended before the first of them. */
static inline int receive(struct stream *s, void *into, size_t size) {
    for (size_t have = 0; have < size;) {
        size_t got = receive_some(s, (char *)into + have, size - have);
        if (!got) {
            if (have) die("the stream ended after %zu of %zu bytes", have, size);
            return 0;
        }
        have += got;
    }
    return 1;
}

static inline void must_receive(struct stream *s, void *into, size_t size) {
    if (!receive(s, into, size)) die("the peer closed the connection too early");
}

static inline void send_all(struct stream *s, const void *from, size_t size) {
    int flags = MSG_NOSIGNAL | (s->api == API_SPIN ? MSG_DONTWAIT : 0);
    for (size_t done = 0; done < size;) {
        ssize_t sent = s->plain ? write(s->out, (const char *)from + done, size - done)
                                : send(s->fd, (const char *)from + done, size - done, flags);
        if (sent >= 0) {
            done += (size_t)sent;
        } else if (errno == EAGAIN) {
            wait_writable(s);
        } else if (errno != EINTR) {
            die("send: %s", strerror(errno));
        }
    }
}

/* One round trip of at least 8 bytes. The number in the first of them proves that the answer is this request's. */
static inline void trip(struct stream *s, char *buffer, size_t size, uint64_t number) {
    uint64_t answer;
    memcpy(buffer, &number, sizeof number);
    send_all(s, buffer, size);
    must_receive(s, buffer, size);
    memcpy(&answer, buffer, sizeof answer);
    if (answer != number) die("answer %llu to request %llu", BIG(answer), BIG(number));
}
