/* power_test: the machine loses power at any moment. Engine and state folder work as in the daemon,
   clients create, remove, resize and open, and for every prefix of what reached the disk the folder
   is found again, with what was not durable gone, kept, or a mixture. Then a start must read every
   file in it, and what clients had been told by then must be so.

   The memory itself is gone with the power: what was ready is set aside as lost, and the start goes
   on. WKSP_TEST_SEED replays a run. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/shell/store.h"
#include "fixture.h"
#include "power.h"

#define OWNER 1000U
#define NAMES 4
#define TURNS 150

/* Each prefix with all gone, all kept, and so many mixtures. */
#define MIXTURES 3

#define FACTS_MAX 4096
#define SPECS_MAX 256

/* What a client has asked for or was told, and how many calls had reached the disk by then. */
typedef struct fact {
  size_t at;
  int asked; /* else told, with success */
  int method;
  uint64_t ws_id, lease_id, size;
  uint8_t call_id[SPEC_CALL_ID_SIZE]; /* zeroes: none */
  char name[SPEC_NAME_MAX + 1];
} fact_t;

typedef struct world {
  char from[64], to[64];
  uint64_t seed;
  sim_t *sim;
  power_t *power;
  store_t store;
  fact_t facts[FACTS_MAX];
  size_t fact_cnt;
  spec_t specs[SPECS_MAX]; /* found by a start */
  size_t spec_cnt;
  size_t at; /* the prefix that is looked at */
} world_t;

static fact_t *note(world_t *world, int asked, engine_request_t const *req) {
  assert_true(world->fact_cnt < FACTS_MAX);
  fact_t *fact = &world->facts[world->fact_cnt++];
  *fact = (fact_t){.at = power_cnt(world->power), .asked = asked, .method = req->method};
  /* the name is the first field of each of these */
  snprintf(fact->name, sizeof(fact->name), "%.39s", req->u.del.name);
  if (req->call_id_len) memcpy(fact->call_id, req->call_id, sizeof(fact->call_id));
  return fact;
}

static void on_persist(void *arg, spec_t const *spec) {
  world_t *world = arg;
  char detail[STORE_DETAIL_MAX];
  assert_int_equal(store_put(&world->store, spec, detail), 0);
}

static void on_remove(void *arg, uint64_t ws_id) {
  world_t *world = arg;
  char detail[STORE_DETAIL_MAX];
  assert_int_equal(store_remove(&world->store, ws_id, detail), 0);
}

static void on_ids(void *arg, uint64_t ws_id, uint64_t lease_id) {
  world_t *world = arg;
  assert_int_equal(store_ids_cover(&world->store, ws_id, lease_id), 0);
}

static void on_sent(void *arg, engine_request_t const *req) {
  note(arg, 1, req);
}

static void on_reply(void *arg, sim_request_t const *request) {
  if (request->reply.code != ENGINE_CODE_OK) return;
  fact_t *fact = note(arg, 0, &request->req);
  fact->ws_id = request->req.method == ENGINE_DELETE ? request->target : request->view.spec.ws_id;
  fact->size = request->view.spec.size;
  if (request->req.method == ENGINE_OPEN) fact->lease_id = request->reply.u.open.lease_id;
}

/* What clients do
 * ------------------------------------------------------------------------------------------------
 */

static void one_request(world_t *world, uint64_t conn) {
  static int const methods[] = {ENGINE_CREATE, ENGINE_CREATE, ENGINE_DELETE, ENGINE_RESIZE,
                                ENGINE_OPEN};
  sim_t *sim = world->sim;
  engine_request_t req = {.method = methods[sim_random(sim) % 5]};

  snprintf(req.u.del.name, sizeof(req.u.del.name), "ws-%lu", sim_random(sim) % NAMES);
  if (sim_chance(sim, 2)) {
    uint64_t random = sim_random(sim);
    req.call_id_len = SPEC_CALL_ID_SIZE;
    memcpy(req.call_id, &random, sizeof(random));
  }
  if (req.method == ENGINE_CREATE) {
    req.u.create.size = 1UL << 20;
    req.u.create.max_size = 4UL << 20;
  } else if (req.method == ENGINE_DELETE) {
    req.u.del.force = sim_chance(sim, 2);
  } else if (req.method == ENGINE_RESIZE) {
    req.u.resize.size = 4096 + sim_random(sim) % (4UL << 20);
  }
  sim_send(sim, conn, &req, 0);
}

