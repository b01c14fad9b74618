/* store: a real folder, real files. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/shell/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct world {
  char dir[64];
  char error[CONFIG_ERROR_MAX];
  char detail[STORE_DETAIL_MAX];
  store_t store;
  unsigned good, bad;
  int last_line;
  spec_t last;
} world_t;

static int setup(void **state) {
  world_t *world = calloc(1, sizeof *world);
  strcpy(world->dir, "/tmp/wkspd-store-XXXXXX");
  assert_non_null(mkdtemp(world->dir));
  assert_int_equal(store_open(&world->store, world->dir, world->error), 0);
  *state = world;
  return 0;
}

static int teardown(void **state) {
  world_t *world = *state;
  char command[256];
  store_close(&world->store);
  snprintf(command, sizeof command, "chmod -R u+w %s; rm -r %s", world->dir, world->dir);
  assert_int_equal(system(command), 0);
  free(world);
  return 0;
}

static spec_t example(uint64_t id) {
  spec_t spec = {.ws_id = id,
                 .state = SPEC_MAKING,
                 .uuid = {(uint8_t)id},
                 .size = 1UL << 20,
                 .max_size = 1UL << 21,
                 .mode = 0600,
                 .created_ns = 1};
  snprintf(spec.name, sizeof spec.name, "ws%lu", id);
  return spec;
}

static void on_spec(void *arg, uint64_t ws_id, spec_t const *spec, int bad_line) {
  world_t *world = arg;
  if (spec) {
    assert_int_equal(spec->ws_id, ws_id);
    world->good++;
    world->last = *spec;
  } else {
    world->bad++;
    world->last_line = bad_line;
  }
}

static void look(world_t *world) {
  world->good = world->bad = 0;
  assert_int_equal(store_each(&world->store, on_spec, world), 0);
}

static void write_file(world_t *world, char const *name, char const *text) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", world->dir, name);
  FILE *file = fopen(path, "we");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
}

static int exists(world_t *world, char const *name) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", world->dir, name);
  return !access(path, F_OK);
}

/* What is put is found, put again replaces, removed is gone, and removing nothing is success. */
static void round_trip(void **state) {
  world_t *world = *state;
  spec_t spec = example(7);
  assert_int_equal(store_put(&world->store, &spec, world->detail), 0);
  spec.mode = 0777;
  assert_int_equal(store_put(&world->store, &spec, world->detail), 0);
  look(world);
  assert_int_equal(world->good, 1);
  assert_int_equal(world->last.mode, 0777);
  assert_string_equal(world->last.name, "ws7");
  assert_int_equal(store_remove(&world->store, 7, world->detail), 0);
  assert_int_equal(store_remove(&world->store, 7, world->detail), 0);
  look(world);
  assert_int_equal(world->good + world->bad, 0);
}

/* A damaged spec is set aside and told once; the others are told; what it became goes with remove.
 */
static void damaged(void **state) {
  world_t *world = *state;
  for (uint64_t id = 1; id <= 3; id++) {
    spec_t spec = example(id);
    assert_int_equal(store_put(&world->store, &spec, world->detail), 0);
  }
  write_file(world, "specs/2.spec", "wkspd-spec=1\nid=2\nstate=away\n");
  look(world);
  assert_int_equal(world->good, 2);
  assert_int_equal(world->bad, 1);
  assert_int_equal(world->last_line, 3);
  assert_true(exists(world, "specs/2.bad"));
  look(world);
  assert_int_equal(world->good, 2);
  assert_int_equal(world->bad, 0);
  assert_int_equal(store_remove(&world->store, 2, world->detail), 0);
  assert_false(exists(world, "specs/2.bad"));
}

/* What cannot be read only because descriptors are short is not set aside as damaged: the walk says
   so, and another one finds it. */
static void short_of_descriptors(void **state) {
  world_t *world = *state;
  struct rlimit was, few;
  spec_t spec = example(4);
  assert_int_equal(store_put(&world->store, &spec, world->detail), 0);
  int first = dup(STDERR_FILENO); /* as the folder will be: nothing is left for the file */
  assert_true(first >= 0);
  close(first);
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
  few = was;
  few.rlim_cur = (rlim_t)first + 1;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
  world->good = world->bad = 0;
  int err = store_each(&world->store, on_spec, world);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
  assert_int_equal(err, EMFILE);
  assert_int_equal(world->good + world->bad, 0);
  assert_true(exists(world, "specs/4.spec"));
  look(world);
  assert_int_equal(world->good, 1);
}

