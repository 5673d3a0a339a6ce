// accelerated: any
/* connect() before accept(); data and close before accept(); refusals; a socket used again after a refusal; backlog. */
#include "snippet.h"

int main(void)
{
    char b[100], missing[120];
    struct sockaddr_un a, none;
    socklen_t n = sn_address(&a, sn_path()), m;
    sn_open_logs();
    snprintf(missing, sizeof missing, "%s.no", sn_path());
    m = sn_address(&none, missing);
    int c = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(connect(c, (struct sockaddr *)&none, m));
    show_poll("unconnected", c, ALL_EVENTS, 0);
    SHOW(recv(c, b, 1, 0));
    SHOW(send(c, b, 1, MSG_NOSIGNAL));
    SHOW(getpeername(c, (struct sockaddr *)&none, &m));
    int l = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(bind(l, (struct sockaddr *)&a, n));
    SHOW(connect(c, (struct sockaddr *)&a, n));         /* bound, not listening */
    OK(listen(l, 1));
    SHOW(connect(c, (struct sockaddr *)&a, n));         /* the same socket, after two refusals */
    SHOW(connect(c, (struct sockaddr *)&a, n));
    SHOW(send(c, "early", 5, 0));
    int s = OK(accept(l, NULL, NULL));
    SHOW(recv(s, b, 100, 0));
    SHOW(send(s, "reply", 5, 0));
    SHOW(recv(c, b, 100, 0));
    close(c);
    SHOW(recv(s, b, 100, 0));
    close(s);

    c = sn_connect(sn_path());                          /* gone before accept: bytes, then the end */
    OK(send(c, "ghost", 5, 0));
    close(c);
    s = OK(accept(l, NULL, NULL));
    show_poll("ghost", s, ALL_EVENTS, 0);
    SHOW(recv(s, b, 100, 0));
    SHOW(recv(s, b, 100, 0));
    SHOW(send(s, b, 1, MSG_NOSIGNAL));
    close(s);

    c = sn_connect(sn_path());                          /* half-closed before accept */
    OK(send(c, "half", 4, 0));
    OK(shutdown(c, SHUT_WR));
    s = OK(accept(l, NULL, NULL));
    SHOW(recv(s, b, 100, 0));
    SHOW(recv(s, b, 100, 0));
    SHOW(send(s, "answer", 6, 0));
    SHOW(recv(c, b, 100, 0));
    close(s);
    SHOW(recv(c, b, 100, 0));
    close(c);

    int q[8], in = 0, r = 0;                            /* backlog 1: the kernel takes two, then EAGAIN */
    for (int i = 0; i < 8; i++) {
        q[i] = OK(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
        r = connect(q[i], (struct sockaddr *)&a, n);
        if (r) say("connection %d: %s", i, err_name(errno));
        else in++;
    }
    say("%d in the backlog", in);
    show_poll("refused for now", q[7], ALL_EVENTS, 0);
    for (int i = 0; i < in; i++) {
        s = OK(accept(l, NULL, NULL));
        OK(send(s, "in", 2, 0));
        SHOW(recv(q[i], b, 100, 0));
        close(s);
    }
    SHOW(connect(q[7], (struct sockaddr *)&a, n));      /* the refused one tries again */
    s = OK(accept(l, NULL, NULL));
    OK(send(s, "again", 5, 0));
    SHOW(recv(q[7], b, 100, 0));
    close(s);
    for (int i = 0; i < 8; i++) close(q[i]);

    c = sn_connect(sn_path());                          /* the listener goes with a connection in its queue */
    OK(send(c, "lost", 4, 0));
    close(l);
    show_poll("never accepted", c, ALL_EVENTS, 0);
    SHOW(recv(c, b, 100, 0));
    SHOW(recv(c, b, 100, 0));
    close(c);
    c = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW(connect(c, (struct sockaddr *)&a, n));         /* a socket file without a listener */
    SHOW(connect(c, (struct sockaddr *)&a, 1));
    SHOW(connect(c, (struct sockaddr *)&a, 500));
    SHOW(connect(c, NULL, n));
    SHOW(connect(-1, (struct sockaddr *)&a, n));
    SHOW(connect(0, (struct sockaddr *)&a, n));
    SHOW(accept(c, NULL, NULL));
    close(c);
    sn_print_logs();
    return 0;
}
