/* Two ends take turns over one connection: turns listen|connect PATH FIRST, where FIRST says who speaks first. Each
 * turn is up to 300 kB of a known stream; the end prints the bytes that it has seen right. */
#include "../snippets/snippet.h"

int main(int argc, char **argv)
{
    static char b[300000];
    int listens, fd, turns = 80;
    unsigned seed = 9;                                  /* both ends draw the same sizes */
    uint64_t at = 0;
    if (argc != 4) return 2;
    sn_open_logs();
    signal(SIGTERM, SIG_DFL);
    listens = !strcmp(argv[1], "listen");
    if (listens) fd = OK(accept(sn_listen(argv[2], 4), NULL, NULL));
    else fd = sn_connect(argv[2]);
    int mine = strcmp(argv[1], argv[3]) != 0;           /* speak in even turns if I am first */
    for (int i = 0; i < turns; i++) {
        size_t n = 1 + rand_r(&seed) % (i % 10 ? 3000 : sizeof b);
        if (i % 2 == mine) {
            fill(b, n, at);
            send_all(fd, b, n);
        } else {
            size_t got = recv_all(fd, b, n);
            if (got != n || !good(b, n, at)) { printf("turn %d: %zu of %zu\n", i, got, n); return 1; }
        }
        at += n;
    }
    if (listens) shutdown(fd, SHUT_WR);
    long rest = recv(fd, b, 1, 0);
    printf("%llu bytes, then %ld\n", (unsigned long long)at, rest);
    return 0;
}
