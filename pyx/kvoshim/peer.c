/* Who has accepted a connection. A client's SO_PEERCRED names the process that listens; in a server whose workers run as another
 * user it is a worker that offers. The kernel knows for every socket as which user it was made, and unix_diag tells. */
#include "runtime.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One number that the kernel knows of the Unix socket with this inode. 0 or -errno. */
static int ask(int diag, uint32_t inode, uint32_t show, uint16_t attribute, uint32_t *value) {
  struct {
    struct nlmsghdr header;
    struct unix_diag_req body;
  } question = {
      .header = {.nlmsg_len = sizeof question, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
      .body = {.sdiag_family = AF_UNIX, .udiag_states = ~0u, .udiag_ino = inode, .udiag_show = show,
               .udiag_cookie = {~0u, ~0u}},
  };
  if (kvo_send_now(diag, &question, sizeof question, MSG_NOSIGNAL) != sizeof question) return -EPROTO;
  _Alignas(struct nlmsghdr) char answer[512];
  ssize_t n = kvo_recv_now(diag, answer, sizeof answer, MSG_DONTWAIT); /* the kernel answers within send() */
  const struct nlmsghdr *header = (const struct nlmsghdr *)answer;
  size_t at = NLMSG_LENGTH(sizeof(struct unix_diag_msg));
  if (n < (ssize_t)at || header->nlmsg_type != SOCK_DIAG_BY_FAMILY || header->nlmsg_len > (size_t)n) return -EPROTO;
  while (at + sizeof(struct nlattr) <= header->nlmsg_len) {
    const struct nlattr *found = (const struct nlattr *)(answer + at);
    if (found->nla_len < NLA_HDRLEN || at + found->nla_len > header->nlmsg_len) return -EPROTO;
    if (found->nla_type == attribute && found->nla_len == NLA_HDRLEN + sizeof *value) {
      memcpy(value, answer + at + NLA_HDRLEN, sizeof *value);
      return 0;
    }
    at += NLA_ALIGN(found->nla_len);
  }
  return -ENOENT;
}

int kvo_peer_user(int fd, uint32_t *user) {
  struct stat own;
  uint32_t peer = 0;
  if (fstat(fd, &own)) return -errno;
  int diag = kvo_next.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (diag < 0) return -errno;
  int r = ask(diag, (uint32_t)own.st_ino, UDIAG_SHOW_PEER, UNIX_DIAG_PEER, &peer);
  if (r == 0) r = peer ? ask(diag, peer, UDIAG_SHOW_UID, UNIX_DIAG_UID, user) : -ENOTCONN;
  kvo_close_now(diag);
  return r;
}