/* A spec whose name says another id, and one longer than any, are damaged; other files are left
 * alone; our own temporary files of a kill are removed. */
static void strange_files(void **state) {
  world_t *world = *state;
  char *longer = calloc(1, SPEC_TEXT_MAX + 100), path[256], other[256];
  spec_t spec = example(4);
  assert_int_equal(store_put(&world->store, &spec, world->detail), 0);
  snprintf(path, sizeof path, "%s/specs/4.spec", world->dir);
  snprintf(other, sizeof other, "%s/specs/5.spec", world->dir);
  assert_int_equal(rename(path, other), 0);
  memset(longer, 'x', SPEC_TEXT_MAX + 50);
  write_file(world, "specs/6.spec", longer);
  write_file(world, "specs/notes.txt", "mine");
  write_file(world, "specs/9.spec.tmp", "half");
  write_file(world, "specs/notes.tmp", "mine");
  free(longer);
  look(world);
  assert_int_equal(world->good, 0);
  assert_int_equal(world->bad, 2);
  assert_true(exists(world, "specs/5.bad"));
  assert_true(exists(world, "specs/6.bad"));
  assert_true(exists(world, "specs/notes.txt"));
  assert_true(exists(world, "specs/notes.tmp"));
  assert_false(exists(world, "specs/9.spec.tmp"));
}

static void reopen(world_t *world) {
  store_close(&world->store);
  assert_int_equal(store_open(&world->store, world->dir, world->error), 0);
}

/* Ids that were covered are beyond what a later opening starts from, also those of the first
 * format.
 */
static void ids(void **state) {
  world_t *world = *state;
  assert_int_equal(world->store.ws_reserved, 0);
  assert_int_equal(world->store.ids_lost, STORE_IDS_NONE);
  assert_int_equal(store_ids_cover(&world->store, 3, 0), 0);
  assert_int_equal(store_ids_cover(&world->store, 0, 9), 0);
  assert_int_equal(store_ids_cover(&world->store, 3 + STORE_WS_BLOCK, 9 + STORE_LEASE_BLOCK), 0);
  reopen(world);
  assert_int_equal(world->store.ids_lost, STORE_IDS_READ);
  assert_int_equal(world->store.ws_reserved, 3 + STORE_WS_BLOCK);
  assert_int_equal(world->store.lease_reserved, 9 + STORE_LEASE_BLOCK);
  write_file(world, "ids", "wkspd-ids=1\nws=3\nlease=4\n");
  reopen(world);
  assert_int_equal(world->store.ids_lost, STORE_IDS_READ);
  assert_int_equal(world->store.lease_reserved, 4);
}

/* Any bit of the file of ids that has changed, and any end that is missing, is noticed; the file is
   set aside and the folder opened without it. */
static void ids_damaged(void **state) {
  world_t *world = *state;
  char good[160], text[160], path[128];
  assert_int_equal(store_ids_cover(&world->store, 77, 1234), 0);
  snprintf(path, sizeof path, "%s/ids", world->dir);
  int fd = open(path, O_RDONLY);
  ssize_t len = read(fd, good, sizeof good - 1);
  close(fd);
  assert_true(len > 0);
  for (ssize_t bit = 0; bit < len * 8 + len; bit++) {
    memcpy(text, good, (size_t)len);
    text[len] = 0;
    if (bit < len * 8)
      text[bit / 8] ^= (char)(1 << bit % 8);
    else
      text[bit - len * 8] = 0;
    write_file(world, "ids", text);
    reopen(world);
    assert_int_equal(world->store.ids_lost, STORE_IDS_DAMAGED);
    assert_int_equal(world->store.ws_reserved + world->store.lease_reserved, 0);
    assert_true(exists(world, "ids.bad"));
    assert_false(exists(world, "ids"));
  }
}

/* Another process cannot open a folder in use, and is told whose it is. */
static void locked(void **state) {
  world_t *world = *state;
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) {
    store_t other;
    char owner[32];
    int bad = store_open(&other, world->dir, world->error);
    snprintf(owner, sizeof owner, "process %d", (int)getppid());
    _exit(bad && strstr(world->error, "in use") && strstr(world->error, owner) ? 0 : 1);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
}

