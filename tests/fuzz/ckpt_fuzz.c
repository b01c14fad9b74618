/* A fuzzer's bytes as a file of a checkpoint: the first says whether as a manifest or as a pack,
   the rest is the file. What a manifest says is then looked at as a restore would. Checksums are
   taken for right (WKSP_CK_FUZZ), for no fuzzer guesses one.

   Built by clang with libFuzzer: ckpt_fuzz [options] CORPUS runs it, ckpt_fuzz FILE... replays. */

#include "ckpt/store.h"

#include <string.h>

typedef struct bytes {
  uint8_t const *at;
  size_t len;
} bytes_t;

static wksp__ck_coder_t *g_coder;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(uint8_t const *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  return wksp__ck_coder_new(&g_coder);
}

static int read_bytes(void *self, void *to, uint64_t len, uint64_t off) {
  bytes_t const *bytes = self;
  if (off > bytes->len || len > bytes->len - off) return WKSP_E_CORRUPT;
  memcpy(to, bytes->at + off, len);
  return 0;
}

static void add_run(void *arg, uint64_t gaddr, uint64_t len) {
  wksp_ckpt_t const *ckpt = arg;
  if (gaddr < ckpt->tables.hdr.data_lo || len > ckpt->tables.hdr.data_hi - gaddr) __builtin_trap();
}

/* What is read of a manifest holds together. */
static void look(wksp_ckpt_t *ckpt) {
  fd_wksp_part_t part;
  fd_wksp_root_t root;
  for (ulong i = 0; wksp_ckpt_part(ckpt, i, &part); i++)
    if (wksp__ck_part_at(&ckpt->tables, part.gaddr + part.size - 1) != &ckpt->tables.parts[i])
      __builtin_trap();
  for (ulong i = 0; wksp_ckpt_root(ckpt, i, &root); i++)
    if (memchr(root.name, 0, sizeof root.name) == NULL) __builtin_trap();
  for (uint64_t i = 0; i < ckpt->tables.chunk_cnt; i++)
    wksp__ck_runs(&ckpt->tables, &ckpt->tables.chunks[i], add_run, ckpt);
}

int LLVMFuzzerTestOneInput(uint8_t const *data, size_t size) {
  if (!size) return 0;
  bytes_t bytes = {data + 1, size - 1};
  if (data[0] & 1U) {
    wksp__ck_source_t source = {.self = &bytes, .len = bytes.len, .read = read_bytes};
    wksp__ck_head_t head = {0};
    if (bytes.len >= sizeof head) memcpy(&head, bytes.at, sizeof head);
    wksp__ck_pack_walk(&source, head.id, g_coder, NULL, NULL);
    return 0;
  }
  wksp_ckpt_t *ckpt;
  if (wksp__ck_manifest_parse(bytes.at, bytes.len, WKSP_CK_LOAD_ALL, &ckpt)) return 0;
  look(ckpt);
  wksp_ckpt_close(ckpt);
  return 0;
}
