// modes: process
// accelerated: 1+
/* inetd's way: a server hands a connection to a program, as its descriptors 0 and 1. The program has the library; or it has
 * not; or it has settings that the library can't use. */
#include "snippet.h"
#include <spawn.h>

enum way { FORKED, VFORKED, SPAWNED, BY_DESCRIPTOR };

static void serve(int fd, enum way way, char *const argv[], char *const environment[])
{
    pid_t child;
    int status, program = way == BY_DESCRIPTOR ? OK(open(argv[0], O_RDONLY | O_CLOEXEC)) : -1;
    if (way == SPAWNED) {
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, fd, 0);
        posix_spawn_file_actions_adddup2(&actions, fd, 1);
        OK(fcntl(fd, F_SETFD, FD_CLOEXEC));
        SHOW(posix_spawn(&child, argv[0], &actions, NULL, argv, environment));
        posix_spawn_file_actions_destroy(&actions);
    } else {
        child = way == VFORKED ? vfork() : fork();
        if (!child) {
            dup2(fd, 0);
            dup2(fd, 1);
            close(fd);
            if (program >= 0) fexecve(program, argv, environment);
            else if (strchr(argv[0], '/')) execve(argv[0], argv, environment);
            else execvpe(argv[0], argv, environment);
            _exit(127);
        }
    }
    close(fd);
    if (program >= 0) close(program);
    OK(waitpid(child, &status, 0));
    say("%s %#x", strrchr(argv[0], '/') ? strrchr(argv[0], '/') : argv[0], status);
}

static void talk(int connections)
{
    static char out[3000], in[4000];
    for (int k = 0; k < 3000; k++) out[k] = k % 60 == 59 ? '\n' : 'a' + k % 26;
    for (int i = 0; i < connections; i++) {
        memset(in, 0, sizeof in);
        int fd = sn_connect(sn_path());
        warm_up(fd, 0);
        OK(send(fd, out, 3000, 0));
        OK(shutdown(fd, SHUT_WR));
        size_t n = recv_all(fd, in, sizeof in);
        say("program %d: %zu bytes, the same %d, %.30s", i, n, n == 3000 && !memcmp(in, out, n), n < 100 ? in : "");
        close(fd);
    }
}

/* Each of the programs on a connection of its own. */
static void serve_all(enum way way, char *programs[][4], int count, char *const environment[])
{
    int listener = sn_listen(sn_path(), 16);
    pid_t client = OK(fork());
    if (!client) {
        sn_role = 1;
        talk(count);
        exit(0);
    }
    for (int i = 0; i < count; i++) {
        int fd = OK(accept(listener, NULL, NULL));
        warm_up(fd, 1);
        serve(fd, way, programs[i], environment);
    }
    OK(waitpid(client, NULL, 0));
}

static void inetd(void)
{
    char *programs[][4] = {{"cat"}, {"sh", "-c", "read x; echo got $x; echo more; cat >/dev/null"},
                           {"bash", "-c", "read x; echo got $x; printf '%s\\n' more; cat >/dev/null"},
                           {"/proc/self/exe", "stdio"}};
    serve_all(FORKED, programs, 4, environ);
}
static int stdio(void)
{
    char line[1000];
    while (fgets(line, sizeof line, stdin)) fputs(line, stdout);
    return fflush(stdout) ? 1 : 7;
}

/* SNIPPET_PROGRAM: what to start instead of cat. */
static void cat(enum way way, char *const environment[])
{
    char *named = getenv("SNIPPET_PROGRAM"), *programs[][4] = {{named ? named : "/bin/cat"}};
    serve_all(way, programs, 1, environment);
}
static void shimmed(void) { cat(FORKED, environ); }
static void shimmed_descriptor(void) { cat(BY_DESCRIPTOR, environ); }
static void shimmed_vfork(void) { cat(VFORKED, environ); }
static void shimmed_spawn(void) { cat(SPAWNED, environ); }

static char *const none[] = {NULL};
static void plain(void) { cat(FORKED, none); }
static void plain_descriptor(void) { cat(BY_DESCRIPTOR, none); }
static void plain_vfork(void) { cat(VFORKED, none); }
static void plain_spawn(void) { cat(SPAWNED, none); }

static char *const *unusable_settings(void)
{
    static char *changed[256];
    int n = 0;
    for (char **e = environ; *e && n < 254; e++)
        if (strncmp(*e, "KVOSHIM_RING_SIZE=", 18)) changed[n++] = *e;
    changed[n++] = "KVOSHIM_RING_SIZE=unusable";
    return changed;
}
static void unusable(void) { cat(FORKED, unusable_settings()); }
static void unusable_vfork(void) { cat(VFORKED, unusable_settings()); }
static void unusable_spawn(void) { cat(SPAWNED, unusable_settings()); }

static const struct scene scenes[] = {
    ALONE(inetd),
    ALONE(shimmed),
    ALONE(shimmed_descriptor),
    ALONE(shimmed_vfork),
    ALONE(shimmed_spawn),
    ALONE(plain),
    ALONE(plain_descriptor),
    ALONE(plain_vfork),
    ALONE(plain_spawn),
    ALONE(unusable),
    ALONE(unusable_vfork),
    ALONE(unusable_spawn),
};

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "stdio")) return stdio();
    return sn_play(scenes, sizeof scenes / sizeof *scenes, argc, argv);
}
