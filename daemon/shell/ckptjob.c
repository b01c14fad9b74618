/* The problem: the engine speaks of checkpoints in plain structs, workers in bytes that must not be
   believed; and what a checkpoint says of its workspace was written by a process that strangers may
   have taken over.

   The model: the spec of a workspace goes into its checkpoint as the text that specs are kept in,
   and comes back through the same decoder, which takes only what could have been written. Anything
   else makes the checkpoint a bad one, which is listed and never restored. Texts become UTF-8 here,
   once.

   Refuses: to open what is no folder of ours. */

#include "daemon/shell/ckptjob.h"

#include "daemon/shell/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What WORKER_DONE points to. */
typedef struct own {
  char const *text;
  engine_ckpt_t *ckpts;
  _Alignas(8) uint8_t bytes[]; /* ckpts, then the answer, then a NUL */
} own_t;

/* Asking
 * ------------------------------------------------------------------------------------------------
 */

static void put_take(loop_t const *loop, engine_ckpt_ask_t const *ask, ckptask_t *task) {
  static uint32_t const modes[] = {
      [SCHEDULE_MODE_FUZZY] = WKSP_CKPT_FUZZY, [SCHEDULE_MODE_QUIESCE] = WKSP_CKPT_QUIESCE};
  char text[SPEC_TEXT_MAX];
  uint64_t rate = loop->config->checkpoint_rate;
  unsigned share =
      loop->config->checkpoints ? loop->config->checkpoints : ENGINE_TASKS_RUNNING_DEFAULT;
  task->mode = modes[ask->how.mode];
  task->codec = (uint32_t)ask->how.style; /* the same numbers */
  task->level = ask->how.level;
  /* What nobody asked for by hand had better be there, if only a fuzzy one. */
  task->degrade = ask->by != SCHEDULE_BY_HAND;
  task->keep = (wksp_ckpt_retention_t){ask->keep.last, ask->keep.hourly, ask->keep.daily,
                                       ask->keep.weekly, ask->keep.monthly};
  task->fresh = (uint32_t)ask->fresh;
  task->rate = rate ? rate / share + 1 : 0;
  task->page_bytes = ask->spec.page_size;
  if (spec_encode(&ask->spec, text) < 0) text[0] = 0; /* not a spec: it would not be restored */
  int len = snprintf(task->spec, sizeof task->spec, CKPTASK_BY "%d\n%s", ask->by, text);
  task->spec_len = len > 0 && (size_t)len < sizeof task->spec ? (uint32_t)len : 0;
  snprintf(task->info, sizeof task->info, "%s", ask->info ? ask->info : "");
}

_Static_assert((int)SCHEDULE_STYLE_RAW == (int)WKSP_CKPT_RAW &&
                   (int)SCHEDULE_STYLE_LZ4 == (int)WKSP_CKPT_LZ4 &&
                   (int)SCHEDULE_STYLE_ZSTD == (int)WKSP_CKPT_ZSTD,
               "styles have one number everywhere");
_Static_assert(sizeof(((ckptask_t *)0)->info) == ENGINE_INFO_MAX, "a text fits its checkpoint");

void ckptjob_ask(loop_t const *loop, engine_effect_t const *effect, ckptask_t *ret_task) {
  engine_ckpt_ask_t const *ask = effect->u.worker_start.ckpt;
  memset(ret_task, 0, sizeof *ret_task);
  ret_task->magic = CKPTASK_MAGIC;
  ret_task->store_id = ask->store_id;
  ret_task->number = ask->number;
  ret_task->verbose = ask->verbose;
  if (effect->u.worker_start.op == ENGINE_OP_CHECKPOINT) put_take(loop, ask, ret_task);
  if (effect->u.worker_start.op != ENGINE_OP_RESTORE) return;
  ret_task->seed_set = (uint32_t)ask->seed_set;
  ret_task->seed = ask->seed;
  ret_task->data_end = ask->spec.size;
  ret_task->part_max = ask->spec.part_max;
  ret_task->data_max = ask->spec.data_max;
  memcpy(ret_task->name, ask->spec.name, sizeof ret_task->name);
  memcpy(ret_task->uuid, ask->spec.uuid, sizeof ret_task->uuid);
}

