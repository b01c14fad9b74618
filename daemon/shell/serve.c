/* The problem: between frames and engine events lie the rules of the protocol that are neither:
   stream ids in order, requests of one message, descriptors that go with one answer.

   The model: a connection has a number of its own, never used twice. Frames become REQUEST events
   or are answered here (what is not understood never reaches the engine). Replies find their
   connection by number; when it is gone they are dropped, and with them the descriptors they
   carried.

   Refuses: to count or limit; the engine does. */

#include "daemon/shell/serve.h"

#include "daemon/shell/clients.h"
#include "daemon/shell/declare.h"
#include "daemon/shell/lifeline.h"
#include "daemon/shell/peer.h"
#include "daemon/shell/rpc.h"
#include "daemon/shell/survey.h"
#include "daemon/shell/topology.h"
#include "daemon/shell/wsmem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

typedef struct conn {
  loop_t *loop;
  peer_t *peer;
  uint64_t id;
  uint32_t uid;
  int32_t pid;
  int pidfd; /* -1: the kernel keeps it with the socket */
  unsigned mistakes;
  int admin;
} conn_t;

static int administers(loop_t const *loop, serve_who_t const *who) {
  uint32_t gid = loop->config->admin_gid;
  if (!who->uid || (gid && who->gid == gid)) return 1;
  for (uint32_t i = 0; gid && i < who->gid_cnt; i++)
    if (who->gids[i] == gid) return 1;
  return 0;
}

static void free_conn(conn_t *conn) {
  if (conn->pidfd >= 0) close(conn->pidfd);
  free(conn);
}

static void forget(conn_t *conn) {
  idmap_remove(&conn->loop->peers, conn->id);
  free_conn(conn);
}

static void post_conn(loop_t *loop, int kind, uint64_t id) {
  engine_event_t event = {.kind = kind};
  event.u.conn.conn = id;
  loop_post(loop, &event, NULL);
}

/* Lines about what a uid does are bounded for each, so that none can hide another's. */
static int may_log(loop_t *loop, uint32_t uid, uint32_t *ret_dropped) {
  fair_user_t *user = fair_user(&loop->fair, uid);
  return log_rate_ok(user ? &user->rate : &loop->violations, uv_hrtime(), ret_dropped);
}

static void on_closed(void *arg, peer_t *peer, char const *why, int violation) {
  conn_t *conn = arg;
  loop_t *loop = conn->loop;
  uint64_t id = conn->id;
  uint32_t dropped;
  if (violation && may_log(loop, conn->uid, &dropped)) {
    log_warn(loop->log, "violation", "conn=%lu uid=%u pid=%d dropped=%u error=%s", id, conn->uid,
             conn->pid, dropped, log_text(why).text);
  }
  log_debug(loop->log, "disconnected", "conn=%lu why=%s", id, log_text(why).text);
  forget(conn);
  if (violation) post_conn(loop, ENGINE_EV_VIOLATION, id);
  post_conn(loop, ENGINE_EV_CONN_CLOSED, id);
}

/* Answers a request that the engine never sees. */
static void refuse(conn_t *conn, uint32_t stream, rpc_refusal_t const *refusal, int mistake) {
  size_t len;
  uint8_t *bytes = rpc_encode_refusal(refusal, &len);
  uint64_t id = conn->id;
  loop_t *loop = conn->loop;
  uint32_t dropped;
  if (mistake && may_log(loop, conn->uid, &dropped))
    log_warn(loop->log, "mistake", "conn=%lu uid=%u pid=%d dropped=%u error=%s", id, conn->uid,
             conn->pid, dropped, log_text(refusal->sentence).text);
  int bad = !bytes || peer_send(conn->peer, stream, TTRPC_RESPONSE, 0, bytes, len, NULL, 0);
  free(bytes);
  if (!idmap_get(&loop->peers, id)) return; /* sending found that it has gone */
  if (mistake && ++conn->mistakes >= SERVE_MISTAKES_MAX) {
    peer_close(conn->peer);
    on_closed(conn, conn->peer, "too many requests that break the protocol", 1);
  } else if (bad) {
    peer_close(conn->peer);
    on_closed(conn, conn->peer, "it does not read its answers", 0);
  }
}

