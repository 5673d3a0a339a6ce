// modes: process
// accelerated: 12
/* Workers forked before the first connection accept from one listener. */
#include "snippet.h"

int main(void)
{
    sn_open_logs();
    int listener = sn_listen(sn_path(), 32);
    pid_t worker[3];
    for (int w = 0; w < 3; w++) {
        worker[w] = OK(fork());
        if (worker[w]) continue;
        for (;;) {
            char b[16];
            long n;
            int fd = accept(listener, NULL, NULL);
            while ((n = recv(fd, b, 16, 0)) > 0) send_all(fd, b, n);
            close(fd);
        }
    }
    for (int round = 0; round < 2; round++) {
        int fd[6];
        char b[16];
        for (int i = 0; i < (round ? 6 : 3); i++) fd[i] = sn_connect(sn_path());
        if (!round)                                     /* all three at once */
            for (int k = 0; k < 100; k++)
                for (int i = 0; i < 3; i++) {
                    fill(b, 16, k * i);
                    send_all(fd[i], b, 16);
                    CHECK(recv_all(fd[i], b, 16) == 16 && good(b, 16, k * i));
                }
        for (int i = 0; i < 3; i++) if (!round) close(fd[i]);
        if (round)                                      /* one after another; the last three wait in the backlog */
            for (int i = 0; i < 6; i++) {
                for (int k = 0; k < 60; k++) {
                    fill(b, 16, k);
                    send_all(fd[i], b, 16);
                    CHECK(recv_all(fd[i], b, 16) == 16 && good(b, 16, k));
                }
                close(fd[i]);
            }
    }
    for (int i = 0; i < 3; i++) {
        char b[16];
        int fd = sn_connect(sn_path());
        for (int k = 0; k < 60; k++) {
            send_all(fd, "a short message!", 16);
            CHECK(recv_all(fd, b, 16) == 16);
        }
        close(fd);
    }
    for (int w = 0; w < 3; w++) {
        kill(worker[w], SIGKILL);
        waitpid(worker[w], NULL, 0);
    }
    say("done");
    sn_print_logs();
    return 0;
}
