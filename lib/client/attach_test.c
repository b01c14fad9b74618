/* Attaching against a scripted peer that hands out a real memory: how mappings and leases are
   counted, who keeps them, and what a forked child has of them. */

#include "client/test_bed.h"

#include "core/call.h"
#include "wksp/fd_alloc.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Life
 * ---------------------------------------------------------------------------------------------- */

/* Attach maps the memory at a multiple of 2 MiB and joins: partitions and blocks can be had; the
 * descriptor of the memory is closed, the lifeline stays until the detach, which unmaps. */
static void attach_and_detach(void **state) {
  bed_t *bed = *state;
  bed_serve(bed, (bed_serve_t){.cnt = 1});
  fd_wksp_t *wksp = wksp_client_attach(bed->client, "w", WKSP_ATTACH_RW);
  if (!wksp) fail_msg("%s", wksp_last_error());
  bed_served(bed);
  assert_int_equal((ulong)wksp % (2UL << 20), 0);
  assert_string_equal(fd_wksp_name(wksp), "w");
  assert_int_equal(fd_wksp_seed(wksp), 11);
  assert_int_equal(peer_fd_count(), bed->fds + 2); /* the lifeline's two ends */
  uchar uuid[16];
  assert_int_equal(wksp_attached_uuid(wksp, uuid), 0);
  assert_memory_equal(uuid, bed->memory.uuid, 16);

  ulong gaddr = fd_wksp_alloc(wksp, 0, 10000, 5);
  assert_int_not_equal(gaddr, 0);
  memset(fd_wksp_laddr(wksp, gaddr), 0x5a, 10000);
  uint8_t byte;
  assert_int_equal(pread(bed->memory.fd, &byte, 1, (off_t)gaddr + 9999), 1);
  assert_int_equal(byte, 0x5a);
  fd_alloc_t *alloc = fd_alloc_join(
      fd_alloc_new(fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), 6), 6), 0);
  assert_non_null(alloc);
  void *block = fd_alloc_malloc(alloc, 0, 100);
  assert_non_null(block);
  fd_alloc_free(alloc, block);
  assert_int_equal(fd_wksp_verify(wksp, NULL, NULL), 0);
  assert_false(bed_lease_ended(bed, 0));
  assert_int_equal(fd_wksp_detach(wksp), 0);
  assert_true(bed_lease_ended(bed, 0));
  assert_int_equal(peer_fd_count(), bed->fds + 1);
  assert_int_equal(msync(wksp, 4096, MS_ASYNC), -1);
  assert_int_equal(errno, ENOMEM);
  assert_int_equal(fd_wksp_detach(wksp), WKSP_E_INVAL);
  assert_int_equal(wksp_attached_uuid(wksp, uuid), WKSP_E_INVAL);
}

/* A slot that a thread claims in an attached workspace carries the lease that the daemon gave. */
static void lease_is_known_to_slots(void **state) {
  bed_t *bed = *state;
  bed->memory.lease_cnt = 4; /* the next lease is 5 */
  for (int i = 0; i < 4; i++) bed->memory.leases[i] = dup(bed->memory.fd);
  bed_serve(bed, (bed_serve_t){.cnt = 1});
  fd_wksp_t *wksp = wksp_client_attach(bed->client, "w", WKSP_ATTACH_RW);
  assert_non_null(wksp);
  bed_served(bed);
  assert_int_not_equal(fd_wksp_alloc(wksp, 0, 64, 1), 0);
  int found = 0;
  for (uint32_t i = 0; i < wksp->slot_max; i++) {
    uint64_t claim = wksp__slots(wksp)[i].claim;
    if ((claim & 3) == WKSP_SLOT_HELD) found += (claim >> 2 & 0x3fffffffUL) == 5;
  }
  assert_int_equal(found, 1);
  assert_int_equal(fd_wksp_detach(wksp), 0);
}

/* Read-only attaches map the read-only descriptor: reading works, changing is E_RDONLY, and both
 * ways may be attached at a time. */
static void read_only(void **state) {
  bed_t *bed = *state;
  bed_serve(bed, (bed_serve_t){.cnt = 2});
  fd_wksp_t *rw = wksp_client_attach(bed->client, "w", WKSP_ATTACH_RW);
  fd_wksp_t *ro = wksp_client_attach(bed->client, "w", WKSP_ATTACH_RO);
  assert_non_null(rw);
  assert_non_null(ro);
  bed_served(bed);
  assert_ptr_not_equal(rw, ro);
  ulong gaddr = fd_wksp_alloc(rw, 0, 64, 1);
  assert_int_equal(fd_wksp_root_set(rw, "here", gaddr, 1), 0);
  fd_wksp_root_t root;
  assert_int_equal(fd_wksp_root_find(ro, "here", &root), 0);
  assert_int_equal(root.gaddr, gaddr);
  assert_int_equal(fd_wksp_alloc(ro, 0, 64, 1), 0);
  assert_int_equal(wksp_last_error_code(), WKSP_E_RDONLY);
  assert_int_equal(mprotect(ro, 4096, PROT_READ | PROT_WRITE), -1);
  assert_int_equal(errno, EACCES);
  assert_int_equal(fd_wksp_detach(rw), 0);
  assert_true(bed_lease_ended(bed, 0));
  assert_false(bed_lease_ended(bed, 1));
  assert_int_equal(fd_wksp_root_find(ro, "here", &root), 0);
  assert_int_equal(fd_wksp_detach(ro), 0);
  assert_true(bed_lease_ended(bed, 1));
}