int ckptjob_folder(loop_t const *loop, engine_effect_t const *effect, char const **ret_why) {
  uint64_t store_id = effect->u.worker_start.ckpt->store_id;
  int make = effect->u.worker_start.op == ENGINE_OP_CHECKPOINT;
  int fd = store_ckpts(&loop->store, store_id, make);
  if (fd < 0) *ret_why = errno == ENOENT ? "its store is not there" : strerror(errno);
  return fd;
}

/* Answers
 * ------------------------------------------------------------------------------------------------
 */

/* Bytes of the character at text, 0 if it is none of UTF-8. */
static size_t utf8_len(unsigned char const *text) {
  static unsigned const least[] = {0, 0, 0x80, 0x800, 0x10000};
  size_t len = text[0] < 0x80                      ? 1
               : text[0] >= 0xc2 && text[0] < 0xe0 ? 2
               : (text[0] & 0xf0) == 0xe0          ? 3
               : text[0] >= 0xf0 && text[0] < 0xf5 ? 4
                                                   : 0;
  unsigned code = len > 1 ? text[0] & (0xffU >> (len + 1)) : text[0];
  for (size_t i = 1; i < len; i++) {
    if ((text[i] & 0xc0) != 0x80) return 0;
    code = code << 6 | (text[i] & 0x3fU);
  }
  if (len > 1 && (code < least[len] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)))
    return 0;
  return len;
}

/* What is no UTF-8, and control characters but line ends, become '?'. */
static void make_utf8(char *text) {
  for (unsigned char *at = (unsigned char *)text; *at;) {
    size_t len = utf8_len(at);
    if (!len || (len == 1 && *at < 0x20 && *at != '\n' && *at != '\t') || *at == 0x7f) {
      *at = '?';
      len = 1;
    }
    at += len;
  }
}

static int mode_of(uint mode) {
  return mode == WKSP_CKPT_QUIESCE ? SCHEDULE_MODE_QUIESCE : SCHEDULE_MODE_FUZZY;
}

static void set_bad(engine_ckpt_t *ckpt, char const *why) {
  snprintf(ckpt->bad, sizeof ckpt->bad, "%.*s", (int)sizeof ckpt->bad - 1, why);
  for (char *at = ckpt->bad; *at; at++)
    if (*at < 0x20 || *at > 0x7e) *at = '?';
}

/* "wkspd-by=N" and a spec. 1, or 0: it is not what this daemon or one before it has written. */
static int read_spec(ckptentry_t const *entry, engine_ckpt_t *ckpt) {
  size_t len = entry->spec_len;
  if (len < CKPTASK_BY_LEN || memcmp(entry->spec, CKPTASK_BY, sizeof CKPTASK_BY - 1) != 0) return 0;
  int by = entry->spec[CKPTASK_BY_LEN - 2] - '0';
  if (by < SCHEDULE_BY_HAND || by > SCHEDULE_BY_STOP || entry->spec[CKPTASK_BY_LEN - 1] != '\n')
    return 0;
  if (spec_decode(entry->spec + CKPTASK_BY_LEN, len - CKPTASK_BY_LEN, &ckpt->spec)) return 0;
  ckpt->by = by;
  return 1;
}

static void put_ckpt(ckptentry_t *entry, engine_ckpt_t *ret) {
  wksp_ckpt_info_t *info = &entry->info;
  *ret = (engine_ckpt_t){.store_id = entry->store_id,
                         .number = info->id,
                         .verified_ns = entry->verified_ns,
                         .drilled_ns = entry->drilled_ns,
                         .info = ""};
  if (entry->bad) {
    set_bad(ret, entry->sentence);
    return;
  }
  make_utf8(info->info);
  ret->how = (schedule_how_t){mode_of(info->mode), (int)info->style.codec, info->style.level};
  ret->mode_asked = mode_of(info->mode_asked);
  ret->created_ns = info->created_ns;
  ret->took_ns = info->took_ns;
  ret->pause_ns = info->pause_ns;
  ret->live_size = info->live_sz;
  ret->scanned_size = info->scanned_sz;
  ret->changed_size = info->changed_sz;
  ret->written_size = info->written_sz;
  ret->file_size = info->file_sz;
  ret->chunk_cnt = info->chunk_cnt;
  ret->part_cnt = info->part_cnt;
  ret->root_cnt = info->root_cnt;
  ret->alloc_cnt = info->alloc_cnt;
  ret->suspect_cnt = info->suspect_cnt;
  ret->silent_cnt = info->silent_cnt;
  ret->part_max = info->part_max;
  ret->data_max = info->data_max;
  ret->footprint = info->footprint;
  ret->size = info->size;
  ret->size_min = info->size_min;
  ret->info = info->info;
  if (!read_spec(entry, ret)) {
    memset(&ret->spec, 0, sizeof ret->spec);
    set_bad(ret, "it does not say which workspace it is of, and whose that was");
  }
}

