/* repeat_test: a call that changes something is made, the process is killed at some step of it (or
   the connection breaks), and whoever lost the answer makes it again with the same id. Whatever the
   step, it has been done exactly once in the end, also if others have changed the workspace in the
   meantime, and it is answered as if nothing had happened. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/history.h"
#include "fixture.h"

#define OWNER 1000U

#define SIZE_FIRST  (1UL << 20)
#define SIZE_WANTED (2UL << 20)
#define SIZE_OTHERS (3UL << 20)
#define SIZE_MAX_WS (4UL << 20)

/* Answers until any call here has come to its end. */
#define STEPS_MAX 32

enum way { CREATE = 0, DELETE, DELETE_HELD, GROW, SHRINK, SHRINK_BLOCKED, SAME, WAYS };

static char const *const ways[] = {"create", "delete",         "delete by force",   "grow",
                                   "shrink", "blocked shrink", "resize to the same"};

/* How the answer is lost. */
enum loss { KILL_DONE = 0, KILL_NOT, BREAK, LOSSES };

static engine_request_t request_of(int way) {
  engine_request_t req = {.call_id_len = SPEC_CALL_ID_SIZE, .call_id = {7, 7, 7}};
  if (way == CREATE) {
    req.method = ENGINE_CREATE;
    strcpy(req.u.create.name, "orders");
    req.u.create.size = SIZE_FIRST;
    req.u.create.max_size = SIZE_MAX_WS;
  } else if (way == DELETE || way == DELETE_HELD) {
    req.method = ENGINE_DELETE;
    strcpy(req.u.del.name, "orders");
    req.u.del.force = way == DELETE_HELD;
  } else {
    req.method = ENGINE_RESIZE;
    strcpy(req.u.resize.name, "orders");
    req.u.resize.size = way == GROW ? SIZE_WANTED : way == SAME ? SIZE_FIRST : SIZE_FIRST / 2;
  }
  return req;
}

static sim_t *prepare(int way) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  if (way == CREATE) return sim;
  engine_request_t req = request_of(CREATE);
  req.call_id_len = 0;
  memset(req.call_id, 0, sizeof(req.call_id));
  sim_send(sim, conn, &req, 0);
  sim_settle(sim);
  sim_memory_t *memory = sim_memory(sim, 1);
  assert_non_null(memory);
  if (way == SHRINK_BLOCKED) memory->used = SIZE_FIRST - 65536;
  if (way == DELETE_HELD) sim_open(sim, conn, "orders", ENGINE_OPEN_RW);
  return sim;
}

/* Makes the call on a connection of its own and loses the answer behind so many steps. 1: it had
 * come to its end before. */
static int call_and_lose(sim_t *sim, int way, int steps, int loss) {
  engine_request_t req = request_of(way);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  uint32_t stream = sim_send(sim, conn, &req, 0);
  int step = 0;
  while (step < steps && sim->pending.cnt) {
    sim_answer(sim, 0, 0);
    step++;
  }
  int over = sim_request(sim, conn, stream)->answered && !sim->pending.cnt && step < steps;
  if (loss == BREAK) {
    sim_close(sim, conn);
  } else {
    sim->kill_done = loss == KILL_DONE ? 1 : -1;
    sim_restart(sim);
    sim->kill_done = 0;
  }
  return over;
}

/* Makes it again until it is not under way any more. */
static sim_request_t *call_again(sim_t *sim, int way) {
  engine_request_t req = request_of(way);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  for (int i = 0; i < STEPS_MAX; i++) {
    uint32_t stream = sim_send(sim, conn, &req, 0);
    /* one step at a time, so that it is also asked for in the middle */
    if (sim->pending.cnt) sim_answer(sim, 0, 0);
    sim_request_t *request = sim_request(sim, conn, stream);
    if (!request->answered) sim_settle(sim);
    request = sim_request(sim, conn, stream);
    assert_true(request->answered);
    if (request->reply.code != ENGINE_CODE_UNAVAILABLE) return request;
    assert_string_equal(request->reply.detail_kind, "repeat");
  }
  sim_broken(sim, "the call \"%s\" is under way for ever", ways[way]);
  return NULL;
}

