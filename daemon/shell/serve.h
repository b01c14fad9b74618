/* serve: requests of connections to the engine, its answers back. */

#ifndef WKSPD_SHELL_SERVE_H
#define WKSPD_SHELL_SERVE_H

#include "daemon/shell/loop.h"

struct clients_who;

/* Requests that break a rule of the protocol but can be answered (bad stream ids, undecodable
 * messages); after so many a connection is closed as violating. */
#define SERVE_MISTAKES_MAX 32U

/* Who made a connection. */
typedef struct serve_who {
  uint32_t uid, gid;
  int32_t pid;
  uint32_t gid_cnt;
  uint32_t gids[ENGINE_GIDS_MAX]; /* further groups */
} serve_who_t;

/* Takes over an accepted connection. */
void serve_open(loop_t *loop, int fd, serve_who_t const *who);

/* Carries out the effects of these names. */
void serve_reply(loop_t *loop, engine_reply_t const *reply);
void serve_event(loop_t *loop, engine_effect_t const *effect);
void serve_task(loop_t *loop, engine_effect_t const *effect);
void serve_close(loop_t *loop, uint64_t conn, char const *why);

/* Who that connection is of, and the bytes that wait on it; untouched if it has gone. */
void serve_peer(loop_t const *loop, uint64_t conn, struct clients_who *ret_who,
                uint64_t *ret_queued);

/* A line about what this uid did; so many of each uid's are written. */
void serve_log(loop_t *loop, uint32_t uid, char const *word, char const *text);

/* Random bytes as a uuid. 0, or 1: there are none. */
int serve_uuid(uint8_t ret_uuid[16]);

/* The machine as it is, and the cpu of the caller, into a Create or Plan; *ret_own is to be freed
   after it. 0, or 1: no memory. */
int serve_topology(engine_request_t *req, int cpu, void **ret_own);

/* A request that waited for a look at the machine (survey.c), which is this; if its connection is
   still there, which then reads on. Not from within a step. */
void serve_surveyed(loop_t *loop, engine_event_t *event, topo_t const *topo);

/* Answers a Reload: with what has been noted, or with a refusal. A connection that has gone
   meanwhile is nothing. */
void serve_reloaded(loop_t *loop, uint64_t conn, uint32_t stream, char **notes, size_t note_cnt,
                    uint32_t mistake_cnt);
void serve_reload_refused(loop_t *loop, uint64_t conn, uint32_t stream, int code, char const *kind,
                          char const *sentence);

/* Closes all, without telling the engine. */
void serve_free(loop_t *loop);

#endif
