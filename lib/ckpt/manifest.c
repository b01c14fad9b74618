/* manifest: what a checkpoint consists of, to bytes and back.

   A manifest is read as a whole, and all of its checksums are checked, whatever is wanted of it;
   then only the sections that are wanted are decoded. Nothing that it says is believed before it
   was checked: lengths against the file's, numbers against each other (wksp__ck_tables_check), and
   that its chunks are as many, and as long, as its tables say that bytes live.

   Refuses: files beyond MANIFEST_MAX, and sections that claim to be longer than what a codec can
   make of their bytes. */

#include "ckpt/store.h"

#include "core/fail.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define MANIFEST_MAX (1UL << 36)
/* Sections below that are stored as they are. */
#define SECTION_SMALL 256UL
#define SECTION_LEVEL 1
/* More than that zstd does not make of a byte. */
#define SECTION_RATIO_MAX (1UL << 16)

static int corrupt(char const *what) {
  return wksp__fail(WKSP_E_CORRUPT, "checkpoint: the manifest is damaged: %s", what);
}

/* Reading
 * ---------------------------------------------------------------------------------------------- */

/* A section as found in the file. */
typedef struct section {
  void const *stored;
  uint64_t stored_len, raw_len;
  uint32_t codec;
  int there;
} section_t;

static int head_check(wksp__ck_head_t const *head, uint64_t len) {
  if (head->magic != WKSP_CK_MANIFEST_MAGIC)
    return corrupt("its first word is not that of a manifest");
  if (!wksp__ck_sum_ok(head, sizeof *head - 8, head->sum)) return corrupt("its header");
  if (head->version != WKSP_CK_VERSION || head->incompat & ~WKSP_CK_INCOMPAT_KNOWN)
    return wksp__fail(WKSP_E_VERSION,
                      "checkpoint: the manifest has version %u and features 0x%lx, this library "
                      "knows version %u and 0x%lx",
                      head->version, head->incompat, WKSP_CK_VERSION, WKSP_CK_INCOMPAT_KNOWN);
  if (head->file_sz != len || head->pad) return corrupt("its length");
  return 0;
}

/* All sections, each at most once. */
static int sections_find(char const *bytes, uint64_t len, section_t *sections) {
  for (uint64_t at = sizeof(wksp__ck_head_t); at < len;) {
    wksp__ck_section_t sec;
    if (len - at < sizeof sec) return corrupt("it ends within a section's header");
    memcpy(&sec, bytes + at, sizeof sec);
    at += sizeof sec;
    if (!wksp__ck_sum_ok(&sec, sizeof sec - 8, sec.sum)) return corrupt("a section's header");
    if (sec.stored_len > len - at) return corrupt("it ends within a section");
    if (!wksp__ck_sum_ok(bytes + at, sec.stored_len, sec.payload_sum)) return corrupt("a section");
    uint64_t most =
        sec.codec == WKSP_CKPT_ZSTD ? sec.stored_len * SECTION_RATIO_MAX : sec.stored_len;
    if (sec.raw_len > most || (sec.codec == WKSP_CKPT_RAW && sec.raw_len != sec.stored_len) ||
        (sec.codec != WKSP_CKPT_RAW && sec.codec != WKSP_CKPT_ZSTD))
      return corrupt("a section's length");
    if (!sec.type || sec.type >= WKSP_CK_SEC_CNT) {
      if (!(sec.flags & WKSP_CK_SECTION_SKIP))
        return wksp__fail(WKSP_E_VERSION,
                          "checkpoint: the manifest has a section of type %u, which this library "
                          "does not know: use a newer one",
                          sec.type);
    } else if (sections[sec.type].there) {
      return corrupt("a section is there twice");
    } else {
      sections[sec.type] = (section_t){bytes + at, sec.stored_len, sec.raw_len, sec.codec, 1};
    }
    at += sec.stored_len;
  }
  return 0;
}

