/* Every call that writes, against every call that reads. */
#include "snippet.h"

enum { WRITE, SEND, SENDTO, SENDMSG, WRITEV, SENDMMSG, KINDS };
enum { READ, RECV, RECVFROM, RECVMSG, READV, RECVMMSG };

static long put(int kind, int fd, char *b, size_t n)
{
    struct iovec v[3] = {{b, n / 3}, {b + n / 3, n / 3}, {b + n / 3 * 2, n - n / 3 * 2}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 3};
    struct mmsghdr mm[2] = {{.msg_hdr = {.msg_iov = v, .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = v + 1, .msg_iovlen = 2}}};
    switch (kind) {
    case WRITE: return write(fd, b, n);
    case SEND: return send(fd, b, n, 0);
    case SENDTO: return sendto(fd, b, n, MSG_NOSIGNAL, NULL, 0);
    case SENDMSG: return sendmsg(fd, &m, 0);
    case WRITEV: return writev(fd, v, 3);
    default:
        if (sendmmsg(fd, mm, 2, 0) != 2) return -1;
        return mm[0].msg_len + mm[1].msg_len;
    }
}

static long get(int kind, int fd, char *b, size_t n)
{
    struct iovec v[2] = {{b, n / 2}, {b + n / 2, n - n / 2}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
    struct mmsghdr mm[1] = {{.msg_hdr = m}};
    struct sockaddr_un from;
    socklen_t length = sizeof from;
    switch (kind) {
    case READ: return read(fd, b, n);
    case RECV: return recv(fd, b, n, 0);
    case RECVFROM: return recvfrom(fd, b, n, 0, (struct sockaddr *)&from, &length);
    case RECVMSG: return recvmsg(fd, &m, 0);
    case READV: return readv(fd, v, 2);
    default: return recvmmsg(fd, mm, 1, 0, NULL) == 1 ? (long)mm[0].msg_len : -1;
    }
}

static const size_t sizes[] = {1, 7, 100, 4096, 30000};

static void server(int fd)
{
    char *b = malloc(30000);
    uint64_t at = 0;
    for (int r = 0; r < KINDS; r++)
        for (int w = 0; w < KINDS; w++)
            for (int s = 0; s < 5; s++) {
                barrier();              /* all of it is there: one call must get it */
                long n = get(r, fd, b, sizes[s]);
                CHECK(n == (long)sizes[s]);
                CHECK(good(b, sizes[s], at));
                if (n < 0) say("read kind %d write kind %d size %zu: %s", r, w, sizes[s], err_name(errno));
                at += sizes[s];
            }
    say("%llu bytes", (unsigned long long)at);
    SHOW(get(READ, fd, b, 10));         /* the client has closed */
    SHOW(get(RECVMSG, fd, b, 10));
    SHOW(get(READV, fd, b, 10));
    close(fd);
    free(b);
}

static void client(int fd)
{
    char *b = malloc(30000);
    uint64_t at = 0;
    for (int r = 0; r < KINDS; r++)
        for (int w = 0; w < KINDS; w++)
            for (int s = 0; s < 5; s++) {
                fill(b, sizes[s], at);
                long n = put(w, fd, b, sizes[s]);
                CHECK(n == (long)sizes[s]);
                at += sizes[s];
                barrier();
            }
    close(fd);
    free(b);
}

int main(void) { return sn_run(server, client); }
