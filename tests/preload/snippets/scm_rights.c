// accelerated: any
/* Descriptors in flight: they arrive at their position in the stream, in one piece, or are dropped as the kernel does. */
#include "snippet.h"

static void put_fds(int fd, const char *text, int count, const int *fds)
{
    struct iovec v = {(void *)text, strlen(text)};
    union { struct cmsghdr h; char space[CMSG_SPACE(8 * sizeof(int))]; } c;
    memset(&c, 0, sizeof c);
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    *h = (struct cmsghdr){CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(h), fds, count * sizeof(int));
    SHOW(sendmsg(fd, &m, 0));
}

/* Receive up to `size` bytes with room for `room` descriptors; say what came, and what the descriptors hold. */
static int get_fds(int fd, size_t size, int room, int flags)
{
    char b[256] = "";
    struct iovec v = {b, size};
    union { struct cmsghdr h; char space[CMSG_SPACE(8 * sizeof(int))]; } c;
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = room ? &c : NULL,
                       .msg_controllen = room ? CMSG_SPACE(room * sizeof(int)) : 0};
    long n = recvmsg(fd, &m, flags);
    int count = 0, last = -1;
    for (struct cmsghdr *h = n >= 0 ? CMSG_FIRSTHDR(&m) : NULL; h; h = CMSG_NXTHDR(&m, h)) {
        say("control level %d type %d", h->cmsg_level, h->cmsg_type);
        int *fds = (int *)CMSG_DATA(h);
        for (count = 0; count < (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int)); count++) {
            char text[32] = "";
            pread(fds[count], text, 31, 0);
            say("  holds %s cloexec %d", text, fcntl(fds[count], F_GETFD));
            if (last >= 0) close(last);
            last = fds[count];
        }
    }
    int error = errno;
    say("%ld %s \"%.*s\" flags %#x, %d descriptors", n, n < 0 ? err_name(errno) : "", n > 0 ? (int)n : 0, b, n < 0 ? 0 : m.msg_flags, count);
    errno = n < 0 ? error : 0;
    return last;
}

static int file(const char *text)
{
    int fd = OK(memfd_create("carried", MFD_CLOEXEC));
    OK(write(fd, text, strlen(text)));
    return fd;
}

/* All that is there, piece by piece. */
static void get_all(int fd, size_t size, int room, int flags)
{
    for (int i = 0; i < 20; i++) {
        int last = get_fds(fd, size, room, flags | MSG_DONTWAIT), error = errno;
        if (last >= 0) close(last);
        if (error) break;
    }
}

static void server(int fd)
{
    char b[100];
    barrier();
    get_all(fd, 200, 8, 0);
    barrier(); barrier();
    get_all(fd, 200, 8, 0);                     /* marks end a piece */
    barrier(); barrier();
    get_all(fd, 4, 8, MSG_CMSG_CLOEXEC);        /* a buffer smaller than the message */
    barrier(); barrier();
    get_all(fd, 200, 1, 0);                     /* two descriptors came, room for one */
    barrier(); barrier();
    get_all(fd, 200, 0, 0);                     /* no room at all */
    barrier(); barrier();
    SHOW(recv(fd, b, 100, 0));                  /* plain recv over a mark */
    SHOW(recv(fd, b, 100, MSG_DONTWAIT));
    barrier(); barrier();
    close(get_fds(fd, 200, 8, MSG_PEEK));
    get_all(fd, 200, 8, 0);
    barrier();
    SHOW(recv(fd, b, 100, 0));                  /* the stream goes on as ever */
    SHOW(send(fd, "answer", 6, 0));
    barrier();
    close(fd);
}

static void client(int fd)
{
    int a = file("first"), b = file("second"), two[2] = {a, b};
    put_fds(fd, "one", 1, &a);
    barrier(); barrier();
    SHOW(send(fd, "before ", 7, 0));
    put_fds(fd, "marked", 2, two);
    SHOW(send(fd, " after", 6, 0));
    put_fds(fd, "again", 1, &b);
    SHOW(send(fd, " end", 4, 0));
    barrier(); barrier();
    put_fds(fd, "longer text", 1, &a);
    barrier(); barrier();
    put_fds(fd, "room for one", 2, two);
    barrier(); barrier();
    put_fds(fd, "no room", 2, two);
    barrier(); barrier();
    SHOW(send(fd, "plain", 5, 0));
    put_fds(fd, "dropped", 1, &a);
    barrier(); barrier();
    put_fds(fd, "peeked", 1, &b);
    barrier(); barrier();
    SHOW(send(fd, "on we go", 8, 0));
    char text[100];
    SHOW(recv(fd, text, 100, 0));
    barrier();
    close(fd);
}

int main(void) { return sn_run(server, client); }
