// modes: process
// accelerated: 3
/* A writer that ends by _exit(), exit() or SIGKILL right after its last write loses nothing. */
#include "snippet.h"

int main(void)
{
    static char b[60000];
    sn_open_logs();
    int listener = sn_listen(sn_path(), 16);
    for (int way = 0; way < 3; way++) {
        pid_t pid = fork();
        if (!pid) {
            int fd = sn_connect(sn_path());
            warm_up(fd, 0);
            fill(b, sizeof b, 0);
            send_all(fd, b, sizeof b);
            if (way == 0) _exit(0);
            if (way == 1) exit(0);
            raise(SIGKILL);
        }
        int fd = OK(accept(listener, NULL, NULL));
        warm_up(fd, 1);
        int status;
        OK(waitpid(pid, &status, 0));
        say("way %d status %#x", way, status);
        show_poll("dead peer", fd, ALL_EVENTS, 0);
        memset(b, 0, sizeof b);
        long n = recv_all(fd, b, sizeof b);
        say("%ld bytes, good %d", n, good(b, n, 0));
        SHOW(recv(fd, b, 10, 0));
        show_poll("dead peer, all read", fd, ALL_EVENTS, 0);
        SHOW(send(fd, b, 10, MSG_NOSIGNAL));
        close(fd);
    }
    close(listener);
    sn_print_logs();
    return 0;
}
