/* FILE streams over a connection: fdopen for reading and writing, fprintf, fgets, getline, fread, dprintf, fclose. */
#include "snippet.h"

static void server(int fd)
{
    char line[200] = "", *more = NULL;
    size_t cap = 0;
    FILE *in = fdopen(fd, "r"), *out = fdopen(OK(dup(fd)), "w");
    CHECK(in && out);
    say("fileno %d", fileno(in) == fd);
    for (int i = 0; i < 3; i++) {
        say("%s", fgets(line, sizeof line, in) ? line : "(end)");
        SHOW(fprintf(out, "answer %d to %s", i, line));
        SHOW(fflush(out));
    }
    SHOW(getline(&more, &cap, in));
    say("%s", more);
    SHOW(dprintf(fd, "dprintf %s %d\n", "says", 42));
    static char big[100000];
    SHOW(fread(big, 1, sizeof big, in));
    CHECK(good(big, sizeof big, 0));
    SHOW(fgetc(in));
    SHOW(feof(in));
    SHOW(ferror(in));
    setvbuf(out, NULL, _IONBF, 0);
    fputs("unbuffered", out);
    barrier();
    SHOW(fclose(out));
    SHOW(fclose(in));
    SHOW(fcntl(fd, F_GETFD));
    barrier();
    free(more);
}

static void client(int fd)
{
    char line[200];
    FILE *f = fdopen(fd, "r+");
    CHECK(f);
    setvbuf(f, NULL, _IOLBF, 1000);
    for (int i = 0; i < 3; i++) {
        SHOW(fprintf(f, "line %d\n", i));
        fflush(f);
        say("%s", fgets(line, sizeof line, f) ? line : "(end)");
    }
    SHOW(dprintf(fd, "a line of getline\n"));
    say("%s", fgets(line, sizeof line, f) ? line : "(end)");
    char *big = malloc(100000);
    fill(big, 100000, 0);
    SHOW(fwrite(big, 1, 100000, f));
    SHOW(fflush(f));
    SHOW(shutdown(fd, SHUT_WR));
    memset(line, 0, sizeof line);
    SHOW(fread(line, 1, 10, f));
    say("%s", line);
    barrier(); barrier();
    SHOW(fgetc(f));
    SHOW(fclose(f));
    free(big);
}

int main(void) { return sn_run(server, client); }