static void work(world_t *world) {
  sim_t *sim = world->sim;
  uint64_t conn = sim_conn(sim, OWNER, OWNER);
  for (int i = 0; i < TURNS; i++) {
    one_request(world, conn);
    /* several under way at a time, answered in any order */
    while (sim->pending.cnt > 2 || (sim->pending.cnt && !sim_chance(sim, 3)))
      sim_answer(sim, sim_random(sim) % sim->pending.cnt,
                 sim_chance(sim, 12) && sim->pending.items[0].answer > SIM_REMOVED);
    for (size_t k = 0; k < sim->lifelines.cnt; k++) {
      if (!sim->lifelines.items[k].with_client || !sim_chance(sim, 3)) continue;
      sim_hangup(sim, sim->lifelines.items[k].lease_id);
      break;
    }
  }
  sim_settle(sim);
}

/* What a start finds
 * ------------------------------------------------------------------------------------------------
 */

#define BROKEN(world, ...)                                                     \
  do {                                                                         \
    print_message("# behind call %zu (%s), WKSP_TEST_SEED=%lu\n", (world)->at, \
                  power_call((world)->power, (world)->at), (world)->seed);     \
    fail_msg(__VA_ARGS__);                                                     \
  } while (0)

static void on_spec(void *arg, uint64_t ws_id, spec_t const *spec, int bad_line) {
  world_t *world = arg;
  if (!spec) BROKEN(world, "the spec of %lu cannot be read in line %d", ws_id, bad_line);
  assert_true(world->spec_cnt < SPECS_MAX);
  world->specs[world->spec_cnt++] = *spec;
}

static spec_t const *found(world_t const *world, uint64_t ws_id) {
  for (size_t i = 0; i < world->spec_cnt; i++)
    if (world->specs[i].ws_id == ws_id) return &world->specs[i];
  return NULL;
}

/* Whether it had been asked, between two facts, to do that to the workspace of this name. */
static int asked(world_t const *world, size_t from, char const *name, int method) {
  for (size_t i = from; i < world->fact_cnt && world->facts[i].at <= world->at; i++) {
    fact_t const *fact = &world->facts[i];
    if (fact->asked && fact->method == method && !strcmp(fact->name, name)) return 1;
  }
  return 0;
}

static void check_told(world_t *world, store_t const *store, size_t i) {
  static uint8_t const none[SPEC_CALL_ID_SIZE];
  fact_t const *fact = &world->facts[i];
  spec_t const *spec = found(world, fact->ws_id);
  int ready = spec && spec->state == SPEC_READY;

  if (fact->method == ENGINE_OPEN && fact->lease_id > store->lease_reserved)
    BROKEN(world, "lease %lu was given out and would be again", fact->lease_id);
  if (fact->method == ENGINE_CREATE && !spec && fact->ws_id > store->ws_reserved)
    BROKEN(world, "id %lu was given out and would be again", fact->ws_id);
  if (fact->method == ENGINE_DELETE && ready) BROKEN(world, "removed %lu is back", fact->ws_id);
  if (fact->method == ENGINE_DELETE && memcmp(fact->call_id, none, sizeof(none)) != 0 &&
      !(spec && spec_done_find(spec, fact->call_id)))
    BROKEN(world, "that %lu was removed is not remembered", fact->ws_id);
  if (fact->method != ENGINE_CREATE && fact->method != ENGINE_RESIZE) return;
  if (asked(world, i, fact->name, ENGINE_DELETE)) return;
  if (!ready || strcmp(spec->name, fact->name) != 0) BROKEN(world, "%lu is lost", fact->ws_id);
  if (fact->size != spec->size && !asked(world, i, fact->name, ENGINE_RESIZE))
    BROKEN(world, "%lu has %lu bytes, not %lu", fact->ws_id, spec->size, fact->size);
}

static void step(world_t *world, engine_t *engine, engine_update_t *update, engine_event_t *event) {
  event->now_mono_ns = event->now_real_ns = 1;
  if (engine_step(engine, event, update) || engine_check(engine))
    BROKEN(world, "the engine does not start: event %d, %s", event->kind, engine_check(engine));
}