/* The items of a section, NULL if there are none. One that is missing is empty. */
static int section_get(section_t const *sec, uint64_t item_sz, void *ret_items, uint64_t *ret_cnt) {
  void *items = NULL;
  if (sec->raw_len % item_sz) return corrupt("a section has half an item");
  if (sec->codec == WKSP_CKPT_ZSTD &&
      ZSTD_getFrameContentSize(sec->stored, sec->stored_len) != sec->raw_len)
    return corrupt("a section's length");
  if (sec->raw_len) {
    items = malloc(sec->raw_len);
    if (!items)
      return wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory for %lu bytes of a manifest",
                        sec->raw_len);
    if (sec->codec == WKSP_CKPT_RAW) {
      memcpy(items, sec->stored, sec->raw_len);
    } else if (ZSTD_decompress(items, sec->raw_len, sec->stored, sec->stored_len) != sec->raw_len) {
      free(items);
      return corrupt("a section cannot be decoded");
    }
  }
  memcpy(ret_items, &items, sizeof items);
  *ret_cnt = sec->raw_len / item_sz;
  return 0;
}

/* Two strings, each ended by a NUL. */
static int text_get(section_t const *sec, wksp_ckpt_info_t *info) {
  char *text;
  uint64_t len;
  int err = section_get(sec, 1, &text, &len);
  if (err || !len) return err;
  char const *end = memchr(text, 0, len);
  uint64_t host = end ? (uint64_t)(end - text) + 1 : 0, rest = len - host;
  if (!host || host > sizeof info->host || !rest || rest > sizeof info->info || text[len - 1] ||
      memchr(text + host, 0, rest) != text + len - 1) {
    err = corrupt("its text");
  } else {
    memcpy(info->host, text, host);
    memcpy(info->info, text + host, rest);
  }
  free(text);
  return err;
}

static int silent_get(section_t const *sec, wksp_ckpt_info_t *info) {
  wksp_ckpt_silent_t *silent;
  uint64_t cnt;
  int err = section_get(sec, sizeof *silent, &silent, &cnt);
  if (err || !cnt) return err;
  if (cnt > WKSP_CKPT_SILENT_MAX) err = corrupt("its list of silent clients");
  for (uint64_t i = 0; i < cnt && !err; i++) {
    silent[i].comm[sizeof silent[i].comm - 1] = 0;
    info->silent[i] = silent[i];
  }
  free(silent);
  return err;
}

static void info_fill(wksp__ck_wire_info_t const *wire, wksp_ckpt_info_t *info) {
  memcpy(info->name, wire->name, sizeof info->name);
  memcpy(info->uuid, wire->uuid, sizeof info->uuid);
  info->seed = wire->seed;
  info->layout_version = wire->layout_version;
  info->geometry_hash = wire->geometry_hash;
  info->part_max = wire->part_max;
  info->data_max = wire->data_max;
  info->data_sz = wire->data_sz;
  info->page_size = wire->page_size;
  info->mode_asked = wire->mode_asked;
  info->mode = wire->mode;
  info->style = (wksp_ckpt_style_t){wire->codec, wire->level};
  info->took_ns = wire->took_ns;
  info->pause_ns = wire->pause_ns;
  info->live_sz = wire->live_sz;
  info->scanned_sz = wire->scanned_sz;
  info->changed_sz = wire->changed_sz;
  info->written_sz = wire->written_sz;
  info->silent_cnt = wire->silent_cnt;
}

static int mode_ok(uint32_t mode) {
  return mode == WKSP_CKPT_FUZZY || mode == WKSP_CKPT_QUIESCE;
}

static int wire_get(section_t const *sec, wksp_ckpt_t *ckpt) {
  wksp__ck_wire_info_t *wire;
  uint64_t cnt;
  if (sec->raw_len != sizeof *wire) return corrupt("its facts");
  int err = section_get(sec, sizeof *wire, &wire, &cnt);
  if (err) return err;
  ckpt->wire = *wire;
  free(wire);
  wire = &ckpt->wire;
  if (!memchr(wire->name, 0, sizeof wire->name) || !*wire->name) return corrupt("its name");
  if (!wire->data_sz || wire->data_sz > WKSP_DATA_MAX_MAX) return corrupt("its sizes");
  /* what lists checkpoints relies on these being what a writer can have said */
  if (!mode_ok(wire->mode) || !mode_ok(wire->mode_asked) || wire->codec > WKSP_CKPT_ZSTD)
    return corrupt("how it was taken");
  info_fill(wire, &ckpt->info);
  return 0;
}