static clients_who_t who_of(conn_t const *conn) {
  return (clients_who_t){peer_fd(conn->peer), conn->pidfd, conn->pid};
}

static uint32_t count_fds(void) {
  uint32_t cnt = 0;
  DIR *dir = opendir("/proc/self/fd");
  if (!dir) return 0;
  while (readdir(dir)) cnt++;
  closedir(dir);
  return cnt > 3 ? cnt - 3 : 0; /* '.', '..' and the folder itself */
}

static void put_topology(engine_request_t *req, topo_t const *topo, int cpu) {
  if (req->method == ENGINE_RESTORE) {
    req->u.c.restore.topo = topo;
    req->u.c.restore.cpu = cpu;
  } else {
    req->u.create.topo = topo;
    req->u.create.cpu = cpu;
  }
}

int serve_topology(engine_request_t *req, int cpu, void **ret_own) {
  topo_t *topo = malloc(sizeof *topo);
  if (!topo) return 1;
  topology_read(topo);
  *ret_own = topo;
  put_topology(req, topo, cpu);
  return 0;
}

static int wants_topology(int method) {
  return method == ENGINE_CREATE || method == ENGINE_PLAN || method == ENGINE_RESTORE;
}

/* What the shell adds to a request at once. 0, or 1: there is no random number. */
static int complete(conn_t const *conn, engine_request_t *req) {
  loop_t const *loop = conn->loop;
  if (req->method == ENGINE_STATS) {
    req->u.stats.fd_store = notify_active(loop->notify);
    req->u.stats.fd_cnt = count_fds();
    req->u.stats.lost_cnt = loop->lost_cnt;
    req->u.stats.mistake = loop->mistake;
  } else if (req->method == ENGINE_CREATE) {
    return serve_uuid(req->u.create.uuid);
  } else if (req->method == ENGINE_RESTORE) {
    return serve_uuid(req->u.c.restore.uuid);
  }
  return 0;
}

int serve_uuid(uint8_t ret_uuid[16]) {
  if (getrandom(ret_uuid, 16, 0) != 16) return 1;
  ret_uuid[6] = (uint8_t)((ret_uuid[6] & 0x0f) | 0x40); /* RFC 4122: random */
  ret_uuid[8] = (uint8_t)((ret_uuid[8] & 0x3f) | 0x80);
  return 0;
}

/* Only for those who administer and the user of the daemon. */
static void reload(conn_t *conn, uint32_t stream) {
  if (conn->admin || conn->uid == geteuid())
    declare_reload_for(conn->loop, conn->id, stream);
  else
    serve_reload_refused(conn->loop, conn->id, stream, ENGINE_CODE_PERMISSION_DENIED, "permission",
                         "only root, the administrators' group and the user of the daemon may have "
                         "the configuration read again");
}

static void refuse_short(conn_t *conn, uint32_t stream, char const *what) {
  rpc_refusal_t refusal = {.code = ENGINE_CODE_INTERNAL, .kind = "memory"};
  snprintf(refusal.sentence, sizeof refusal.sentence, "the daemon has no %s", what);
  refuse(conn, stream, &refusal, 0);
}

/* To the engine, or first to a look at the machine. 1: call has been taken over. */
static int pass_on(conn_t *conn, uint32_t stream, rpc_call_t const *call) {
  loop_t *loop = conn->loop;
  engine_event_t event = {.kind = ENGINE_EV_REQUEST};
  event.u.request.conn = conn->id;
  event.u.request.stream = stream;
  event.u.request.req = call->req;
  if (call->timeout_ns &&
      __builtin_add_overflow(uv_hrtime(), call->timeout_ns, &event.u.request.deadline_mono_ns)) {
    event.u.request.deadline_mono_ns = 0;
  }
  if (wants_topology(call->req.method)) {
    peer_hold(conn->peer);
    if (!survey_request(loop, &event, call)) return 1;
    peer_go_on(conn->peer);
    refuse_short(conn, stream, "memory for a look at this machine");
    return 0;
  }
  /* Who detaches and then removes is not to be told that he is attached. */
  if (call->req.method == ENGINE_DELETE) lifeline_sweep(loop);
  if (call->req.method == ENGINE_QUERY || call->req.method == ENGINE_PLACEMENT) loop_look(loop);
  loop_post(loop, &event, NULL);
  return 0;
}

