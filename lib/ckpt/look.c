/* look: what checkpoints say of themselves: lists, previews, listings for people. */

#include "ckpt/store.h"

#include "core/fail.h"

#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int wksp_ckpt_list(wksp_ckpt_store_t *store,
                   int (*on_info)(void *arg, wksp_ckpt_info_t const *info, char const *bad),
                   void *arg) {
  ulong *ids;
  uint64_t cnt;
  if (!store || !on_info) return wksp__fail(WKSP_E_INVAL, "list: store or on_info is NULL");
  int err = wksp__ck_ids(store, &ids, &cnt), stop = 0;
  if (err) return err;
  for (uint64_t i = 0; i < cnt && !err && !stop; i++) {
    wksp_ckpt_t *ckpt = NULL;
    char bad[512] = "";
    err = wksp__ck_manifest_load(store, ids[i], WKSP_CK_LOAD_ALL, &ckpt);
    if (err == WKSP_E_NOTFOUND) { /* removed since */
      err = 0;
      continue;
    }
    if (err && err != WKSP_E_CORRUPT && err != WKSP_E_VERSION) break;
    if (err) snprintf(bad, sizeof bad, "%s", wksp_last_error());
    wksp_ckpt_info_t none = {.id = ids[i]};
    err = 0;
    stop = on_info(arg, ckpt ? &ckpt->info : &none, *bad ? bad : NULL);
    wksp_ckpt_close(ckpt);
  }
  free(ids);
  return err ? err : stop;
}

int wksp_ckpt_open(wksp_ckpt_store_t *store, ulong id, wksp_ckpt_t **ret_ckpt) {
  if (!store || !ret_ckpt) return wksp__fail(WKSP_E_INVAL, "open: store or ret_ckpt is NULL");
  if (!id) {
    ulong *ids;
    uint64_t cnt;
    int err = wksp__ck_ids(store, &ids, &cnt);
    if (err) return err;
    id = cnt ? ids[cnt - 1] : 0;
    free(ids);
    if (!id) return wksp__fail(WKSP_E_NOTFOUND, "open: the store has no checkpoint");
  }
  return wksp__ck_manifest_load(store, id, WKSP_CK_LOAD_ALL, ret_ckpt);
}

wksp_ckpt_info_t const *wksp_ckpt_info(wksp_ckpt_t const *ckpt) {
  return &ckpt->info;
}

void const *wksp_ckpt_spec(wksp_ckpt_t const *ckpt, ulong *ret_sz) {
  if (ret_sz) *ret_sz = ckpt->info.spec_sz;
  return ckpt->spec;
}

int wksp_ckpt_part(wksp_ckpt_t const *ckpt, ulong idx, fd_wksp_part_t *ret_part) {
  if (!ckpt || idx >= ckpt->tables.part_cnt) return 0;
  wksp__ck_part_t const *part = &ckpt->tables.parts[idx];
  *ret_part = (fd_wksp_part_t){part->gaddr, part->size, part->tag, part->kind & 255U};
  return 1;
}

int wksp_ckpt_root(wksp_ckpt_t const *ckpt, ulong idx, fd_wksp_root_t *ret_root) {
  if (!ckpt || idx >= ckpt->tables.root_cnt) return 0;
  wksp__root_t const *root = &ckpt->tables.roots[idx].root;
  memcpy(ret_root->name, root->name, sizeof ret_root->name);
  ret_root->gaddr = root->gaddr;
  ret_root->tag = root->tag;
  return 1;
}

/* Listing
 * ---------------------------------------------------------------------------------------------- */

typedef struct out {
  FILE *file;
  ulong len;
  int err;
} out_t;

__attribute__((format(printf, 2, 3))) static void put(out_t *out, char const *fmt, ...) {
  va_list args;
  if (out->err) return;
  va_start(args, fmt);
  int len = vfprintf(out->file, fmt, args);
  va_end(args);
  if (len < 0)
    out->err = wksp__fail(WKSP_E_SYS, "checkpoint: the listing cannot be written: %m");
  else
    out->len += (ulong)len;
}

static void put_text(out_t *out, char const *text) {
  for (; *text; text++) {
    if (*text >= ' ' && *text <= '~')
      put(out, "%c", *text);
    else
      put(out, "\\x%02x", (uchar)*text);
  }
}

static char const *mode_name(uint mode) {
  return mode == WKSP_CKPT_QUIESCE ? "quiesce" : mode == WKSP_CKPT_FUZZY ? "fuzzy" : "unknown";
}

