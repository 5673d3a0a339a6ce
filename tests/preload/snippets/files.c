// modes: process
/* Files beside a connection: modes, flags, numbers and errors of the calls that make descriptors are the C library's. */
#include "snippet.h"
#include <dirent.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

int __open_2(const char *, int), __openat_2(int, const char *, int);

static char dir[108];

/* What fd is, and how far away the next free number is. */
static void show(const char *what, int fd)
{
    struct stat s = {0};
    int why = errno;
    if (fd < 0) { say("%s: %s", what, err_name(why)); return; }
    OK(fstat(fd, &s));
    say("%s: mode %o, flags %#x, %#x", what, s.st_mode, fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
    int next = OK(dup(fd));
    say("%d", next - fd);
    close(next);
    close(fd);
}

#define TRY(call) do { errno = 0; int fd_ = (call); show(#call, fd_); } while (0)
#define STREAM(call) do { errno = 0; FILE *f_ = (call); int e_ = errno; \
    say("%s: %d %s", #call, f_ != NULL, f_ ? "" : err_name(e_)); if (f_) { SHOW(fgetc(f_)); fclose(f_); } } while (0)

static void files(const char *name)
{
    int ends[2], at = OK(open(dir, O_PATH | O_DIRECTORY));
    mode_t before = umask(0);
    TRY(open(name, O_RDONLY));
    TRY(open(name, O_CREAT | O_EXCL | O_RDWR, 0641));
    TRY(open(name, O_CREAT | O_EXCL | O_RDWR, 0641));
    TRY(open64(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    OK(unlink(name));
    TRY(open64(name, O_CREAT | O_WRONLY | O_APPEND, 0604));
    OK(unlink(name));
    TRY(creat(name, 0614));
    OK(unlink(name));
    TRY(creat64(name, 0624));
    TRY(openat(at, "file", O_RDONLY | O_NONBLOCK));
    OK(unlink(name));
    TRY(openat(at, "file", O_CREAT | O_RDWR, 0600));
    OK(unlinkat(at, "file", 0));
    TRY(openat64(at, "file", O_CREAT | O_RDWR | O_CLOEXEC, 0606));
    TRY(openat64(at, ".", O_TMPFILE | O_RDWR, 0645));
    TRY(open(dir, O_TMPFILE | O_WRONLY, 0654));
    TRY(__open_2(name, O_RDWR));
    TRY(__openat_2(at, "file", O_WRONLY));
    TRY(open(NULL, O_RDONLY));
    TRY(openat(999, "file", O_RDONLY));
    STREAM(fopen(name, "r+"));
    STREAM(fopen64(name, "re"));
    STREAM(fopen(dir, "w"));
    STREAM(fopen(name, "nonsense"));
    DIR *d = opendir(dir);
    say("%d", d && readdir(d));
    closedir(d);
    SHOW(opendir(name) ? 0 : -1);
    OK(unlink(name));
    SHOW(pipe(ends)); show("pipe", ends[0]), show("pipe", ends[1]);
    SHOW(pipe2(ends, O_NONBLOCK | O_CLOEXEC)); show("pipe2", ends[0]), show("pipe2", ends[1]);
    SHOW(pipe2(ends, 0x40));
    SHOW(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)); show("pair", ends[0]), show("pair", ends[1]);
    SHOW(socketpair(AF_INET, SOCK_STREAM, 0, ends));
    TRY(eventfd(3, EFD_NONBLOCK));
    TRY(eventfd(3, 0x40));
    TRY(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
    TRY(timerfd_create(77, 0));
    sigset_t none;
    sigemptyset(&none);
    TRY(signalfd(-1, &none, SFD_CLOEXEC));
    TRY(signalfd(0, &none, 0));
    TRY(inotify_init());
    TRY(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    TRY(inotify_init1(0x40));
    umask(before);
    close(at);
}

static void server(int fd)
{
    char name[120], b[4] = "";
    snprintf(dir, sizeof dir, "%s", sn_path());
    *strrchr(dir, '/') = 0;
    snprintf(name, sizeof name, "%s/file", dir);
    files(name);
    OK(send(fd, "done", 4, 0));
    SHOW(recv(fd, b, 4, 0));
    close(fd);
}

static void client(int fd)
{
    char b[4];
    CHECK(recv(fd, b, 4, MSG_WAITALL) == 4);
    OK(send(fd, b, 4, 0));
    close(fd);
}

int main(void) { return sn_run(server, client); }