void serve_surveyed(loop_t *loop, engine_event_t *event, topo_t const *topo) {
  uint64_t id = event->u.request.conn;
  conn_t *conn = idmap_get(&loop->peers, id);
  if (!conn) return;
  clients_who_t who = who_of(conn);
  put_topology(&event->u.request.req, topo, clients_cpu(&who));
  loop_post(loop, event, NULL);
  conn = idmap_get(&loop->peers, id);
  if (conn) peer_go_on(conn->peer);
}

static void request(conn_t *conn, ttrpc_frame_t const *frame) {
  rpc_call_t call;
  rpc_refusal_t refusal;
  uint32_t stream = frame->header.stream;
  if (rpc_decode(frame->data, frame->header.length, &call, &refusal)) {
    refuse(conn, stream, &refusal, refusal.code != RPC_UNIMPLEMENTED);
    return;
  }
  if (call.req.method == RPC_RELOAD)
    reload(conn, stream);
  else if (complete(conn, &call.req))
    refuse_short(conn, stream, "random numbers");
  else if (pass_on(conn, stream, &call))
    return;
  rpc_call_free(&call);
}

static void on_frame(void *arg, peer_t *peer, ttrpc_frame_t const *frame) {
  conn_t *conn = arg;
  uint32_t stream = frame->header.stream, *last = peer_last_stream(peer);
  rpc_refusal_t refusal = {.code = ENGINE_CODE_INVALID_ARGUMENT, .kind = "stream"};
  /* No method takes more than its request, and other types are others' business. */
  if (frame->header.type != TTRPC_REQUEST) return;
  if (!(stream & 1U) || stream <= *last) {
    snprintf(refusal.sentence, sizeof refusal.sentence,
             "stream %u: ids of requests are odd and rise, the last was %u", stream, *last);
    refuse(conn, stream, &refusal, 1);
    return;
  }
  *last = stream;
  if (frame->oversize) {
    refusal.code = ENGINE_CODE_RESOURCE_EXHAUSTED;
    refusal.kind = "limit";
    snprintf(refusal.sentence, sizeof refusal.sentence, "the request has %u bytes, the limit is %u",
             frame->header.length, TTRPC_DATA_MAX);
    refuse(conn, stream, &refusal, 1);
    return;
  }
  if (frame->header.flags & TTRPC_FLAG_REMOTE_OPEN) {
    refusal.kind = "flags";
    snprintf(refusal.sentence, sizeof refusal.sentence,
             "stream %u is announced as a stream of requests, no method takes one", stream);
    refuse(conn, stream, &refusal, 1);
    return;
  }
  request(conn, frame);
}

static peer_ops_t const ops = {.frame = on_frame, .closed = on_closed};

/* Tests cannot wait ten seconds; a shorter time does nobody harm. */
static unsigned half_frame_ms(void) {
  char const *text = getenv("WKSPD_TEST_HALF_FRAME_MS");
  long ms = text ? strtol(text, NULL, 10) : 0;
  return ms > 0 && ms < PEER_HALF_FRAME_MS ? (unsigned)ms : PEER_HALF_FRAME_MS;
}

