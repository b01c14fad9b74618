/* declare: configuration that is read again, and workspaces that it wants to be there. */

#ifndef WKSPD_SHELL_DECLARE_H
#define WKSPD_SHELL_DECLARE_H

#include "daemon/shell/loop.h"

/* What one reading of the configuration is told to whoever asked for it, at most; the log has all.
 */
#define DECLARE_NOTES_MAX 1000U

/* Reloads that wait for their answer at a time. */
#define DECLARE_WAITERS_MAX 16U

/* How long a start waits for declared workspaces before it says that it is ready: taking the pages
 * of very large ones may last longer than a service manager's patience. */
#define DECLARE_READY_MS 10000

/* NULL: no memory. */
struct declare *declare_new(loop_t *loop);
void declare_free(struct declare *declare);

/* Of a start, before declare_start: keeps a sound configuration for later ones, or says that an
   older one is in force for a mistake. */
void declare_begin(loop_t *loop);

/* Makes what is declared: calls loop_ready when all of it has been tried, perhaps before this
   returns. */
void declare_start(loop_t *loop);

/* Reads the whole configuration again, and does as above. Mistakes are logged, and nothing that was
   in force changes for them; loop->mistake says so until they are gone. */
void declare_reload(loop_t *loop);

/* The same for a client, who is answered when all has been tried: with what has been done, or with
   the mistake. */
void declare_reload_for(loop_t *loop, uint64_t conn, uint32_t stream);

/* Answers to requests that came from here, and the closing of a connection that was: 1: it was one.
 */
int declare_reply(loop_t *loop, engine_reply_t const *reply);
int declare_closed(loop_t *loop, uint64_t conn, char const *why);

#endif
