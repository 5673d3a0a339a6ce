/* A pointer to where nothing may be read or written. */
#include "../snippets/snippet.h"

static void server(int fd)
{
    void *bad = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    barrier();                                          /* four bytes are there */
    SHOW(send(fd, bad, 10, MSG_NOSIGNAL));
    SHOW(recv(fd, bad, 4, 0));
    close(fd);
    barrier();
}

static void client(int fd)
{
    OK(send(fd, "data", 4, 0));
    barrier(); barrier();
    close(fd);
}

int main(void) { return sn_run(server, client); }