static int refs_get(section_t const *sections, wksp_ckpt_t *ckpt) {
  wksp_ckpt_info_t *info = &ckpt->info;
  int err =
      section_get(&sections[WKSP_CK_SEC_PACKS], sizeof *ckpt->packs, &ckpt->packs, &info->pack_cnt);
  if (!err)
    err = section_get(&sections[WKSP_CK_SEC_CHUNKS], sizeof *ckpt->refs, &ckpt->refs,
                      &info->chunk_cnt);
  for (uint64_t i = 0; i < info->chunk_cnt && !err; i++) {
    wksp__ck_ref_t const *ref = &ckpt->refs[i];
    uint64_t size = ref->pack < info->pack_cnt ? ckpt->packs[ref->pack].file_sz : 0;
    if (ref->off < sizeof(wksp__ck_head_t) || ref->off > size || !ref->raw_len ||
        ref->raw_len > 1UL << WKSP_CK_CHUNK_LG_MAX || ref->stored_len > ref->raw_len ||
        size - ref->off < sizeof(wksp__ck_frame_t) + ref->stored_len ||
        ref->codec > WKSP_CKPT_ZSTD ||
        (ref->codec == WKSP_CKPT_RAW && ref->stored_len != ref->raw_len))
      err = corrupt("where a chunk is");
  }
  return err;
}

/* The header of the workspace, as far as it follows from the facts. */
static int header_make(wksp__ck_wire_info_t const *wire, struct fd_wksp *hdr) {
  wksp__geom_t geom;
  if (!wksp__layout_access(wire->layout_version, wire->geometry_hash) ||
      wire->incompat & ~WKSP_INCOMPAT_KNOWN || wire->ro_compat & ~WKSP_RO_COMPAT_KNOWN)
    return wksp__fail(WKSP_E_VERSION,
                      "checkpoint: it is of a workspace of layout %u, geometry 0x%016lx, features "
                      "0x%lx and 0x%lx, which this library cannot make: use the one that made it",
                      wire->layout_version, wire->geometry_hash, wire->incompat, wire->ro_compat);
  if (wksp__geom(&geom, wire->part_max, wire->data_max)) return corrupt("its dimensions");
  hdr->layout_version = wire->layout_version;
  hdr->geometry_hash = wire->geometry_hash;
  hdr->incompat = wire->incompat;
  hdr->part_max = geom.part_max;
  hdr->data_max = geom.data_max;
  hdr->footprint = geom.footprint;
  hdr->data_lo = geom.data_lo;
  hdr->data_hi = geom.data_hi;
  hdr->slot_max = geom.slot_max;
  hdr->heap_max = geom.heap_max;
  return 0;
}

#define TABLE_GET(sections, type, tables, name, cnt) \
  section_get(&(sections)[type], sizeof *(tables)->name, &(tables)->name, &(tables)->cnt)