/* A start as the daemon makes it, without memory: READY is lost, the rest is undone. */
static void start(world_t *world, store_t const *store) {
  engine_t *engine = engine_new();
  engine_update_t update = {0};
  engine_event_t event = {.kind = ENGINE_EV_START};
  char detail[STORE_DETAIL_MAX];

  event.u.start.ws_id_high = store->ws_reserved;
  step(world, engine, &update, &event);
  for (size_t i = 0; i < world->spec_cnt; i++) {
    spec_t const *spec = &world->specs[i];
    if (spec->state == SPEC_READY) {
      assert_int_equal(store_lose(store, spec->ws_id, detail), 0);
      continue;
    }
    event = (engine_event_t){.kind = ENGINE_EV_RECOVERED_WORKSPACE};
    event.u.recovered_workspace.spec = *spec;
    event.u.recovered_workspace.spec_known = 1;
    step(world, engine, &update, &event);
  }
  assert_int_equal(store_lost_end(store, detail), 0);
  event = (engine_event_t){.kind = ENGINE_EV_RECOVERED_END};
  step(world, engine, &update, &event);
  for (size_t i = 0; i < update.effect_cnt; i++) {
    if (update.effects[i].kind == ENGINE_FX_UNPERSIST)
      assert_int_equal(store_remove(store, update.effects[i].u.workspace.ws_id, detail), 0);
    if (update.effects[i].kind == ENGINE_FX_RETIRE)
      assert_int_equal(store_put(store, &update.effects[i].u.persist, detail), 0);
  }
  engine_update_free(&update);
  engine_free(engine);
}

static void restart(world_t *world) {
  char error[CONFIG_ERROR_MAX];
  store_t store;

  world->spec_cnt = 0;
  if (store_open(&store, world->to, error)) BROKEN(world, "no start: %s", error);
  if (store.ids_lost == STORE_IDS_DAMAGED) BROKEN(world, "the ids are damaged");
  assert_int_equal(store_each(&store, on_spec, world), 0);
  for (size_t i = 0; i < world->spec_cnt; i++)
    for (size_t k = 0; k < i; k++)
      if (world->specs[i].state == SPEC_READY && world->specs[k].state == SPEC_READY &&
          !strcmp(world->specs[i].name, world->specs[k].name))
        BROKEN(world, "two are called %s", world->specs[i].name);
  for (size_t i = 0; i < world->fact_cnt && world->facts[i].at <= world->at; i++)
    if (!world->facts[i].asked) check_told(world, &store, i);
  start(world, &store);
  world->spec_cnt = 0;
  assert_int_equal(store_each(&store, on_spec, world), 0);
  for (size_t i = 0; i < world->spec_cnt; i++)
    if (world->specs[i].state != SPEC_GONE)
      BROKEN(world, "the spec of %lu is left by the start", world->specs[i].ws_id);
  store_close(&store);
}

static void remove_folder(char const *path) {
  char command[128];
  snprintf(command, sizeof(command), "rm -r '%s'", path);
  assert_int_equal(system(command), 0);
}

/* Whatever reached the disk before the power failed, a start reads all of it, and everything that a
   client had been told is so. */
static void test_power(void **state) {
  char const *text = getenv("WKSP_TEST_SEED");
  world_t *world = calloc(1, sizeof(*world));
  char error[CONFIG_ERROR_MAX];
  assert_non_null(world);
  world->seed = text && *text ? strtoull(text, NULL, 10) : (uint64_t)getpid();
  print_message("# seed %lu (again with WKSP_TEST_SEED=%lu)\n", world->seed, world->seed);
  strcpy(world->from, "/tmp/wkspd-power-XXXXXX");
  strcpy(world->to, "/tmp/wkspd-power-XXXXXX");
  assert_true(mkdtemp(world->from) && mkdtemp(world->to));

  world->power = power_new(world->from);
  assert_int_equal(store_open(&world->store, world->from, error), 0);
  world->sim = sim_new(world->seed, NULL);
  world->sim->hooks = (sim_hooks_t){world, on_persist, on_remove, on_ids, on_sent, on_reply};
  work(world);
  power_stop(world->power);
  store_close(&world->store);

  uint64_t random = world->seed;
  for (world->at = 0; world->at <= power_cnt(world->power); world->at++)
    for (int how = POWER_GONE; how < POWER_MIXED + MIXTURES; how++) {
      power_fail(world->power, world->at, how < POWER_MIXED ? how : POWER_MIXED, &random,
                 world->to);
      restart(world);
    }
  size_t told = 0;
  for (size_t i = 0; i < world->fact_cnt; i++) told += !world->facts[i].asked;
  print_message("# %zu calls, %zu answers\n", power_cnt(world->power), told);
  assert_true(power_cnt(world->power) > TURNS && told > TURNS / 8);
  sim_free(world->sim);
  power_free(world->power);
  remove_folder(world->from);
  remove_folder(world->to);
  free(world);
}

int main(void) {
  struct CMUnitTest const tests[] = {cmocka_unit_test(test_power)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
