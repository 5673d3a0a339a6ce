/* Starts a program that the kernel refuses one thing: refuse WHAT PROGRAM ARGUMENTS. As a container's filter would, with EPERM. */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ALWAYS = -1 };
static const struct {
  const char *what;
  uint32_t number;
  int argument; /* that must have the value */
  uint32_t value;
} refusals[] = {{"memfd", SYS_memfd_create, ALWAYS, 0},
                {"seals", SYS_fcntl, 1, F_ADD_SEALS},
                {"getting-seals", SYS_fcntl, 1, F_GET_SEALS},
                {"membarrier", SYS_membarrier, ALWAYS, 0},
                {"fences", SYS_membarrier, 0, MEMBARRIER_CMD_GLOBAL_EXPEDITED},
                {"random", SYS_getrandom, ALWAYS, 0},
                {"statistics", SYS_fallocate, ALWAYS, 0}};

int main(int argc, char **argv) {
  for (size_t i = 0; argc > 2 && i < sizeof refusals / sizeof *refusals; i++) {
    if (strcmp(argv[1], refusals[i].what)) continue;
    uint32_t at = (uint32_t)(refusals[i].argument == ALWAYS ? offsetof(struct seccomp_data, nr)
                                                            : offsetof(struct seccomp_data, args) + 8 * (size_t)refusals[i].argument);
    uint32_t value = refusals[i].argument == ALWAYS ? refusals[i].number : refusals[i].value;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refusals[i].number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) break;
    execvp(argv[2], argv + 2);
  }
  perror("refuse");
  return 77;
}
