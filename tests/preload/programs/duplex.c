/* Sends and receives a known byte stream both ways for ever, so that either side can be killed at any moment.
 *
 * duplex listen|connect|keep PATH LEDGER SLOT STYLE SEED
 *
 * STYLE: threads (a blocking reader and a blocking writer), epoll (one non-blocking loop) or epoll-edge. `keep` is a
 * server that serves any number of connections, a thread each, until it is killed. What a side has done is in its slot of the ledger, a file that
 * both map: it survives the process, so a killed side's last word is known. The side that is not killed ends when both its directions
 * have ended, with status 0 if every byte that it received was the right one.
 */
#include "../snippets/snippet.h"

struct slot {
    volatile uint64_t connected;
    volatile uint64_t sent;                 /* bytes that send() has taken */
    volatile uint64_t tried;                /* the most that can have gone out: sent, and the call in progress */
    volatile uint64_t received;
    volatile int64_t receive_end;           /* 1: the end of the stream; negative: -errno */
    volatile int64_t send_end;              /* negative: -errno */
    volatile uint64_t wrong_at;             /* position + 1 of the first wrong byte */
    volatile uint64_t served;               /* keep: connections that have ended */
};

struct side { int fd; unsigned seed; struct slot *slot; };

static size_t draw(unsigned *seed)
{
    unsigned kind = rand_r(seed) % 8;
    return 1 + rand_r(seed) % (kind < 4 ? 64 : kind < 7 ? 9000 : 300000);
}

static void check(struct slot *s, const char *b, long n)
{
    for (long i = 0; i < n && !s->wrong_at; i++)
        if ((unsigned char)b[i] != pattern(s->received + i)) {
            s->wrong_at = s->received + i + 1;
            fprintf(stderr, "wrong at %llu of a recv of %ld bytes at %llu: %02x %02x %02x %02x, expected %02x %02x %02x %02x\n",
                    (unsigned long long)s->wrong_at - 1, n, (unsigned long long)s->received, b[i] & 255, b[i + 1] & 255,
                    b[i + 2] & 255, b[i + 3] & 255, pattern(s->received + i), pattern(s->received + i + 1),
                    pattern(s->received + i + 2), pattern(s->received + i + 3));
        }
    s->received += n;
}

static void *write_on(void *arg)
{
    struct side *me = arg;
    char *b = malloc(300001);
    for (;;) {
        size_t n = draw(&me->seed);
        fill(b, n, me->slot->sent);
        me->slot->tried = me->slot->sent + n;
        long r = send(me->fd, b, n, MSG_NOSIGNAL);
        if (r < 0) { me->slot->send_end = -errno; break; }
        me->slot->sent += r;
    }
    free(b);
    return NULL;
}

static void threads(struct side *me)
{
    pthread_t t;
    struct side other = {me->fd, me->seed * 7 + 1, me->slot};
    char *b = malloc(300001);
    long n;
    pthread_create(&t, NULL, write_on, &other);
    while ((n = recv(me->fd, b, draw(&me->seed), 0)) > 0) check(me->slot, b, n);
    me->slot->receive_end = n ? -errno : 1;
    pthread_join(t, NULL);
    free(b);
}

static void loop(struct side *me, unsigned edge)
{
    int ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {EPOLLIN | EPOLLOUT | edge, {0}};
    char *b = malloc(300001);
    fcntl(me->fd, F_SETFL, O_NONBLOCK);
    epoll_ctl(ep, EPOLL_CTL_ADD, me->fd, &e);
    while (!me->slot->receive_end || !me->slot->send_end) {
        if (epoll_wait(ep, &e, 1, 15000) != 1) { me->slot->receive_end = -ETIME; break; }
        for (int turn = 0; turn < (edge ? 1 << 30 : 4); turn++) {   /* edge-triggered: until both say EAGAIN */
            int busy = 0;
            if (!me->slot->send_end) {
                size_t n = draw(&me->seed);
                fill(b, n, me->slot->sent);
                me->slot->tried = me->slot->sent + n;
                long r = send(me->fd, b, n, MSG_NOSIGNAL);
                if (r >= 0) { me->slot->sent += r; busy = 1; }
                else if (errno != EAGAIN) me->slot->send_end = -errno;
            }
            if (!me->slot->receive_end) {
                long r = recv(me->fd, b, draw(&me->seed), 0);
                if (r > 0) { check(me->slot, b, r); busy = 1; }
                else if (r == 0) me->slot->receive_end = 1;
                else if (errno != EAGAIN) me->slot->receive_end = -errno;
            }
            if (!busy) break;
        }
    }
    close(ep);
    free(b);
}

static void talk(struct side *me, const char *style)
{
    me->slot->connected = 1;
    if (!strcmp(style, "threads")) threads(me);
    else loop(me, !strcmp(style, "epoll-edge") ? EPOLLET : 0);
    close(me->fd);
}

static struct slot *ledger;
static const char *styles[] = {"threads", "epoll", "epoll-edge"};

static void *keep_one(void *fd)
{
    struct slot own = {0};
    struct side me = {(int)(intptr_t)fd, (unsigned)(intptr_t)fd + 1, &own};
    talk(&me, styles[(intptr_t)fd % 3]);
    if (own.wrong_at) ledger->wrong_at = own.wrong_at;
    __atomic_fetch_add(&ledger->served, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 7) return 2;
    int file = open(argv[3], O_RDWR | O_CLOEXEC), fd;
    struct slot *all = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file < 0 || all == MAP_FAILED) return 3;
    close(file);
    ledger = all + atoi(argv[4]);
    memset(ledger, 0, sizeof *ledger);
    sn_open_logs();
    signal(SIGTERM, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    if (!strcmp(argv[1], "connect")) {
        struct sockaddr_un a;
        socklen_t n = sn_address(&a, argv[2]);
        fd = OK(socket(AF_UNIX, SOCK_STREAM, 0));
        while (connect(fd, (struct sockaddr *)&a, n)) {     /* bound, but not listening yet */
            if (errno != ECONNREFUSED) return 6;
            pause_ms(1);
        }
    } else {
        int listener = sn_listen(argv[2], 64);
        if (!strcmp(argv[1], "keep"))
            for (;;) {
                pthread_t t;
                if ((fd = accept(listener, NULL, NULL)) < 0) return 4;
                if (pthread_create(&t, NULL, keep_one, (void *)(intptr_t)fd)) return 5;
                pthread_detach(t);
            }
        fd = OK(accept(listener, NULL, NULL));
        close(listener);
    }
    struct side me = {fd, (unsigned)atoi(argv[6]), ledger};
    talk(&me, argv[5]);
    return ledger->wrong_at ? 1 : 0;
}
