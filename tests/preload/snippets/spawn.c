// modes: process
// accelerated: 1+
/* system(), popen(), posix_spawn(), vfork() and a raw fork+exec beside a live connection, in mid-conversation. */
#include "snippet.h"
#include <spawn.h>
extern char **environ;

static void ping(int fd, int i)
{
    char b[8];
    fill(b, 8, i);
    OK(send(fd, b, 8, 0));
    CHECK(recv(fd, b, 8, MSG_WAITALL) == 8 && good(b, 8, i));
}

static void server(int fd)
{
    char b[8];
    long n = 0;
    while (recv(fd, b, 8, MSG_WAITALL) == 8 && send(fd, b, 8, 0) == 8) n++;
    say("answered %ld", n);
    close(fd);
}

static void client(int fd)
{
    int status;
    char line[100] = "", *argv[] = {"sh", "-c", "exit 5", NULL};
    OK(fcntl(fd, F_SETFD, 0));                          /* children inherit the connection */
    ping(fd, 1);
    SHOW(system("exit 3"));
    ping(fd, 2);
    SHOW(system("cat /dev/null; true | cat >/dev/null; exec 3>&1"));
    ping(fd, 3);
    FILE *p = popen("echo from popen; sleep 0.05", "r");
    ping(fd, 4);
    say("%s", fgets(line, sizeof line, p));
    ping(fd, 5);
    SHOW(pclose(p));
    pid_t pid;
    SHOW(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ));
    ping(fd, 6);
    OK(waitpid(pid, &status, 0));
    say("%#x", status);
    SHOW(posix_spawnp(&pid, "no-such-command-here", NULL, NULL, argv, environ));
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fd, 9);
    posix_spawn_file_actions_addclose(&actions, fd);
    SHOW(posix_spawn(&pid, "/bin/sh", &actions, NULL, argv, environ));
    OK(waitpid(pid, &status, 0));
    say("%#x", status);
    ping(fd, 7);
    pid = vfork();
    if (!pid) {
        execve("/bin/sh", argv, environ);
        _exit(1);
    }
    ping(fd, 8);
    OK(waitpid(pid, &status, 0));
    say("%#x", status);
    pid = vfork();
    if (!pid) {
        close(fd);
        execve("/no/such/file", argv, environ);
        _exit(44);
    }
    OK(waitpid(pid, &status, 0));
    say("%#x", status);
    ping(fd, 9);
    pid = OK(fork());
    if (!pid) {
        close(fd);
        execvp("true", (char *[]){"true", NULL});
        _exit(1);
    }
    ping(fd, 10);
    OK(waitpid(pid, &status, 0));
    say("%#x", status);
    ping(fd, 11);
    close(fd);
}

int main(void) { return sn_run(server, client); }
