// modes: process
// accelerated: any
/* A server that spawns a program without the library on its connection, as descriptors 0 and 1. */
#include "snippet.h"
#include <spawn.h>

static void *talk(void *unused)
{
    (void)unused;
    static char out[3000], in[4000];
    int fd = sn_connect(sn_path());
    warm_up(fd, 0);
    for (int k = 0; k < 3000; k++) out[k] = k % 60 == 59 ? '\n' : 'a' + k % 26;
    OK(send(fd, out, 3000, 0));
    OK(shutdown(fd, SHUT_WR));
    size_t n = recv_all(fd, in, sizeof in);
    say("%zu bytes, the same %d", n, n == 3000 && !memcmp(in, out, n));
    close(fd);
    return NULL;
}

int main(void)
{
    sn_open_logs();
    int listener = sn_listen(sn_path(), 16), status;
    pid_t client = OK(fork());
    if (!client) { sn_role = 1; talk(NULL); exit(0); }
    int fd = OK(accept(listener, NULL, NULL));
    warm_up(fd, 1);
    pid_t child;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fd, 0);
    posix_spawn_file_actions_adddup2(&actions, fd, 1);
    OK(fcntl(fd, F_SETFD, FD_CLOEXEC));
    SHOW(posix_spawn(&child, "/bin/cat", &actions, NULL, (char *[]){"cat", NULL}, (char *[]){NULL}));
    posix_spawn_file_actions_destroy(&actions);
    close(fd);
    OK(waitpid(child, &status, 0));
    say("cat %#x", status);
    OK(waitpid(client, NULL, 0));
    sn_print_logs();
    return 0;
}