/* A folder that cannot be written, and a path that is no folder, are refused by name. */
static void refused(void **state) {
  world_t *world = *state;
  store_t other = STORE_NONE;
  char path[128];
  write_file(world, "file", "");
  snprintf(path, sizeof path, "%s/file", world->dir);
  assert_int_equal(store_open(&other, path, world->error), 1);
  assert_non_null(strstr(world->error, path));
  snprintf(path, sizeof path, "%s/file/below", world->dir);
  assert_int_equal(store_open(&other, path, world->error), 1);
  assert_int_equal(store_open(&other, "/proc/wkspd-state", world->error), 1);
  assert_non_null(strstr(world->error, "/proc/wkspd-state"));
}

/* Opens the world's folder again: refused, and the sentence says this. */
static void refused_for(world_t *world, char const *path, char const *part) {
  store_t other = STORE_NONE;
  assert_int_equal(store_open(&other, path, world->error), 1);
  if (!strstr(world->error, path) || !strstr(world->error, part)) fail_msg("%s", world->error);
}

/* A state folder, and specs in it, that others can change or that is a link are refused by name; a
 * link above the folder is not. */
static void not_ours_alone(void **state) {
  world_t *world = *state;
  char path[192], link[128], uid[32];
  store_close(&world->store);
  snprintf(path, sizeof path, "%s/specs", world->dir);
  char const *folders[] = {world->dir, path};
  for (size_t i = 0; i < 2; i++) {
    for (mode_t bits = 0020; bits; bits = bits == 0020 ? 0002 : 0) {
      assert_int_equal(chmod(folders[i], 0700 | bits), 0);
      store_t other = STORE_NONE;
      assert_int_equal(store_open(&other, world->dir, world->error), 1);
      if (!strstr(world->error, folders[i]) ||
          !strstr(world->error, bits == 0020 ? "mode 0720" : "mode 0702")) {
        fail_msg("%s", world->error);
      }
    }
    assert_int_equal(chmod(folders[i], 0755), 0);
    if (!geteuid()) {
      assert_int_equal(chown(folders[i], 65534, (gid_t)-1), 0);
      store_t other = STORE_NONE;
      assert_int_equal(store_open(&other, world->dir, world->error), 1);
      snprintf(uid, sizeof uid, "belongs to uid %d", 65534);
      if (!strstr(world->error, uid)) fail_msg("%s", world->error);
      assert_int_equal(chown(folders[i], 0, (gid_t)-1), 0);
    }
  }

  snprintf(link, sizeof link, "%s/link", world->dir);
  assert_int_equal(symlink(world->dir, link), 0);
  refused_for(world, link, "symbolic link");
  snprintf(path, sizeof path, "%s/", link);
  store_t other = STORE_NONE;
  assert_int_equal(store_open(&other, path, world->error), 1);
  assert_non_null(strstr(world->error, "symbolic link"));

  snprintf(path, sizeof path, "%s/link/below", world->dir);
  assert_int_equal(store_open(&world->store, path, world->error), 0);
}

/* A link in the place of specs is refused, and what is behind it is left alone. */
static void linked_specs(void **state) {
  world_t *world = *state;
  char specs[128], victim[128];
  store_close(&world->store);
  snprintf(specs, sizeof specs, "%s/specs", world->dir);
  snprintf(victim, sizeof victim, "%s/victim", world->dir);
  assert_int_equal(rename(specs, victim), 0);
  write_file(world, "victim/9.spec.tmp", "mine");
  assert_int_equal(symlink(victim, specs), 0);
  store_t other = STORE_NONE;
  assert_int_equal(store_open(&other, world->dir, world->error), 1);
  assert_non_null(strstr(world->error, specs));
  assert_non_null(strstr(world->error, "symbolic link"));
  assert_true(exists(world, "victim/9.spec.tmp"));
  assert_int_equal(unlink(specs), 0);
  assert_int_equal(rename(victim, specs), 0);
  assert_int_equal(store_open(&world->store, world->dir, world->error), 0);
}

/* Lost specs are set aside and not told any more; the last STORE_LOST_MAX of them are kept whole.
 */
