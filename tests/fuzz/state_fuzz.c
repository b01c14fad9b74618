/* A fuzzer's bytes as what stands in a file that the daemon reads: a spec or a schedule of the
   state folder, its configuration, or a file that declares a workspace; the first byte says which.

   A spec or schedule that is taken is one that is written, byte for byte. Configuration that is
   taken lies within its bounds; what is refused is refused with a sentence that names the file.

   Built by clang with libFuzzer: state_fuzz [options] CORPUS runs it, state_fuzz FILE... replays.
 */

#include "daemon/core/crc.h"
#include "daemon/core/schedule.h"
#include "daemon/core/spec.h"
#include "daemon/shell/config.h"
#include "daemon/shell/declared.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void must(int holds, char const *what) {
  if (holds) return;
  fprintf(stderr, "not so: %s\n", what);
  abort();
}

static int file = -1;
static char path[64];

static void put_file(uint8_t const *data, size_t size) {
  if (file < 0) {
    file = memfd_create("fuzz", MFD_CLOEXEC);
    must(file >= 0, "there are memfds");
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  }
  must(!ftruncate(file, 0) && pwrite(file, data, size, 0) == (ssize_t)size, "it can be written");
}

/* The bytes and, in place of their last line, the checksum of what is before it, which no fuzzer
   guesses; to be freed. */
static char *seal(uint8_t const *data, size_t size, size_t *ret_len) {
  char *copy = malloc(size + 16);
  must(copy != NULL, "there is memory");
  memcpy(copy, data, size);
  size_t len = size;
  while (len && (len == size || copy[len - 1] != '\n')) len--;
  *ret_len = len + (size_t)snprintf(copy + len, 16, "crc=%08x\n", crc_of(copy, len));
  return copy;
}

static void spec(uint8_t const *data, size_t size) {
  char text[SPEC_TEXT_MAX];
  spec_t got;
  char *sealed = seal(data, size, &size);
  if (!spec_decode(sealed, size, &got)) {
    must(!spec_check(&got), "a spec that is taken is sound");
    int len = spec_encode(&got, text);
    must(len > 0, "a spec that is taken can be written");
  }
  free(sealed);
}

static void schedule(uint8_t const *data, size_t size) {
  char text[SCHEDULE_TEXT_MAX];
  schedule_t got;
  char *sealed = seal(data, size, &size);
  if (!schedule_decode(sealed, size, &got)) {
    must(!schedule_check(&got), "a schedule that is taken is sound");
    int len = schedule_encode(&got, text);
    must(len == (int)size && !memcmp(text, sealed, size), "what is taken is what is written");
    uint64_t now = got.anchor_ns;
    schedule_run_t run = {.begin_ns = now, .end_ns = now, .by = SCHEDULE_BY_SLOT, .code = 13};
    schedule_settle(&got, now);
    schedule_note(&got, &run);
    must(!schedule_check(&got), "a schedule that goes on is sound");
  }
  free(sealed);
}

static void config(uint8_t const *data, size_t size) {
  static config_t got;
  char error[CONFIG_ERROR_MAX] = "";
  memset(&got, 0, sizeof got);
  put_file(data, size);
  int bad = config_file(&got, path, error);
  must(bad == 0 || bad == 2, "a file is read or refused");
  must(!bad == !error[0], "a refusal has a sentence");
  must(!bad || !strncmp(error, path, strlen(path)) || strstr(error, path),
       "a refusal names the file");
  must(got.workers <= CONFIG_WORKERS_MAX, "workers are bounded");
  must(got.uid_workspaces <= CONFIG_UID_WORKSPACES_MAX, "workspaces are bounded");
  must(memchr(got.socket, 0, sizeof got.socket) && memchr(got.state_dir, 0, sizeof got.state_dir),
       "paths end");
}

static void declared(uint8_t const *data, size_t size) {
  declared_t got;
  char error[CONFIG_ERROR_MAX] = "";
  memset(&got, 0, sizeof got);
  put_file(data, size);
  if (declared_file(path, "w", &got, error)) {
    must(error[0] != '\0', "a refusal has a sentence");
    return;
  }
  must(got.size && got.max_size >= got.size && got.max_size <= SPEC_SIZE_MAX, "sizes are in order");
  must(got.mode && got.mode <= SPEC_MODE_MAX, "the mode is one");
}

int LLVMFuzzerTestOneInput(uint8_t const *data, size_t size);

int LLVMFuzzerTestOneInput(uint8_t const *data, size_t size) {
  if (!size) return 0;
  if (data[0] == 's') {
    schedule(data + 1, size - 1);
    return 0;
  }
  switch (data[0] % 3) {
  case 0:
    spec(data + 1, size - 1);
    break;
  case 1:
    config(data + 1, size - 1);
    break;
  default:
    declared(data + 1, size - 1);
  }
  return 0;
}
