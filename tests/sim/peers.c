/* peers: the clients' side of the fixture: connections, requests, lifelines; and time. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

uint64_t sim_conn(sim_t *sim, uint32_t uid, uint32_t gid) {
  return sim_conn_groups(sim, uid, gid, NULL, 0);
}

uint64_t sim_conn_groups(sim_t *sim, uint32_t uid, uint32_t gid, uint32_t const *gids,
                         uint32_t cnt) {
  engine_event_t event = {.kind = ENGINE_EV_CONN_OPEN};
  uint64_t conn = ++sim->conn_high, closed_cnt = sim->closed_cnt;

  if (sim->conns.cnt == sim->conns.cap) {
    sim->conns.cap = sim->conns.cap ? sim->conns.cap * 2 : 32;
    sim->conns.items = realloc(sim->conns.items, sim->conns.cap * sizeof(*sim->conns.items));
    assert_non_null(sim->conns.items);
  }
  sim->conns.items[sim->conns.cnt++] =
      (sim_conn_t){.conn = conn, .uid = uid, .gid = gid, .gid_cnt = cnt};
  assert_true(cnt <= 4);
  if (cnt) memcpy(sim->conns.items[sim->conns.cnt - 1].gids, gids, cnt * sizeof(*gids));
  event.u.conn_open.conn = conn;
  event.u.conn_open.uid = uid;
  event.u.conn_open.gid = gid;
  event.u.conn_open.pid = (int32_t)(1000 + conn);
  event.u.conn_open.gids = gids;
  event.u.conn_open.gid_cnt = cnt;
  sim_step(sim, &event);
  return sim->closed_cnt == closed_cnt ? conn : 0;
}

static sim_conn_t *conn_find(sim_t *sim, uint64_t conn) {
  for (size_t i = 0; i < sim->conns.cnt; i++)
    if (sim->conns.items[i].conn == conn) return &sim->conns.items[i];
  return NULL;
}

void sim_close(sim_t *sim, uint64_t conn) {
  engine_event_t event = {.kind = ENGINE_EV_CONN_CLOSED};
  sim_conn_t *at = conn_find(sim, conn);

  assert_non_null(at);
  *at = sim->conns.items[--sim->conns.cnt];
  /* From here on a reply to it finds no request, and fails. */
  for (size_t i = sim->requests.cnt; i--;) {
    if (sim->requests.items[i].conn != conn) continue;
    free(sim->requests.items[i].views);
    sim->requests.items[i] = sim->requests.items[--sim->requests.cnt];
  }
  event.u.conn.conn = conn;
  assert_int_equal(sim_step(sim, &event), 0);
}

/* A request to remove: what it may remove is no longer certain. That is who is ready under this
   name on disk (also one that nobody was told of, for the process was killed before), or, while
   the disk is in doubt, the youngest that a client was told of. Returns the former, 0 if there is
   none. */
static uint64_t doom(sim_t *sim, char const *name) {
  sim_published_t *youngest = NULL;
  uint64_t target = 0;

  for (size_t i = 0; i < sim->disk.cnt; i++) {
    spec_t const *spec = &sim->disk.items[i].spec;
    if (spec->state == SPEC_READY && !strcmp(spec->name, name)) target = spec->ws_id;
  }
  for (size_t i = 0; i < sim->published.cnt; i++) {
    sim_published_t *published = &sim->published.items[i];
    if (published->ws_id == target) published->doomed = 1;
    if (published->gone || strcmp(published->name, name) != 0) continue;
    if (!youngest || published->ws_id > youngest->ws_id) youngest = published;
  }
  if (youngest) youngest->doomed = 1;
  return target;
}

sim_call_t *sim_called(sim_t *sim, uint8_t const id[SPEC_CALL_ID_SIZE]) {
  for (size_t i = 0; i < sim->called.cnt; i++)
    if (!memcmp(sim->called.items[i].id, id, SPEC_CALL_ID_SIZE)) return &sim->called.items[i];
  return NULL;
}