/* Only called from the loop's own turns, so what the event points to lives through its step. */
void serve_open(loop_t *loop, int fd, serve_who_t const *who) {
  conn_t *conn = calloc(1, sizeof *conn);
  if (!conn) {
    close(fd);
    return;
  }
  *conn = (conn_t){
      .loop = loop, .id = ++loop->conn_last, .uid = who->uid, .pid = who->pid, .pidfd = -1};
  if (idmap_add(&loop->peers, conn->id, conn)) {
    free(conn);
    close(fd);
    return;
  }
  conn->peer = peer_new(&loop->uv, &loop->fair, fd, conn->uid, half_frame_ms(), &ops, conn);
  if (!conn->peer) {
    forget(conn);
    return;
  }
  conn->admin = administers(loop, who);
  if (!loop->pidfds_kept) conn->pidfd = clients_pidfd(who->pid, who->uid);
  log_debug(loop->log, "connected", "conn=%lu uid=%u pid=%d", conn->id, who->uid, who->pid);
  engine_event_t event = {.kind = ENGINE_EV_CONN_OPEN};
  event.u.conn_open.conn = conn->id;
  event.u.conn_open.uid = who->uid;
  event.u.conn_open.gid = who->gid;
  event.u.conn_open.pid = who->pid;
  event.u.conn_open.gids = who->gids;
  event.u.conn_open.gid_cnt = who->gid_cnt;
  loop_post(loop, &event, NULL);
}

void serve_peer(loop_t const *loop, uint64_t id, clients_who_t *ret_who, uint64_t *ret_queued) {
  conn_t const *conn = id ? idmap_get(&loop->peers, id) : NULL;
  if (!conn) return;
  *ret_queued = peer_held(conn->peer);
  *ret_who = who_of(conn);
}

void serve_log(loop_t *loop, uint32_t uid, char const *word, char const *text) {
  uint32_t dropped;
  if (may_log(loop, uid, &dropped)) log_warn(loop->log, word, "%s dropped=%u", text, dropped);
}

void serve_close(loop_t *loop, uint64_t id, char const *why) {
  conn_t *conn = idmap_get(&loop->peers, id);
  if (declare_closed(loop, id, why) || !conn) return;
  uint32_t dropped;
  if (may_log(loop, conn->uid, &dropped)) {
    log_warn(loop->log, "closed", "conn=%lu uid=%u pid=%d dropped=%u why=%s", id, conn->uid,
             conn->pid, dropped, log_text(why).text);
  }
  peer_close(conn->peer);
  forget(conn);
}

/* A send that does not fit closes the connection; the engine hears of it after this step. */
static void send_flags(loop_t *loop, uint64_t id, uint32_t stream, uint8_t type, uint8_t flags,
                       uint8_t const *bytes, size_t len, int const *fds, unsigned fd_cnt) {
  conn_t *conn = idmap_get(&loop->peers, id);
  if (!conn) {
    for (unsigned i = 0; i < fd_cnt; i++) close(fds[i]);
    return;
  }
  if (!peer_send(conn->peer, stream, type, flags, bytes, len, fds, fd_cnt)) return;
  conn = idmap_get(&loop->peers, id);
  if (!conn) return;
  peer_close(conn->peer);
  on_closed(conn, conn->peer, "it does not read its answers", 0);
}

static void send_to(loop_t *loop, uint64_t id, uint32_t stream, uint8_t type, uint8_t const *bytes,
                    size_t len, int const *fds, unsigned fd_cnt) {
  send_flags(loop, id, stream, type, 0, bytes, len, fds, fd_cnt);
}

/* The memory as the lease may see it, and the client's end of the lifeline. How many: 2, or 0. */
static unsigned open_fds(loop_t *loop, engine_reply_t const *reply, int ret_fds[2]) {
  uint64_t ws_id;
  int client_end = lifeline_take_client_end(loop, reply->u.open.lease_id, &ws_id);
  if (client_end < 0) return 0;
  wsmem_t const *mem = wsmem_get(loop, ws_id);
  int fd = -1;
  if (mem && reply->u.open.mode == ENGINE_OPEN_RO)
    fd = memory_reopen_ro(mem->fd);
  else if (mem)
    fd = fcntl(mem->fd, F_DUPFD_CLOEXEC, 3);
  if (fd < 0) {
    close(client_end);
    return 0;
  }
  ret_fds[0] = fd;
  ret_fds[1] = client_end;
  return 2;
}