static void put_head(out_t *out, wksp_ckpt_info_t const *info) {
  char style[WKSP_CKPT_STYLE_MAX], when[32];
  time_t at = (time_t)(info->created_ns / 1000000000UL);
  struct tm tm;
  if (!gmtime_r(&at, &tm) || !strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm)) *when = 0;
  put(out, "checkpoint    %lx\n", info->id);
  put(out, "workspace     %s\n", info->name);
  put(out, "uuid          ");
  for (uint i = 0; i < sizeof info->uuid; i++)
    put(out, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", info->uuid[i]);
  put(out, "\ntaken         %s\n", when);
  put(out, "host          ");
  put_text(out, info->host);
  put(out, "\ntext          ");
  put_text(out, info->info);
  put(out, "\nmode          %s", mode_name(info->mode));
  if (info->mode != info->mode_asked) put(out, " (%s was asked for)", mode_name(info->mode_asked));
  put(out, "\nstyle         %s\n", wksp_ckpt_style_cstr(info->style, style));
  put(out, "pause         %lu us\n", info->pause_ns / 1000UL);
  put(out, "took          %lu us\n", info->took_ns / 1000UL);
  put(out, "live          %lu bytes in %lu chunks\n", info->live_sz, info->chunk_cnt);
  put(out, "scanned       %lu bytes\n", info->scanned_sz);
  put(out, "changed       %lu bytes\n", info->changed_sz);
  put(out, "written       %lu bytes\n", info->written_sz);
  put(out, "packs         %lu\n", info->pack_cnt);
  put(out, "size          %lu bytes, at least %lu\n", info->size, info->size_min);
  put(out, "page size     %lu bytes\n", info->page_size);
  put(out, "seed          %u\n", info->seed);
  put(out, "partitions    %lu of at most %lu, %lu bytes\n", info->part_cnt, info->part_max,
      info->part_sz);
  put(out, "roots         %lu\n", info->root_cnt);
  put(out, "fd_allocs     %lu\n", info->alloc_cnt);
  put(out, "suspects      %lu\n", info->suspect_cnt);
  put(out, "silent        %u\n", info->silent_cnt);
  for (uint i = 0; i < info->silent_cnt && i < WKSP_CKPT_SILENT_MAX; i++) {
    put(out, "  thread %u of process %u ", info->silent[i].tid, info->silent[i].pid);
    put_text(out, info->silent[i].comm);
    put(out, "\n");
  }
}

typedef struct tag_sum {
  ulong tag, cnt, size;
} tag_sum_t;

static int tag_order(void const *a, void const *b) {
  ulong one = ((tag_sum_t const *)a)->tag, two = ((tag_sum_t const *)b)->tag;
  return one < two ? -1 : one > two;
}

/* One line for each tag: sums of equal neighbours once sorted. */
static int put_tags(out_t *out, wksp__ck_tables_t const *tables) {
  tag_sum_t *sums = calloc(tables->part_cnt + 1, sizeof *sums);
  if (!sums) return wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory for a listing");
  for (uint64_t i = 0; i < tables->part_cnt; i++)
    sums[i] = (tag_sum_t){tables->parts[i].tag, 1, tables->parts[i].size};
  qsort(sums, tables->part_cnt, sizeof *sums, tag_order);
  for (uint64_t i = 0, to; i < tables->part_cnt; i = to) {
    tag_sum_t sum = {.tag = sums[i].tag};
    for (to = i; to < tables->part_cnt && sums[to].tag == sum.tag; to++) {
      sum.cnt++;
      sum.size += sums[to].size;
    }
    put(out, "tag 0x%lx: %lu partitions, %lu bytes\n", sum.tag, sum.cnt, sum.size);
  }
  free(sums);
  return 0;
}

static void put_allocs(out_t *out, wksp__ck_tables_t const *tables) {
  for (uint64_t i = 0; i < tables->dir_cnt; i++)
    if (tables->dir[i].what == DIR_HOME)
      put(out, "fd_alloc at 0x%lx: tag 0x%lx%s\n", tables->dir[i].gaddr, tables->dir[i].tag,
          tables->dir[i].lease ? ", ephemeral" : "");
  for (uint64_t i = 0; i < tables->root_cnt; i++) {
    put(out, "root ");
    put_text(out, (char const *)tables->roots[i].root.name);
    put(out, ": 0x%lx, tag 0x%lx\n", tables->roots[i].root.gaddr, tables->roots[i].root.tag);
  }
}

int wksp_ckpt_fprintf(FILE *file, wksp_ckpt_t const *ckpt, uint verbose) {
  static char const *const kinds[] = {"", "user", "spans", "heap", "large"};
  if (!file || !ckpt) return wksp__fail(WKSP_E_INVAL, "checkpoint: file or ckpt is NULL");
  out_t out = {.file = file};
  put_head(&out, &ckpt->info);
  if (verbose >= 1) {
    int err = put_tags(&out, &ckpt->tables);
    if (err) return err;
    put_allocs(&out, &ckpt->tables);
  }
  for (uint64_t i = 0; verbose >= 2 && i < ckpt->tables.part_cnt; i++) {
    wksp__ck_part_t const *part = &ckpt->tables.parts[i];
    put(&out, "partition 0x%lx: %lu bytes, tag 0x%lx, %s\n", part->gaddr, part->size, part->tag,
        kinds[part->kind & 7U]);
  }
  if (out.err) return out.err;
  return out.len > INT_MAX ? INT_MAX : (int)out.len;
}