static int tables_get(section_t const *sections, wksp_ckpt_t *ckpt) {
  wksp__ck_tables_t *tables = &ckpt->tables;
  wksp_ckpt_info_t *info = &ckpt->info;
  tables->data_sz = info->data_sz;
  tables->chunk_lg = ckpt->wire.chunk_lg;
  int err = header_make(&ckpt->wire, &tables->hdr);
  if (!err) err = TABLE_GET(sections, WKSP_CK_SEC_PARTS, tables, parts, part_cnt);
  if (!err) err = TABLE_GET(sections, WKSP_CK_SEC_ROOTS, tables, roots, root_cnt);
  if (!err) err = TABLE_GET(sections, WKSP_CK_SEC_DIR, tables, dir, dir_cnt);
  if (!err) err = TABLE_GET(sections, WKSP_CK_SEC_SPANS, tables, spans, span_cnt);
  if (!err) err = TABLE_GET(sections, WKSP_CK_SEC_BITS, tables, bits, bit_cnt);
  if (!err) err = TABLE_GET(sections, WKSP_CK_SEC_SUSPECTS, tables, suspects, suspect_cnt);
  if (!err) err = wksp__ck_tables_check(tables);
  if (!err) err = wksp__ck_chunks_make(tables, info->chunk_cnt);
  if (err) return err;
  if (tables->chunk_cnt != info->chunk_cnt || tables->live_sz != info->live_sz)
    return corrupt("it has not as many chunks as its tables say");
  for (uint64_t i = 0; i < tables->chunk_cnt; i++)
    if (tables->chunks[i].raw_len != ckpt->refs[i].raw_len) return corrupt("a chunk's length");
  for (uint64_t i = 0; i < tables->suspect_cnt; i++) {
    wksp__ck_part_t const *part = wksp__ck_part_at(tables, tables->suspects[i].gaddr);
    if (!part || wksp__ck_home(tables, part->kind >> 8) != tables->suspects[i].alloc)
      return corrupt("a suspect block");
  }
  return 0;
}

/* Figures that follow from the tables, for those who look. */
static void tables_count(wksp_ckpt_t *ckpt) {
  wksp_ckpt_info_t *info = &ckpt->info;
  wksp__ck_tables_t const *tables = &ckpt->tables;
  info->footprint = tables->hdr.footprint;
  info->size = tables->hdr.data_lo + tables->data_sz;
  info->size_min = tables->hdr.data_lo + WKSP_SPAN_SZ;
  info->part_cnt = tables->part_cnt;
  info->root_cnt = tables->root_cnt;
  info->suspect_cnt = tables->suspect_cnt;
  for (uint64_t i = 0; i < tables->dir_cnt; i++) info->alloc_cnt += tables->dir[i].what == DIR_HOME;
  for (uint64_t i = 0; i < tables->part_cnt; i++) {
    uint64_t end = tables->parts[i].gaddr + tables->parts[i].size;
    info->part_sz += tables->parts[i].size;
    info->size_min = (end + WKSP_SPAN_SZ - 1) & ~(WKSP_SPAN_SZ - 1);
  }
}

int wksp__ck_manifest_parse(void const *bytes, uint64_t len, int level, wksp_ckpt_t **ret_ckpt) {
  section_t sections[WKSP_CK_SEC_CNT] = {0};
  wksp__ck_head_t head;
  if (len < sizeof head) return corrupt("it is too short");
  memcpy(&head, bytes, sizeof head);
  int err = head_check(&head, len);
  if (!err) err = sections_find(bytes, len, sections);
  if (err) return err;
  wksp_ckpt_t *ckpt = calloc(1, sizeof *ckpt);
  if (!ckpt) return wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory for a manifest");
  ckpt->info.id = head.id;
  ckpt->info.created_ns = head.created_ns;
  err = wire_get(&sections[WKSP_CK_SEC_INFO], ckpt);
  if (!err) err = text_get(&sections[WKSP_CK_SEC_TEXT], &ckpt->info);
  if (!err) err = silent_get(&sections[WKSP_CK_SEC_SILENT], &ckpt->info);
  ckpt->info.spec_sz = sections[WKSP_CK_SEC_SPEC].raw_len;
  if (!err) err = refs_get(sections, ckpt);
  if (!err && level >= WKSP_CK_LOAD_ALL) {
    err = section_get(&sections[WKSP_CK_SEC_SPEC], 1, &ckpt->spec, &ckpt->info.spec_sz);
    if (!err) err = tables_get(sections, ckpt);
    if (!err) tables_count(ckpt);
  }
  if (err) {
    wksp_ckpt_close(ckpt);
    return err;
  }
  *ret_ckpt = ckpt;
  return 0;
}

void wksp_ckpt_close(wksp_ckpt_t *ckpt) {
  if (!ckpt) return;
  free(ckpt->spec);
  free(ckpt->packs);
  free(ckpt->refs);
  wksp__ck_tables_free(&ckpt->tables);
  free(ckpt);
}

