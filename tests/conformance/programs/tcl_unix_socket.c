/* A Tcl extension for Redis' own tests, which know TCP only: `unix_socket PATH` gives a channel as `socket HOST PORT` does. */

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <tcl.h>
#include <unistd.h>

static int unix_socket(ClientData unused, Tcl_Interp *interp, int words, Tcl_Obj *const word[])
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)unused;
    if (words != 2) {
        Tcl_WrongNumArgs(interp, 1, word, "path");
        return TCL_ERROR;
    }
    strncpy(address.sun_path, Tcl_GetString(word[1]), sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) {
        Tcl_SetErrno(errno);
        Tcl_SetObjResult(interp, Tcl_ObjPrintf("couldn't open socket: %s", Tcl_PosixError(interp)));
        if (fd >= 0)
            close(fd);
        return TCL_ERROR;
    }
    Tcl_Channel channel = Tcl_MakeTcpClientChannel((ClientData)(intptr_t)fd);
    Tcl_RegisterChannel(interp, channel);
    Tcl_SetObjResult(interp, Tcl_NewStringObj(Tcl_GetChannelName(channel), -1));
    return TCL_OK;
}

int Unixsocket_Init(Tcl_Interp *interp)
{
    Tcl_CreateObjCommand(interp, "unix_socket", unix_socket, NULL, NULL);
    return Tcl_PkgProvide(interp, "unixsocket", "1");
}
