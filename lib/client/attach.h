/* attach: workspaces that this process has already, by their names. See attach.c. */

#ifndef WKSP_CLIENT_ATTACH_H
#define WKSP_CLIENT_ATTACH_H

#include "wksp/fd_wksp.h"

/* Joins once more a workspace of that name which this process has joined, with a daemon or without
   (rw: it must be joined read-write). NULL if there is none (nothing reported). */
fd_wksp_t *wksp__attach_joined(char const *name, int rw);

/* Undoes that, or an attach. 0, E_INVAL. */
int wksp__attach_undo(fd_wksp_t *wksp);

#endif