int wksp__ck_manifest_load(wksp_ckpt_store_t *store, ulong id, int level, wksp_ckpt_t **ret_ckpt) {
  char name[WKSP_CKPT_FILE_NAME_MAX + 1];
  ulong size;
  int file;
  wksp__ck_file_name(id, WKSP_CK_FILE_CKPT, 0, name);
  int err = store->io.open(store->io.self, name, WKSP_CKPT_OPEN_READ, &file);
  if (err) return wksp__ck_io_fail(err, "open", name);
  void *bytes = NULL;
  err = store->io.size(store->io.self, file, &size);
  if (err) err = wksp__ck_io_fail(err, "find the size of", name);
  if (!err && size > MANIFEST_MAX) err = corrupt("it is too long");
  /* before there is memory for all that it claims to be */
  wksp__ck_head_t head;
  if (!err && size < sizeof head) err = corrupt("it is too short");
  if (!err) err = wksp__ck_read_all(store, file, name, &head, sizeof head, 0);
  if (!err) err = head_check(&head, size);
  if (!err && !(bytes = malloc(size + 1)))
    err = wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory for a manifest of %lu bytes", size);
  if (!err) err = wksp__ck_read_all(store, file, name, bytes, size, 0);
  store->io.close(store->io.self, file);
  wksp_ckpt_t *ckpt = NULL;
  if (!err) err = wksp__ck_manifest_parse(bytes, size, level, &ckpt);
  free(bytes);
  if (!err && ckpt->info.id != id) err = corrupt("it is another's");
  if (err) {
    wksp_ckpt_close(ckpt);
    return err;
  }
  ckpt->store = store;
  ckpt->info.file_sz = size;
  for (uint64_t i = 0; i < ckpt->info.pack_cnt; i++)
    if (ckpt->packs[i].id == id) ckpt->info.file_sz += ckpt->packs[i].file_sz;
  *ret_ckpt = ckpt;
  return 0;
}

/* Writing
 * ---------------------------------------------------------------------------------------------- */

typedef struct maker {
  char *bytes;
  uint64_t len, cap;
  int err;
} maker_t;

static char *room(maker_t *maker, uint64_t len) {
  if (maker->err) return NULL;
  if (maker->cap - maker->len < len) {
    uint64_t cap = 2 * (maker->len + len);
    char *bytes = realloc(maker->bytes, cap);
    if (!bytes) {
      maker->err =
          wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory for a manifest of %lu bytes", cap);
      return NULL;
    }
    maker->bytes = bytes;
    maker->cap = cap;
  }
  return maker->bytes + maker->len;
}

static void section_add(maker_t *maker, uint32_t type, void const *raw, uint64_t len) {
  wksp__ck_section_t sec = {.type = type, .raw_len = len, .stored_len = len};
  uint64_t bound = len < SECTION_SMALL ? len : ZSTD_compressBound(len);
  if (!len || !room(maker, sizeof sec + bound)) return;
  char *at = maker->bytes + maker->len, *payload = at + sizeof sec;
  if (len >= SECTION_SMALL) {
    uint64_t got = ZSTD_compress(payload, bound, raw, len, SECTION_LEVEL);
    if (!ZSTD_isError(got) && got < len) {
      sec.codec = WKSP_CKPT_ZSTD;
      sec.stored_len = got;
    }
  }
  if (sec.codec == WKSP_CKPT_RAW) memcpy(payload, raw, len);
  sec.payload_sum = wksp__ck_sum(payload, sec.stored_len);
  sec.sum = wksp__ck_sum(&sec, sizeof sec - 8);
  memcpy(at, &sec, sizeof sec);
  maker->len += sizeof sec + sec.stored_len;
}

/* The header, last, and that is it. */
static int made(maker_t *maker, wksp__ck_head_t *head, void **ret_bytes, uint64_t *ret_len) {
  if (maker->err) {
    free(maker->bytes);
    return maker->err;
  }
  head->file_sz = maker->len;
  head->sum = wksp__ck_sum(head, sizeof *head - 8);
  memcpy(maker->bytes, head, sizeof *head);
  *ret_bytes = maker->bytes;
  *ret_len = maker->len;
  return 0;
}