void serve_reply(loop_t *loop, engine_reply_t const *reply) {
  int fds[2];
  unsigned fd_cnt = 0;
  size_t len;
  uint8_t *bytes = NULL;
  if (declare_reply(loop, reply)) return;
  if (reply->method == ENGINE_JOB_WATCH && reply->code == ENGINE_CODE_OK) {
    send_flags(loop, reply->conn, reply->stream, TTRPC_DATA,
               TTRPC_FLAG_REMOTE_CLOSED | TTRPC_FLAG_NO_DATA, NULL, 0, NULL, 0);
    return;
  }
  if (reply->method == ENGINE_OPEN && reply->code == ENGINE_CODE_OK) {
    fd_cnt = open_fds(loop, reply, fds);
    if (!fd_cnt) {
      rpc_refusal_t refusal = {.code = ENGINE_CODE_INTERNAL, .kind = "descriptors"};
      snprintf(refusal.sentence, sizeof refusal.sentence,
               "the daemon could not duplicate the descriptors: %s", strerror(errno));
      bytes = rpc_encode_refusal(&refusal, &len);
    }
  }
  if (reply->method == ENGINE_CLIENTS && reply->code == ENGINE_CODE_OK)
    bytes = clients_answer(loop, reply, &len);
  if (!bytes) bytes = rpc_encode_reply(reply, &len);
  if (!bytes) {
    for (unsigned i = 0; i < fd_cnt; i++) close(fds[i]);
    serve_close(loop, reply->conn, "no memory for an answer");
    post_conn(loop, ENGINE_EV_CONN_CLOSED, reply->conn);
    return;
  }
  send_to(loop, reply->conn, reply->stream, TTRPC_RESPONSE, bytes, len, fds, fd_cnt);
  free(bytes);
}

/* bytes NULL: no memory; freed. */
static void send_reload(loop_t *loop, uint64_t id, uint32_t stream, uint8_t *bytes, size_t len) {
  if (bytes) send_to(loop, id, stream, TTRPC_RESPONSE, bytes, len, NULL, 0);
  free(bytes);
}

void serve_reloaded(loop_t *loop, uint64_t id, uint32_t stream, char **notes, size_t note_cnt,
                    uint32_t mistake_cnt) {
  size_t len = 0;
  uint8_t *bytes = rpc_encode_reload(notes, note_cnt, mistake_cnt, &len);
  send_reload(loop, id, stream, bytes, len);
}

void serve_reload_refused(loop_t *loop, uint64_t id, uint32_t stream, int code, char const *kind,
                          char const *sentence) {
  size_t len = 0;
  rpc_refusal_t refusal = {.code = code, .kind = kind};
  snprintf(refusal.sentence, sizeof refusal.sentence, "%s", sentence);
  uint8_t *bytes = rpc_encode_refusal(&refusal, &len);
  send_reload(loop, id, stream, bytes, len);
}

void serve_event(loop_t *loop, engine_effect_t const *effect) {
  size_t len;
  uint8_t *bytes = rpc_encode_event(effect, &len);
  if (!bytes) {
    loop_break(loop, "no memory for an event");
    return;
  }
  send_to(loop, effect->u.stream_event.conn, effect->u.stream_event.stream, TTRPC_DATA, bytes, len,
          NULL, 0);
  free(bytes);
}

void serve_task(loop_t *loop, engine_effect_t const *effect) {
  size_t len;
  uint8_t *bytes = rpc_encode_task(effect->u.stream_task.task, &len);
  if (!bytes) {
    loop_break(loop, "no memory for the state of a job");
    return;
  }
  send_to(loop, effect->u.stream_task.conn, effect->u.stream_task.stream, TTRPC_DATA, bytes, len,
          NULL, 0);
  free(bytes);
}

void serve_free(loop_t *loop) {
  size_t place = 0;
  conn_t *conn;
  while ((conn = idmap_next(&loop->peers, &place))) {
    peer_close(conn->peer);
    free_conn(conn);
  }
  idmap_clear(&loop->peers);
}
