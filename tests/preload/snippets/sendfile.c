// accelerated: any
/* sendfile from a file, splice both ways through a pipe, tee, copy_file_range: the stream stays in order. */
#include "snippet.h"
#include <sys/sendfile.h>
#define SIZE 300000

static void server(int fd)
{
    char *b = malloc(3 * SIZE);
    barrier();
    size_t n = recv_all(fd, b, 8 + SIZE + 8);
    say("%zu good %d", n, good(b, n, 0));
    /* out of the socket by splice */
    int p[2];
    OK(pipe(p));
    size_t got = 0;
    while (got < 20000) {
        long r = OK(splice(fd, NULL, p[1], NULL, 20000 - got, 0));
        if (!r) break;
        got += OK(read(p[0], b + got, r));
    }
    say("spliced %zu good %d", got, good(b, got, 1000));
    SHOW(splice(fd, NULL, p[1], NULL, 100, SPLICE_F_NONBLOCK));
    SHOW(tee(fd, p[1], 10, 0));
    barrier();
    n = recv_all(fd, b, 20000);
    say("from the pipe %zu good %d", n, good(b, n, 5000));
    barrier();
    SHOW(recv(fd, b, 10, 0));
    close(fd);
    free(b);
}

static void client(int fd)
{
    char *b = malloc(SIZE);
    int file = OK(memfd_create("data", 0)), p[2];
    off_t at = 0;
    fill(b, SIZE, 8);
    OK(write(file, b, SIZE));
    barrier();
    fill(b, 8, 0);
    OK(send(fd, b, 8, 0));
    size_t done = 0;
    while (done < SIZE) {
        long r = OK(sendfile(fd, file, &at, SIZE - done));
        if (!r) break;
        done += r;
    }
    say("sendfile %zu, offset %ld", done, (long)at);
    fill(b, 8, 8 + SIZE);
    OK(send(fd, b, 8, 0));
    fill(b, 20000, 1000);
    OK(send(fd, b, 20000, 0));
    barrier();
    OK(pipe(p));
    fill(b, 20000, 5000);
    OK(write(p[1], b, 20000));
    for (done = 0; done < 20000;)
        done += OK(splice(p[0], NULL, fd, NULL, 20000 - done, 0));
    say("splice %zu", done);
    at = 0;
    loff_t from = 0;
    SHOW(copy_file_range(file, &from, fd, NULL, 100, 0));
    barrier();
    close(fd);
    free(b);
}

int main(void) { return sn_run(server, client); }
