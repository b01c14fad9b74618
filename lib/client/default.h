/* default: the process's own client. */

#ifndef WKSP_CLIENT_DEFAULT_H
#define WKSP_CLIENT_DEFAULT_H

#include "wksp/client.h"

/* The process's client, connected to what was the default socket when it was first needed. It is
   never closed. NULL, reported, when nobody answers there. */
wksp_client_t *wksp__client_default(void);

#endif