/* 1 if the id was sent before. */
static int call_seen(sim_t *sim, engine_request_t const *req) {
  if (sim_called(sim, req->call_id)) return 1;
  if (sim->called.cnt == sim->called.cap) {
    sim->called.cap = sim->called.cap ? sim->called.cap * 2 : 32;
    sim->called.items = realloc(sim->called.items, sim->called.cap * sizeof(*sim->called.items));
    assert_non_null(sim->called.items);
  }
  sim_call_t *called = &sim->called.items[sim->called.cnt++];
  memset(called, 0, sizeof(*called));
  memcpy(called->id, req->call_id, sizeof(called->id));
  called->req = *req;
  return 0;
}

uint32_t sim_send(sim_t *sim, uint64_t conn, engine_request_t const *req, uint64_t timeout_ns) {
  engine_event_t event = {.kind = ENGINE_EV_REQUEST};
  sim_conn_t *at = conn_find(sim, conn);

  assert_non_null(at);
  at->stream_high += at->stream_high ? 2 : 1;
  uint32_t stream = at->stream_high;
  if (sim->requests.cnt == sim->requests.cap) {
    sim->requests.cap = sim->requests.cap ? sim->requests.cap * 2 : 32;
    sim->requests.items =
        realloc(sim->requests.items, sim->requests.cap * sizeof(*sim->requests.items));
    assert_non_null(sim->requests.items);
  }
  sim_request_t *request = &sim->requests.items[sim->requests.cnt++];
  memset(request, 0, sizeof(*request));
  request->conn = conn;
  request->stream = stream;
  request->req = *req;
  request->deadline_ns = timeout_ns ? sim->mono_ns + timeout_ns : 0;
  if (req->method == ENGINE_DELETE) request->target = doom(sim, req->u.del.name);
  if (req->method == ENGINE_RESTORE && req->u.c.restore.in_place)
    doom(sim, req->u.c.restore.as[0] ? req->u.c.restore.as : req->u.c.restore.name);
  if (req->call_id_len == SPEC_CALL_ID_SIZE) request->repeated = call_seen(sim, req);

  if (sim->hooks.sent) sim->hooks.sent(sim->hooks.arg, req);
  event.u.request.conn = conn;
  event.u.request.stream = stream;
  event.u.request.deadline_mono_ns = request->deadline_ns;
  event.u.request.req = *req;
  if (req->method == ENGINE_CREATE) {
    uint64_t random = sim_random(sim);
    memcpy(event.u.request.req.u.create.uuid, &random, sizeof(random));
    event.u.request.req.u.create.uuid[15] = sim->uuid_next++;
  }
  assert_int_equal(sim_step(sim, &event), 0);
  return stream;
}

sim_request_t *sim_request(sim_t *sim, uint64_t conn, uint32_t stream) {
  for (size_t i = 0; i < sim->requests.cnt; i++)
    if (sim->requests.items[i].conn == conn && sim->requests.items[i].stream == stream)
      return &sim->requests.items[i];
  sim_broken(sim, "no request %lu/%u", conn, stream);
  return NULL;
}

engine_reply_t const *sim_reply(sim_t *sim, uint64_t conn, uint32_t stream) {
  sim_request_t *request = sim_request(sim, conn, stream);
  if (!request->answered) sim_broken(sim, "no reply to %lu/%u", conn, stream);
  return &request->reply;
}

void sim_unanswered(sim_t *sim, uint64_t conn, uint32_t stream) {
  sim_request_t *request = sim_request(sim, conn, stream);
  if (request->answered)
    sim_broken(sim, "%lu/%u has a reply: %d %s", conn, stream, request->reply.code,
               request->reply.sentence);
}

void sim_hangup(sim_t *sim, uint64_t lease_id) {
  engine_event_t event = {.kind = ENGINE_EV_LIFELINE_HUP};
  sim_lifeline_t *line = sim_lifeline(sim, lease_id);

  assert_non_null(line);
  line->with_client = 0;
  line->hung_up = 1;
  line->reported = 1;
  event.u.lifeline_hup.lease_id = lease_id;
  assert_int_equal(sim_step(sim, &event), 0);
}