static spec_t const *on_disk_by_name(sim_t *sim, int *ret_cnt) {
  spec_t const *found = NULL;
  *ret_cnt = 0;
  for (size_t i = 0; i < sim->disk.cnt; i++) {
    if (sim->disk.items[i].spec.state != SPEC_READY) continue;
    found = &sim->disk.items[i].spec;
    ++*ret_cnt;
  }
  return found;
}

/* Whether the disk says that it has been done. */
static int is_done(sim_t *sim, int way) {
  static uint8_t const id[SPEC_CALL_ID_SIZE] = {7, 7, 7};
  int cnt;
  spec_t const *spec = on_disk_by_name(sim, &cnt);
  if (way == DELETE || way == DELETE_HELD) return !spec;
  return spec && spec_done_find(spec, id);
}

/* Others undo what was done, or do it another way. Returns the id of what they made. */
static uint64_t others_act(sim_t *sim, int way) {
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  sim_settle(sim);
  if (way == CREATE) {
    assert_int_equal(sim_delete(sim, conn, "orders", 0)->reply.code, ENGINE_CODE_OK);
    return 0;
  }
  if (way == DELETE || way == DELETE_HELD) {
    sim_request_t *made = sim_create(sim, conn, "orders");
    assert_int_equal(made->reply.code, ENGINE_CODE_OK);
    return made->view.spec.ws_id;
  }
  assert_int_equal(sim_resize(sim, conn, "orders", SIZE_OTHERS)->reply.code, ENGINE_CODE_OK);
  return 1;
}

static void check_end(sim_t *sim, int way, uint64_t others, int acted) {
  int cnt;
  spec_t const *spec = on_disk_by_name(sim, &cnt);
  if (way == CREATE)
    assert_int_equal(cnt, !acted);
  else if (way == DELETE || way == DELETE_HELD)
    assert_int_equal(cnt, acted);
  else
    assert_int_equal(cnt, 1);
  if (acted && spec) assert_int_equal(spec->ws_id, others);
  if (way < GROW) return;
  uint64_t want = acted                   ? SIZE_OTHERS
                  : way == GROW           ? SIZE_WANTED
                  : way == SAME           ? SIZE_FIRST
                  : way == SHRINK_BLOCKED ? SIZE_FIRST - 65536
                                          : SIZE_FIRST / 2;
  assert_int_equal(spec->size, want);
}

static void check_answer(sim_request_t const *request, int way) {
  if (way == SHRINK_BLOCKED) {
    assert_int_equal(request->reply.code, ENGINE_CODE_FAILED_PRECONDITION);
    assert_string_equal(request->reply.detail_kind, "used");
    return;
  }
  if (request->reply.code) fail_msg("%s: %s", ways[way], request->reply.sentence);
  if (way == DELETE_HELD) assert_int_equal(request->reply.u.del.deferred, 1);
  if (way == DELETE) assert_int_equal(request->reply.u.del.deferred, 0);
}

/* One loss at one step, and what follows. 1: the call had come to its end by itself before. */
static int lose_at(int way, int steps, int loss, int acting) {
  sim_t *sim = prepare(way);
  int over = call_and_lose(sim, way, steps, loss);
  if (loss == BREAK && acting) sim_settle(sim);
  int done = is_done(sim, way);
  int acted = acting && done;
  uint64_t others = acted ? others_act(sim, way) : 0;

  check_answer(call_again(sim, way), way);
  sim_settle(sim);
  check_end(sim, way, others, acted);
  for (int again = 0; again < 2; again++) {
    uint64_t ws_high = sim->ws_id_high;
    check_answer(call_again(sim, way), way);
    sim_settle(sim);
    check_end(sim, way, others, acted);
    assert_int_equal(sim->ws_id_high, ws_high);
    sim_restart(sim);
    sim_settle(sim);
  }
  sim_free(sim);
  return over;
}

/* Killed at any step, whether what was under way has happened or not, or cut off while the process
   lives: asked again it is done exactly once. */
static void test_once(void **state) {
  for (int way = 0; way < WAYS; way++)
    for (int loss = 0; loss < LOSSES; loss++)
      for (int acting = 0; acting < 2; acting++) {
        int steps = 0;
        while (!lose_at(way, steps, loss, acting)) {
          steps++;
          if (steps > STEPS_MAX) fail_msg("\"%s\" has no end", ways[way]);
        }
        assert_true(steps > 1);
      }
}

