// modes: process
// accelerated: any
/* inetd's way: the connection becomes descriptors 0 and 1 of cat, of a shell that echoes, and of a stdio program. */
#include "snippet.h"

static void serve(int fd, char **argv)
{
    pid_t pid = OK(fork());
    if (!pid) {
        dup2(fd, 0);
        dup2(fd, 1);
        close(fd);
        close(sn_pipe[0][1]);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(fd);
    int status;
    OK(waitpid(pid, &status, 0));
    say("%s %#x", argv[0], status);
}

static void *talk(void *unused)
{
    (void)unused;
    for (int i = 0; i < 4; i++) {
        static char out[3000], in[4000];
        memset(in, 0, sizeof in);
        int fd = sn_connect(sn_path());
        warm_up(fd, 0);
        for (int k = 0; k < 3000; k++) out[k] = k % 60 == 59 ? '\n' : 'a' + k % 26;
        OK(send(fd, out, 3000, 0));
        OK(shutdown(fd, SHUT_WR));
        size_t n = recv_all(fd, in, sizeof in);
        say("program %d: %zu bytes, the same %d, %.30s", i, n, n == 3000 && !memcmp(in, out, n), n < 100 ? in : "");
        close(fd);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    char line[1000], *programs[4][4] = {{"cat"}, {"sh", "-c", "read x; echo got $x; echo more; cat >/dev/null"},
                              {"bash", "-c", "read x; echo got $x; printf '%s\\n' more; cat >/dev/null"},
                              {argv[0], "stdio"}};
    if (argc > 1) {
        while (fgets(line, sizeof line, stdin)) fputs(line, stdout);
        return fflush(stdout) ? 1 : 7;
    }
    sn_open_logs();
    int listener = sn_listen(sn_path(), 16);
    pid_t pid = OK(fork());
    if (!pid) { sn_role = 1; talk(NULL); exit(0); }
    for (int i = 0; i < 4; i++) {
        int fd = OK(accept(listener, NULL, NULL));
        warm_up(fd, 1);
        serve(fd, programs[i]);
    }
    OK(waitpid(pid, NULL, 0));
    sn_print_logs();
    return 0;
}
