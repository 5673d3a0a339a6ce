/* A server thread and a client talk over a connection; then the process ends, as the argument says. It prints the names of
 * its statistics segments that are there before that: ends WAY. */
#include <dirent.h>

#include "../snippets/snippet.h"

static void *serve(void *accepted)
{
    int fd = (int)(intptr_t)accepted;
    char b[8];
    while (recv(fd, b, 8, 0) == 8) send(fd, b, 8, MSG_NOSIGNAL);
    return NULL;
}

static void show(const char *who)
{
    char end[32];
    DIR *d = opendir("/dev/shm");
    snprintf(end, sizeof end, "-%d-", (int)getpid());
    for (struct dirent *e; d && (e = readdir(d));)
        if (strstr(e->d_name, "kvoshim-stats") && strstr(e->d_name, end)) printf("%s %s\n", who, e->d_name);
    if (d) closedir(d);
    fflush(stdout);
}

static int talk(int listener)
{
    int fd = sn_connect(getenv("SNIPPET_PATH"));        /* in one thread, so that descriptors have sure numbers */
    char b[8] = "8 bytes";
    pthread_t t;
    OK(pthread_create(&t, NULL, serve, (void *)(intptr_t)OK(accept(listener, NULL, NULL))));
    for (int n = 50; n--;) if (send(fd, b, 8, MSG_NOSIGNAL) != 8 || recv(fd, b, 8, 0) != 8) return 0;
    return 1;
}

int main(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "return";
    int listener = sn_listen(getenv("SNIPPET_PATH"), 64), status;
    signal(SIGTERM, SIG_DFL);
    if (!talk(listener)) return 3;
    int next = open("/dev/null", O_RDONLY);
    printf("next descriptor %d\n", next);
    show("self");
    if (!strcmp(way, "exit")) exit(0);
    if (!strcmp(way, "_exit")) _exit(0);
    if (!strcmp(way, "_Exit")) _Exit(0);
    if (!strcmp(way, "term")) raise(SIGTERM);
    if (!strcmp(way, "exec")) { execl("/usr/bin/env", "env", "-i", "sh", "-c", "kill -STOP $$", NULL); _exit(1); }
    if (!strcmp(way, "vfork") && vfork() == 0) _exit(0);
    if (!strcmp(way, "vfork")) show("after");
    if (!strcmp(way, "fork") || !strcmp(way, "forked-use")) {
        pid_t child = fork();
        if (!child) {
            if (!strcmp(way, "forked-use") && !talk(listener)) _exit(3);
            show("child");
            _exit(0);
        }
        waitpid(child, &status, 0);
        show("after");
        if (status) return 4;
    }
    return 0;
}