uint32_t sim_send_create(sim_t *sim, uint64_t conn, char const *name, uint64_t timeout_ns) {
  engine_request_t req = {.method = ENGINE_CREATE};
  snprintf(req.u.create.name, sizeof(req.u.create.name), "%s", name);
  req.u.create.size = 1 << 20;
  return sim_send(sim, conn, &req, timeout_ns);
}

uint32_t sim_send_named(sim_t *sim, uint64_t conn, int method, char const *name,
                        uint64_t timeout_ns) {
  engine_request_t req = {.method = method};
  char *field = method == ENGINE_DELETE    ? req.u.del.name
                : method == ENGINE_OPEN    ? req.u.open.name
                : method == ENGINE_QUERY   ? req.u.query.name
                : method == ENGINE_COMPACT ? req.u.compact.name
                : method == ENGINE_WATCH   ? req.u.watch.name
                : method == ENGINE_RESIZE  ? req.u.resize.name
                                           : req.u.get.name;
  snprintf(field, ENGINE_TEXT_MAX, "%s", name);
  return sim_send(sim, conn, &req, timeout_ns);
}

static sim_request_t *settled(sim_t *sim, uint64_t conn, uint32_t stream) {
  sim_settle(sim);
  sim_request_t *request = sim_request(sim, conn, stream);
  if (!request->answered) sim_broken(sim, "%lu/%u has no reply", conn, stream);
  return request;
}

sim_request_t *sim_create(sim_t *sim, uint64_t conn, char const *name) {
  return settled(sim, conn, sim_send_create(sim, conn, name, 0));
}

sim_request_t *sim_delete(sim_t *sim, uint64_t conn, char const *name, int force) {
  engine_request_t req = {.method = ENGINE_DELETE};
  snprintf(req.u.del.name, sizeof(req.u.del.name), "%s", name);
  req.u.del.force = force;
  return settled(sim, conn, sim_send(sim, conn, &req, 0));
}

sim_request_t *sim_get(sim_t *sim, uint64_t conn, char const *name) {
  return settled(sim, conn, sim_send_named(sim, conn, ENGINE_GET, name, 0));
}

sim_request_t *sim_open(sim_t *sim, uint64_t conn, char const *name, int mode) {
  engine_request_t req = {.method = ENGINE_OPEN};
  snprintf(req.u.open.name, sizeof(req.u.open.name), "%s", name);
  req.u.open.mode = mode;
  return settled(sim, conn, sim_send(sim, conn, &req, 0));
}

uint32_t sim_send_resize(sim_t *sim, uint64_t conn, char const *name, uint64_t size,
                         uint64_t timeout_ns) {
  engine_request_t req = {.method = ENGINE_RESIZE};
  snprintf(req.u.resize.name, sizeof(req.u.resize.name), "%s", name);
  req.u.resize.size = size;
  return sim_send(sim, conn, &req, timeout_ns);
}

sim_request_t *sim_resize(sim_t *sim, uint64_t conn, char const *name, uint64_t size) {
  return settled(sim, conn, sim_send_resize(sim, conn, name, size, 0));
}

size_t sim_events(sim_t const *sim, uint64_t conn, uint32_t stream, int kind, char const *name) {
  size_t cnt = 0;
  for (size_t i = 0; i < sim->events.cnt; i++) {
    sim_event_t const *event = &sim->events.items[i];
    cnt += event->conn == conn && event->stream == stream && event->kind == kind &&
           !strcmp(event->name, name);
  }
  return cnt;
}

void sim_advance(sim_t *sim, uint64_t ns) {
  uint64_t until = sim->mono_ns + ns;
  while (sim->update.next_tick_mono_ns && sim->update.next_tick_mono_ns <= until) {
    uint64_t due = sim->update.next_tick_mono_ns;
    if (due > sim->mono_ns) {
      sim->real_ns += due - sim->mono_ns;
      sim->mono_ns = due;
    }
    sim_step_kind(sim, ENGINE_EV_TICK);
    if (sim->update.next_tick_mono_ns && sim->update.next_tick_mono_ns <= due)
      sim_broken(sim, "a tick at its time leaves something due");
  }
  sim->real_ns += until - sim->mono_ns;
  sim->mono_ns = until;
}
