/* What the preload library calls of the core. Results: >= 0 or -errno, unless said otherwise. ident is the connection's
 * negative ID, as the table has it for fd. */
#pragma once
#include "runtime.h"

ssize_t kvo_receive(int32_t ident, int fd, struct msghdr *message, int flags);
ssize_t kvo_send(int32_t ident, int fd, const struct msghdr *message, int flags);
/* One buffer: as send() and recv(). */
ssize_t kvo_send_buffer(int32_t ident, int fd, const void *buffer, size_t n, int flags);
ssize_t kvo_receive_buffer(int32_t ident, int fd, void *buffer, size_t n, int flags);
int kvo_connect(int fd, const struct sockaddr *address, socklen_t length);             /* as connect() */
int kvo_unmark(int fd);               /* before bind(). 0 or -ENOMEM */
int kvo_accept(int fd, struct sockaddr *address, socklen_t *length, int flags);        /* as accept4() */
int kvo_spare_descriptors(void);      /* gives back what we could do without; 0: nothing */
int kvo_close(int fd);                                                                 /* as close() */
void kvo_replaced(int fd);            /* dup2() has put another file under fd */
void kvo_move_internal(int fd);        /* before dup2() onto fd */
void kvo_dup(int old_fd, int new_fd); /* new_fd is another name of old_fd */
int kvo_shutdown(int32_t ident, int fd, int how);
int kvo_poll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask);
int kvo_epoll_known(int epfd);
int kvo_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event); /* -EINPROGRESS: leave it to the kernel */
int kvo_epoll_wait(int epfd, struct epoll_event *events, int most, const struct timespec *timeout, const sigset_t *mask);
ssize_t kvo_readable_bytes(int32_t ident, int fd); /* FIONREAD; -EINPROGRESS: ask the kernel */
ssize_t kvo_unsent_bytes(int32_t ident);           /* SIOCOUTQ; -EINPROGRESS: ask the kernel */
int kvo_socket_error(int32_t ident, int fd);       /* SO_ERROR, a positive errno; -EINPROGRESS: ask the kernel */
void kvo_set_nonblock(int32_t ident, int on);
void kvo_socket_made(int fd);  /* a new Unix stream socket */
void kvo_socket_bound(int fd); /* such a one may be bound: it will listen, or can't be marked */
void kvo_epoll_made(int epfd); /* a new epoll descriptor */
int kvo_withdraw(int32_t ident, int fd, int reason); /* 1: it is on the kernel for good; 0: too late */
void kvo_attend(int32_t ident, int fd);              /* before the kernel is asked: has the peer gone back to it? */
int kvo_demote(int32_t ident, int fd, int reason);   /* the same, from any state; 0: it can't be taken back now */
void kvo_hide_mark(struct sockaddr *address, socklen_t *length, socklen_t room);
void kvo_before_exec(int inherit); /* 0: exec has failed */
void kvo_before_plain_exec(int last); /* of a program without the library, which inherits descriptors up to last (-1: all) */
void kvo_part_with(int fd, int shimmed); /* a program without the library, or with it, will get fd */
int kvo_inherit(int memfd, int fd);   /* after exec: takes the connection up. 0: impossible */
void kvo_expect_cancellation(void); /* before pthread_cancel() */
void kvo_before_fork(void);
void kvo_after_fork_in_child(void);