int wksp__ck_manifest_move(wksp_ckpt_t const *ckpt, void const *bytes, uint64_t len,
                           void **ret_bytes, uint64_t *ret_len) {
  maker_t maker = {0};
  wksp_ckpt_info_t const *info = &ckpt->info;
  wksp__ck_head_t head;
  memcpy(&head, bytes, sizeof head);
  if (room(&maker, sizeof head)) maker.len = sizeof head;
  for (uint64_t at = sizeof head; at < len && !maker.err;) {
    wksp__ck_section_t sec; /* parse has passed it */
    memcpy(&sec, (char const *)bytes + at, sizeof sec);
    uint64_t size = sizeof sec + sec.stored_len;
    int own = sec.type == WKSP_CK_SEC_PACKS || sec.type == WKSP_CK_SEC_CHUNKS;
    char *to = own ? NULL : room(&maker, size);
    if (to) {
      memcpy(to, (char const *)bytes + at, size);
      maker.len += size;
    }
    at += size;
  }
  section_add(&maker, WKSP_CK_SEC_PACKS, ckpt->packs, info->pack_cnt * sizeof *ckpt->packs);
  section_add(&maker, WKSP_CK_SEC_CHUNKS, ckpt->refs, info->chunk_cnt * sizeof *ckpt->refs);
  return made(&maker, &head, ret_bytes, ret_len);
}

int wksp__ck_manifest_make(wksp_ckpt_t const *ckpt, void **ret_bytes, uint64_t *ret_len) {
  maker_t maker = {0};
  wksp_ckpt_info_t const *info = &ckpt->info;
  wksp__ck_tables_t const *tables = &ckpt->tables;
  wksp__ck_head_t head = {.magic = WKSP_CK_MANIFEST_MAGIC,
                          .version = WKSP_CK_VERSION,
                          .id = info->id,
                          .created_ns = info->created_ns};
  char text[WKSP_CKPT_HOST_MAX + WKSP_CKPT_INFO_MAX + 2];
  uint64_t host = strlen(info->host) + 1, silent = info->silent_cnt;
  memcpy(text, info->host, host);
  memcpy(text + host, info->info, strlen(info->info) + 1);
  if (silent > WKSP_CKPT_SILENT_MAX) silent = WKSP_CKPT_SILENT_MAX;
  if (room(&maker, sizeof head)) maker.len = sizeof head;
  section_add(&maker, WKSP_CK_SEC_INFO, &ckpt->wire, sizeof ckpt->wire);
  section_add(&maker, WKSP_CK_SEC_TEXT, text, host + strlen(info->info) + 1);
  section_add(&maker, WKSP_CK_SEC_SPEC, ckpt->spec, info->spec_sz);
  section_add(&maker, WKSP_CK_SEC_PARTS, tables->parts, tables->part_cnt * sizeof *tables->parts);
  section_add(&maker, WKSP_CK_SEC_ROOTS, tables->roots, tables->root_cnt * sizeof *tables->roots);
  section_add(&maker, WKSP_CK_SEC_DIR, tables->dir, tables->dir_cnt * sizeof *tables->dir);
  section_add(&maker, WKSP_CK_SEC_SPANS, tables->spans, tables->span_cnt * sizeof *tables->spans);
  section_add(&maker, WKSP_CK_SEC_BITS, tables->bits, tables->bit_cnt * sizeof *tables->bits);
  section_add(&maker, WKSP_CK_SEC_SUSPECTS, tables->suspects,
              tables->suspect_cnt * sizeof *tables->suspects);
  section_add(&maker, WKSP_CK_SEC_PACKS, ckpt->packs, info->pack_cnt * sizeof *ckpt->packs);
  section_add(&maker, WKSP_CK_SEC_CHUNKS, ckpt->refs, info->chunk_cnt * sizeof *ckpt->refs);
  section_add(&maker, WKSP_CK_SEC_SILENT, info->silent, silent * sizeof *info->silent);
  return made(&maker, &head, ret_bytes, ret_len);
}