/* Further attaches of a workspace share the mapping and give their own lease back; the last detach
 * unmaps. */
static void attaches_count(void **state) {
  bed_t *bed = *state;
  bed_serve(bed, (bed_serve_t){.cnt = 3});
  fd_wksp_t *wksp = wksp_client_attach(bed->client, "w", WKSP_ATTACH_RW);
  assert_non_null(wksp);
  assert_ptr_equal(wksp_client_attach(bed->client, "w", WKSP_ATTACH_RW), wksp);
  assert_ptr_equal(wksp_client_attach(bed->client, "w", WKSP_ATTACH_RW), wksp);
  bed_served(bed);
  assert_true(bed_lease_ended(bed, 1));
  assert_true(bed_lease_ended(bed, 2));
  for (int i = 0; i < 2; i++) {
    assert_int_equal(fd_wksp_detach(wksp), 0);
    assert_false(bed_lease_ended(bed, 0));
    assert_int_not_equal(fd_wksp_alloc(wksp, 0, 64, 1), 0);
  }
  assert_int_equal(fd_wksp_detach(wksp), 0);
  assert_true(bed_lease_ended(bed, 0));
  assert_int_equal(peer_fd_count(), bed->fds + 3);
  assert_int_equal(fd_wksp_detach(wksp), WKSP_E_INVAL);
  assert_int_equal(fd_wksp_detach(NULL), 0);
}

typedef struct holder {
  fd_wksp_t *wksp;
  sem_t has_slot, may_end;
  int got;
} holder_t;

static void wait_sem(sem_t *sem) {
  while (sem_wait(sem) < 0 && errno == EINTR) continue;
}

static void *hold_slot(void *arg) {
  holder_t *holder = arg;
  holder->got = fd_wksp_alloc(holder->wksp, 0, 64, 1) != 0;
  (void)sem_post(&holder->has_slot);
  wait_sem(&holder->may_end);
  return NULL;
}

/* While a thread still holds a slot the mapping and the lease outlast the last detach; a new attach
 * in between gets its own. */
static void threads_outlast_detach(void **state) {
  bed_t *bed = *state;
  bed_serve(bed, (bed_serve_t){.cnt = 2});
  holder_t holder = {.wksp = wksp_client_attach(bed->client, "w", WKSP_ATTACH_RW)};
  assert_non_null(holder.wksp);
  assert_int_equal(sem_init(&holder.has_slot, 0, 0), 0);
  assert_int_equal(sem_init(&holder.may_end, 0, 0), 0);
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, hold_slot, &holder), 0);
  wait_sem(&holder.has_slot);
  assert_true(holder.got);
  assert_int_equal(fd_wksp_detach(holder.wksp), 0);
  assert_false(bed_lease_ended(bed, 0));
  assert_int_equal(msync(holder.wksp, 4096, MS_ASYNC), 0);
  assert_int_equal(fd_wksp_detach(holder.wksp), WKSP_E_INVAL);
  fd_wksp_t *again = wksp_client_attach(bed->client, "w", WKSP_ATTACH_RW);
  assert_non_null(again);
  assert_ptr_not_equal(again, holder.wksp);
  (void)sem_post(&holder.may_end);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_true(bed_lease_ended(bed, 0));
  assert_false(bed_lease_ended(bed, 1));
  assert_int_equal(msync(holder.wksp, 4096, MS_ASYNC), -1);
  assert_int_equal(fd_wksp_detach(again), 0);
  bed_served(bed);
  (void)sem_destroy(&holder.has_slot);
  (void)sem_destroy(&holder.may_end);
}

#define RACERS 4
#define RACES  10

static void *attach_many(void *arg) {
  bed_t *bed = arg;
  long ok = 0;
  for (int i = 0; i < RACES; i++) {
    fd_wksp_t *wksp = wksp_client_attach(bed->client, "w", WKSP_ATTACH_RW);
    if (!wksp) continue;
    ulong gaddr = fd_wksp_alloc(wksp, 0, 64, 1);
    ok += gaddr && fd_wksp_free(wksp, gaddr) == 0 && fd_wksp_detach(wksp) == 0;
  }
  return (void *)ok;
}

/* Threads that attach and detach the same workspace at the same time never see each other's mapping
 * vanish, and leave nothing behind. */
static void attach_races(void **state) {
  bed_t *bed = *state;
  bed_serve(bed, (bed_serve_t){.cnt = RACERS * RACES});
  pthread_t threads[RACERS];
  for (int i = 0; i < RACERS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, attach_many, bed), 0);
  for (int i = 0; i < RACERS; i++) {
    void *ok;
    assert_int_equal(pthread_join(threads[i], &ok), 0);
    assert_int_equal((long)ok, RACES);
  }
  bed_served(bed);
  for (int i = 0; i < RACERS * RACES; i++) assert_true(bed_lease_ended(bed, i));
  assert_int_equal(peer_fd_count(), bed->fds + RACERS * RACES);
}

