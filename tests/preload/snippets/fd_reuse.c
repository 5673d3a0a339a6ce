// accelerated: 31
/* Numbers are used again: a file, a pipe, and new connections under the number of an old one; dup2 over a live one. Every
 * other close is a bare system call, as event loops make it. */
#include "snippet.h"

static void close_somehow(int fd, int bare)
{
    OK(bare ? syscall(SYS_close, fd) : close(fd));
}

static int answer(int listener)
{
    int fd = OK(accept(listener, NULL, NULL));
    warm_up(fd, 1);
    return fd;
}

static void *talk(void *unused)
{
    (void)unused;
    sn_role = 1;
    char b[10];
    for (int i = 0; i < 31; i++) {
        int fd = sn_connect(sn_path());
        warm_up(fd, 0);
        OK(send(fd, &i, sizeof i, 0));
        long n = recv(fd, b, 10, 0);                    /* the server's close */
        CHECK(n == 0);
        close_somehow(fd, i % 4 > 1);
    }
    return NULL;
}

int main(void)
{
    sn_open_logs();
    pthread_t t;
    pid_t pid = 0;
    int listener = sn_listen(sn_path(), 16);
    if (sn_mode_thread()) pthread_create(&t, NULL, talk, NULL);
    else if (!(pid = fork())) { talk(NULL); exit(0); }
    int first = answer(listener), x, p[2];
    OK(recv(first, &x, sizeof x, 0));
    close_somehow(first, 1);
    if (pid) {                                          /* with threads the other end's numbers come in between */
        int file = OK(open("/dev/zero", O_RDWR));
        say("the file has the old number: %d", file == first);
        char b[100] = "x";
        SHOW(read(file, b, 100));
        SHOW(write(file, b, 100));
        SHOW(send(file, b, 100, 0));
        SHOW(recv(file, b, 100, 0));
        close(file);
        OK(pipe(p));
        say("the pipe has the old number: %d", p[0] == first);
        SHOW(write(p[1], "pipe", 4));
        SHOW(read(p[0], b, 100));
        SHOW(recv(p[0], b, 100, 0));
        close(p[0]);
        close(p[1]);
    }
    for (int i = 1; i < 30; i++) {
        int fd = answer(listener);
        if (pid) CHECK(fd == first);
        OK(recv(fd, &x, sizeof x, MSG_WAITALL));
        CHECK(x == i);
        close_somehow(fd, i % 2);
    }
    int live = answer(listener), file = OK(open("/dev/zero", O_RDWR));
    OK(recv(live, &x, sizeof x, MSG_WAITALL));
    SHOW(dup2(file, live) == live);                     /* closes the connection: the client sees the end */
    char b[8] = "x";
    SHOW(read(live, b, 8));
    say("%d", b[0]);
    struct stat st;
    OK(fstat(live, &st));
    say("is a device %d", S_ISCHR(st.st_mode));
    if (pid) {
        int status;
        OK(waitpid(pid, &status, 0));
        say("client %#x", status);
    } else {
        pthread_join(t, NULL);
    }
    sn_print_logs();
    return 0;
}
