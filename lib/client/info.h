/* info: a Workspace of the daemon as the struct that users see, and names.

   may use: core, proto.  used by: workspaces, attach. */

#ifndef WKSP_CLIENT_INFO_H
#define WKSP_CLIENT_INFO_H

#include "wksp/client.h"
#include "wkspd.pb-c.h"

/* Checks a name that the user gives: 0, or E_INVAL (reported) that names the rule. what: the call.
 */
int wksp__name_check(char const *what, char const *name);

/* NULL if all fields are as the protocol says and *ret_info is filled, else what is wrong (a
 * constant string). message may be NULL. */
char const *wksp__info_of(Wkspd__V1__Workspace const *message, wksp_info_t *ret_info);

#endif