/* fd_wksp_attach goes to the default socket, by a client of the process's own; a forked child's is
 * not its parent's. */
static void attach_by_default(void **state) {
  bed_t *bed = *state;
  assert_int_equal(setenv("WKSPD_SOCKET", bed->peer.path, 1), 0);
  bed->serve = (bed_serve_t){.memory = &bed->memory, .cnt = 3, .accept_at = 3};
  peer_start(&bed->peer, bed_script, &bed->serve);
  fd_wksp_t *wksp = fd_wksp_attach("w");
  if (!wksp) fail_msg("%s", wksp_last_error());
  assert_ptr_equal(fd_wksp_attach("w"), wksp);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) {
    fd_wksp_t *own = fd_wksp_attach("w");
    int ok = own && own != wksp && fd_wksp_detach(own) == 0;
    _exit(ok ? 0 : 1);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  assert_int_equal(fd_wksp_detach(wksp), 0);
  assert_int_equal(fd_wksp_detach(wksp), 0);
  peer_join(&bed->peer);
  assert_int_equal(unsetenv("WKSPD_SOCKET"), 0);
}

/* Fork
 * ---------------------------------------------------------------------------------------------- */

/* A child of fork does not hold its parent's leases: they end with the parent's detach although the
 * child lives and still maps the memory. */
static void child_holds_no_lease(void **state) {
  bed_t *bed = *state;
  bed_serve(bed, (bed_serve_t){.cnt = 1});
  fd_wksp_t *wksp = wksp_client_attach(bed->client, "w", WKSP_ATTACH_RW);
  assert_non_null(wksp);
  bed_served(bed);
  int hold[2], told[2];
  assert_int_equal(pipe(hold), 0);
  assert_int_equal(pipe(told), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (!pid) {
    (void)close(hold[1]);
    char byte = 'r';
    if (write(told[1], &byte, 1) != 1) _exit(1);
    if (read(hold[0], &byte, 1) != 0) _exit(2);
    if (strcmp(fd_wksp_name(wksp), "w") != 0) _exit(3);
    _exit(fd_wksp_detach(wksp) == 0 && fd_wksp_detach(wksp) == WKSP_E_INVAL ? 0 : 4);
  }
  char byte;
  assert_int_equal(read(told[0], &byte, 1), 1);
  assert_false(bed_lease_ended(bed, 0));
  assert_int_equal(fd_wksp_detach(wksp), 0);
  assert_true(bed_lease_ended(bed, 0));
  (void)close(hold[1]);
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  (void)close(hold[0]);
  (void)close(told[0]);
  (void)close(told[1]);
}

#define FORKS 40

static void *fork_many(void *arg) {
  long ok = 0;
  for (int i = 0; i < FORKS; i++) {
    pid_t pid = fork();
    /* A child whose locks were left locked would never end here. */
    if (!pid) _exit(fd_wksp_detach((fd_wksp_t *)64) == WKSP_E_INVAL ? 0 : 1);
    int status;
    ok += pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
  }
  return (void *)ok;
}

/* Forks at any moment of attaches and detaches of other threads make sound children. */
static void fork_races(void **state) {
  bed_t *bed = *state;
  bed_serve(bed, (bed_serve_t){.cnt = 2 * RACES});
  pthread_t forker, attachers[2];
  assert_int_equal(pthread_create(&attachers[0], NULL, attach_many, bed), 0);
  assert_int_equal(pthread_create(&attachers[1], NULL, attach_many, bed), 0);
  assert_int_equal(pthread_create(&forker, NULL, fork_many, NULL), 0);
  void *ok;
  assert_int_equal(pthread_join(forker, &ok), 0);
  assert_int_equal((long)ok, FORKS);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(pthread_join(attachers[i], &ok), 0);
    assert_int_equal((long)ok, RACES);
  }
  bed_served(bed);
  for (int i = 0; i < 2 * RACES; i++) assert_true(bed_lease_ended(bed, i));
}

int main(void) {
  struct CMUnitTest const tests[] = {
      cmocka_unit_test_setup_teardown(attach_and_detach, bed_setup, bed_teardown),
      cmocka_unit_test_setup_teardown(lease_is_known_to_slots, bed_setup, bed_teardown),
      cmocka_unit_test_setup_teardown(read_only, bed_setup, bed_teardown),
      cmocka_unit_test_setup_teardown(attaches_count, bed_setup, bed_teardown),
      cmocka_unit_test_setup_teardown(threads_outlast_detach, bed_setup, bed_teardown),
      cmocka_unit_test_setup_teardown(attach_races, bed_setup, bed_teardown),
      cmocka_unit_test_setup_teardown(child_holds_no_lease, bed_setup, bed_teardown),
      cmocka_unit_test_setup_teardown(fork_races, bed_setup, bed_teardown),
      cmocka_unit_test_setup_teardown(attach_by_default, bed_setup, bed_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
