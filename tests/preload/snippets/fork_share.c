// modes: process
/* fork(): the child goes on while the parent closes; both write; the end comes with the last copy. */
#include "snippet.h"

static void server(int fd)
{
    char b[100];
    /* 1: the child serves, the parent has closed its copy */
    pid_t child = OK(fork());
    if (!child) {
        int sum = 0;
        for (int i = 0; i < 100; i++) {
            if (recv(fd, b, 5, MSG_WAITALL) != 5 || !good(b, 5, i * 5)) break;
            if (send(fd, b, 5, 0) != 5) break;
            sum++;
        }
        say("child served %d", sum);
        _exit(sum == 100 ? 0 : 1);
    }
    int status;
    OK(waitpid(child, &status, 0));
    say("child %#x", status);
    /* 2: the child has ended, the parent goes on with its copy */
    for (int i = 0; i < 50; i++) {
        CHECK(recv(fd, b, 5, MSG_WAITALL) == 5 && good(b, 5, i * 7));
        CHECK(send(fd, b, 5, 0) == 5);
    }
    barrier(); barrier();
    /* 3: both write 100-byte records; none is torn */
    child = OK(fork());
    for (int i = 0; i < 500; i++) {
        memset(b, child ? 'p' : 'c', 100);
        if (send(fd, b, 100, 0) != 100) break;
    }
    if (!child) _exit(0);
    OK(waitpid(child, &status, 0));
    say("child %#x", status);
    barrier(); barrier();
    /* 4: a grandchild keeps the connection open for a while after all others have closed */
    child = OK(fork());
    if (!child) {
        if (fork()) _exit(0);
        close(sn_pipe[0][1]);
        pause_ms(150);
        send(fd, "from the grandchild", 19, 0);
        _exit(0);
    }
    OK(waitpid(child, &status, 0));
    close(fd);
}

static void client(int fd)
{
    static char b[200];
    for (int i = 0; i < 100; i++) {
        fill(b, 5, i * 5);
        OK(send(fd, b, 5, 0));
        CHECK(recv(fd, b, 5, MSG_WAITALL) == 5 && good(b, 5, i * 5));
    }
    for (int i = 0; i < 50; i++) {
        fill(b, 5, i * 7);
        OK(send(fd, b, 5, 0));
        CHECK(recv(fd, b, 5, MSG_WAITALL) == 5 && good(b, 5, i * 7));
    }
    barrier(); barrier();
    int p = 0, c = 0, torn = 0;
    for (int i = 0; i < 1000; i++) {
        if (recv_all(fd, b, 100) != 100) { say("FAILED: end at %d", i); break; }
        for (int k = 1; k < 100; k++)
            if (b[k] != b[0]) { torn++; break; }
        p += b[0] == 'p';
        c += b[0] == 'c';
    }
    say("parent %d child %d torn %d", p, c, torn);
    barrier(); barrier();
    memset(b, 0, sizeof b);
    SHOW(recv(fd, b, 100, 0));
    say("%s", b);
    SHOW(recv(fd, b, 100, 0));
    close(fd);
}

int main(void) { return sn_run(server, client); }