/* The same call with an id of its own is another call. */
static void test_another_id(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  engine_request_t req = request_of(CREATE);
  uint32_t stream = sim_send(sim, conn, &req, 0);
  sim_settle(sim);
  assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_OK);
  req.call_id[0]++;
  stream = sim_send(sim, conn, &req, 0);
  assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_ALREADY_EXISTS);
  req.call_id_len = 0;
  stream = sim_send(sim, conn, &req, 0);
  assert_int_equal(sim_reply(sim, conn, stream)->code, ENGINE_CODE_ALREADY_EXISTS);
  sim_free(sim);
}

/* An id of a wrong length or of another operation is refused; somebody else's call is not answered
   for who may not know of it: his is one of his own. */
static void test_refused(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER), stranger = sim_conn(sim, OWNER + 1, OWNER + 1);
  engine_request_t req = request_of(CREATE);
  sim_send(sim, conn, &req, 0);
  sim_settle(sim);

  static uint32_t const lens[] = {1, 15, 17, UINT32_MAX};
  for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
    req.call_id_len = lens[i];
    engine_reply_t const *reply = sim_reply(sim, conn, sim_send(sim, conn, &req, 0));
    assert_int_equal(reply->code, ENGINE_CODE_INVALID_ARGUMENT);
    assert_string_equal(reply->detail_kind, "request_id");
  }
  req.call_id_len = SPEC_CALL_ID_SIZE;
  engine_reply_t const *reply = sim_reply(sim, stranger, sim_send(sim, stranger, &req, 0));
  assert_int_equal(reply->code, ENGINE_CODE_ALREADY_EXISTS);
  assert_string_equal(reply->sentence, "the name \"orders\" is taken");
  for (int way = DELETE; way <= GROW; way++) {
    req = request_of(way);
    reply = sim_reply(sim, conn, sim_send(sim, conn, &req, 0));
    assert_int_equal(reply->code, ENGINE_CODE_INVALID_ARGUMENT);
    assert_string_equal(reply->detail_kind, "request_id");
  }
  assert_int_equal(sim_get(sim, conn, "orders")->reply.code, ENGINE_CODE_OK);
  sim_free(sim);
}

/* Creates or removes the workspace of that number, with an id for each; the code of the answer. */
static int numbered(sim_t *sim, uint64_t conn, int way, uint64_t number) {
  engine_request_t req = request_of(way);
  number = 2 * number + (uint64_t)way;
  memcpy(req.call_id, &number, sizeof(number));
  snprintf(req.u.create.name, sizeof(req.u.create.name), "ws-%lu", number / 2);
  uint32_t stream = sim_send(sim, conn, &req, 0);
  sim_settle(sim);
  return sim_reply(sim, conn, stream)->code;
}

/* Workspaces that have gone are remembered up to a number, the latest, and so over a restart; what
   is forgotten is forgotten on disk too. */
static void test_history(void **state) {
  sim_t *sim = sim_new(1, NULL);
  uint64_t conn = sim_conn(sim, OWNER, OWNER), last = HISTORY_MAX + 10;
  sim->check_every = 50;
  for (uint64_t i = 1; i <= last; i++) {
    assert_int_equal(numbered(sim, conn, CREATE, i), ENGINE_CODE_OK);
    assert_int_equal(numbered(sim, conn, DELETE, i), ENGINE_CODE_OK);
    sim->real_ns++;
    assert_int_equal(sim->disk.cnt, i < HISTORY_MAX ? i : HISTORY_MAX);
    if (i % 500) continue;
    sim_restart(sim);
    conn = sim_conn(sim, OWNER, OWNER);
  }
  for (uint64_t i = 1; i <= last; i++)
    assert_int_equal(numbered(sim, conn, DELETE, i),
                     i <= last - HISTORY_MAX ? ENGINE_CODE_NOT_FOUND : ENGINE_CODE_OK);
  sim_free(sim);
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test(test_once),
      cmocka_unit_test(test_another_id),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_history),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
