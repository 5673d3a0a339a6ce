// accelerated: 6
// paths: *
/* Long and short, relative and doubled slashes, 108 bytes without a final NUL, abstract names. */
#include "snippet.h"

static void try(const char *listen_path, const char *connect_path)
{
    char b[8];
    int l = sn_listen(listen_path, 4), c = sn_connect(connect_path), s = OK(accept(l, NULL, NULL));
    for (int i = 0; i < 50; i++) {
        fill(b, 8, i);
        OK(send(c, b, 8, 0));
        CHECK(recv(s, b, 8, 0) == 8);
        OK(send(s, b, 8, 0));
        CHECK(recv(c, b, 8, 0) == 8 && good(b, 8, i));
    }
    struct sockaddr_un a;
    socklen_t n = sizeof a;
    memset(&a, 0, sizeof a);
    OK(getpeername(c, (struct sockaddr *)&a, &n));
    say("length %d", (int)n - (int)(a.sun_path[0] == '/' ? strlen(sn_path()) : 0) > 0);
    close(c);
    close(s);
    close(l);
    if (listen_path[0] != '@') unlink(listen_path);
}

int main(void)
{
    char dir[120], path[200];
    sn_open_logs();
    snprintf(dir, sizeof dir, "%s", sn_path());
    *strrchr(dir, '/') = 0;
    OK(chdir(dir));
    try("s", "s");
    try("./a-relative-path", "./a-relative-path");
    snprintf(path, sizeof path, "%s//doubled", dir);
    try("doubled", path);
    memset(path, 'x', sizeof path);
    path[107] = 0;                                      /* 107 characters and a NUL */
    try(path, path);
    memset(path, 'y', sizeof path);
    path[108] = 0;                                      /* 108 characters, no room for a NUL */
    try(path, path);
    snprintf(path, sizeof path, "@kvoshim-test-%d", (int)getpid());
    try(path, path);
    sn_print_logs();
    return 0;
}