static void lost(void **state) {
  world_t *world = *state;
  char name[64], text[SPEC_TEXT_MAX], kept[SPEC_TEXT_MAX], path[128];
  unsigned over = 7;
  for (uint64_t id = 1; id <= STORE_LOST_MAX + over; id++) {
    spec_t spec = example(id);
    assert_int_equal(store_put(&world->store, &spec, world->detail), 0);
  }
  /* those of before are older, whatever their ids */
  for (uint64_t id = STORE_LOST_MAX + over; id > over; id--) {
    assert_int_equal(store_lose(&world->store, id, world->detail), 0);
  }
  assert_int_equal(store_lost_end(&world->store, world->detail), 0);
  for (uint64_t id = over + 1; id <= STORE_LOST_MAX + over; id++) {
    snprintf(name, sizeof name, "specs/%lu.lost", id);
    assert_true(exists(world, name));
  }
  for (uint64_t id = 1; id <= over; id++) {
    assert_int_equal(store_lose(&world->store, id, world->detail), 0);
  }
  assert_int_equal(store_lost_end(&world->store, world->detail), 0);
  unsigned cnt = 0;
  for (uint64_t id = 1; id <= STORE_LOST_MAX + over; id++) {
    snprintf(name, sizeof name, "specs/%lu.lost", id);
    if (exists(world, name))
      cnt++;
    else
      assert_true(id > over);
  }
  assert_int_equal(cnt, STORE_LOST_MAX);
  look(world);
  assert_int_equal(world->good + world->bad, 0);

  spec_t spec = example(3);
  int len = spec_encode(&spec, text);
  snprintf(path, sizeof path, "%s/specs/3.lost", world->dir);
  FILE *file = fopen(path, "re");
  assert_non_null(file);
  assert_int_equal(fread(kept, 1, sizeof kept, file), (size_t)len);
  fclose(file);
  assert_memory_equal(kept, text, (size_t)len);
  assert_int_equal(store_lose(&world->store, 3, world->detail), ENOENT);
  assert_non_null(strstr(world->detail, "3.spec"));
}

/* A failing write says which call on which file failed, and leaves the old spec and no temporary
 * file. */
static void failing_write(void **state) {
  world_t *world = *state;
  spec_t spec = example(1);
  assert_int_equal(store_put(&world->store, &spec, world->detail), 0);
  int specs = world->store.specs_fd;
  world->store.specs_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  spec.mode = 0777;
  assert_int_not_equal(store_put(&world->store, &spec, world->detail), 0);
  assert_non_null(strstr(world->detail, "1.spec"));
  close(world->store.specs_fd);
  world->store.specs_fd = specs;
  spec.name[0] = '\0';
  assert_int_equal(store_put(&world->store, &spec, world->detail), EINVAL);
  look(world);
  assert_int_equal(world->good, 1);
  assert_int_equal(world->last.mode, 0600);
}

/* A folder without stores is known for one; one that cannot be read is not taken for it. */
static void no_ckpts(void **state) {
  world_t *world = *state;
  assert_int_equal(store_ckpts_none(&world->store), 1);
  int fd = store_ckpts(&world->store, 17, 1), all = world->store.ckpts_fd;
  assert_true(fd >= 0);
  close(fd);
  assert_int_equal(store_ckpts_none(&world->store), 0);
  assert_int_equal(unlinkat(all, "17", AT_REMOVEDIR), 0);
  assert_int_equal(store_ckpts_none(&world->store), 1);
  world->store.ckpts_fd = -1;
  assert_int_equal(store_ckpts_none(&world->store), 0);
  world->store.ckpts_fd = all;
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test_setup_teardown(round_trip, setup, teardown),
      cmocka_unit_test_setup_teardown(damaged, setup, teardown),
      cmocka_unit_test_setup_teardown(short_of_descriptors, setup, teardown),
      cmocka_unit_test_setup_teardown(strange_files, setup, teardown),
      cmocka_unit_test_setup_teardown(ids, setup, teardown),
      cmocka_unit_test_setup_teardown(ids_damaged, setup, teardown),
      cmocka_unit_test_setup_teardown(locked, setup, teardown),
      cmocka_unit_test_setup_teardown(refused, setup, teardown),
      cmocka_unit_test_setup_teardown(not_ours_alone, setup, teardown),
      cmocka_unit_test_setup_teardown(linked_specs, setup, teardown),
      cmocka_unit_test_setup_teardown(lost, setup, teardown),
      cmocka_unit_test_setup_teardown(failing_write, setup, teardown),
      cmocka_unit_test_setup_teardown(no_ckpts, setup, teardown),
  };
  return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
