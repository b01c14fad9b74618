/* wksp: everything that a program which uses workspaces needs. */

#ifndef WKSP_WKSP_H
#define WKSP_WKSP_H

#include "client.h"
#include "error.h"
#include "ext.h"
#include "fd_alloc.h"
#include "fd_wksp.h"
#include "heap.h"
#include "types.h"
#include "valloc.h"

#endif