/* A block with room for what the event points to, the answer copied into it. NULL: no memory. */
static own_t *own_of(ckptresult_t const *result, void const *bytes, size_t len,
                     ckptresult_t *ret_copy) {
  size_t cnt = result->answer->entry_cnt, ckpts = cnt * sizeof(engine_ckpt_t);
  own_t *own = malloc(sizeof *own + ckpts + len + 1);
  if (!own) return NULL;
  uint8_t *copy = own->bytes + ckpts;
  memcpy(copy, bytes, len);
  copy[len] = 0;
  own->ckpts = (engine_ckpt_t *)own->bytes;
  own->text = (char const *)copy + (result->text - (char const *)bytes);
  ret_copy->entries =
      (ckptentry_t const *)(copy + ((uint8_t const *)result->entries - (uint8_t const *)bytes));
  ret_copy->gone =
      (uint64_t const *)(copy + ((uint8_t const *)result->gone - (uint8_t const *)bytes));
  return own;
}

void ckptjob_done(ckptask_t const *task, uint32_t op, void const *bytes, size_t len,
                  engine_event_t *event, void **ret_own) {
  ckptresult_t result, copy;
  char const *why;
  *ret_own = NULL;
  if (!ckptask_check(op, task, bytes, len, &result, &why)) {
    event->u.worker_done.status = ENGINE_WORKER_GARBAGE;
    event->u.worker_done.detail = why;
    return;
  }
  event->u.worker_done.status = runner_ckpt_status(result.head->status);
  own_t *own = result.answer ? own_of(&result, bytes, len, &copy) : NULL;
  if (!result.answer) {
    char *sentence = strdup(result.head->sentence);
    if (sentence) make_utf8(sentence);
    event->u.worker_done.detail = *ret_own = sentence;
    return;
  }
  if (!own) {
    event->u.worker_done.status = ENGINE_WORKER_NOT_BEGUN;
    event->u.worker_done.detail = "no memory for its answer";
    return;
  }
  uint32_t cnt = result.answer->entry_cnt;
  for (uint32_t i = 0; i < cnt; i++)
    put_ckpt((ckptentry_t *)(uintptr_t)&copy.entries[i], &own->ckpts[i]);
  if (op == RESULT_CHECKPOINT && own->ckpts[0].bad[0]) {
    event->u.worker_done.status = ENGINE_WORKER_GARBAGE;
    event->u.worker_done.detail = "the checkpoint that it took does not say what was asked of it";
    *ret_own = own;
    return;
  }
  make_utf8((char *)(uintptr_t)own->text);
  event->u.worker_done.result = own;
  event->u.worker_done.ckpts = own->ckpts;
  event->u.worker_done.ckpt_cnt = cnt;
  event->u.worker_done.gone = copy.gone;
  event->u.worker_done.gone_cnt = result.answer->gone_cnt;
  event->u.worker_done.written_size = result.answer->written;
  event->u.worker_done.freed_size = result.answer->freed;
  /* The head was copied with the rest. */
  char *sentence = ((result_head_t *)(uintptr_t)((uint8_t const *)copy.entries -
                                                 sizeof(ckptanswer_t) - sizeof(result_head_t)))
                       ->sentence;
  make_utf8(sentence);
  if (sentence[0]) event->u.worker_done.detail = sentence;
  *ret_own = own;
}

char const *ckptjob_text(void const *worker_result) {
  return worker_result ? ((own_t const *)worker_result)->text : "";
}
