/* fail: how the library says why. Sets the calling thread's last error and returns code. */

#ifndef WKSP_CORE_FAIL_H
#define WKSP_CORE_FAIL_H

#include "core/export.h"
#include "wksp/error.h"

WKSP_PRIVATE int wksp__fail(int code, char const *fmt, ...)
    __attribute__((format(printf, 2, 3), cold));

#endif
