/* The problem: an answer about checkpoints, from a process that mapped memory which strangers
   write, or read files which such a process wrote.

   The model: as result.c: all that can be said of it without the store is checked here, in one
   pass, before anybody looks at a field. What the spec of an entry says is for who decodes it.

   Refuses: to repair. */

#include "daemon/child/ckptask.h"

#include <string.h>

static int texts_end(wksp_ckpt_info_t const *info) {
  return memchr(info->name, 0, sizeof info->name) && memchr(info->host, 0, sizeof info->host) &&
         memchr(info->info, 0, sizeof info->info);
}

static int mode_ok(uint mode) {
  return mode == WKSP_CKPT_FUZZY || mode == WKSP_CKPT_QUIESCE;
}

static char const *entry_why(ckptask_t const *ask, ckptentry_t const *entry) {
  wksp_ckpt_info_t const *info = &entry->info;
  if (!entry->store_id || (ask->store_id && entry->store_id != ask->store_id))
    return "a checkpoint of another store";
  if (!info->id) return "a checkpoint without a number";
  if (entry->bad > 1 || !memchr(entry->sentence, 0, sizeof entry->sentence))
    return "an endless sentence";
  if (entry->bad) return NULL;
  if (!texts_end(info)) return "an endless text";
  if (!mode_ok(info->mode) || !mode_ok(info->mode_asked)) return "an impossible mode";
  if (info->style.codec > WKSP_CKPT_ZSTD) return "an impossible style";
  if (entry->spec_len > sizeof entry->spec) return "an impossible spec";
  if (!info->size || info->size_min > info->size || info->size > info->footprint ||
      info->data_sz > info->data_max || info->data_max > info->footprint)
    return "impossible dimensions";
  return NULL;
}

int ckptask_check(uint32_t op, ckptask_t const *ask, void const *bytes, size_t len,
                  ckptresult_t *ret_result, char const **ret_why) {
  result_head_t const *head = bytes;
  if (len < sizeof *head || head->magic != RESULT_MAGIC || head->op != op) {
    *ret_why = "the worker's answer is cut short or is none";
    return 0;
  }
  if (!memchr(head->sentence, 0, sizeof head->sentence) || head->status > 0 ||
      head->status < WKSP_E_UNSUPPORTED) {
    *ret_why = "the worker's answer has no legal status";
    return 0;
  }
  ckptresult_t result = {.head = head, .answer = (ckptanswer_t const *)(head + 1)};
  if (head->status) {
    *ret_why = "the worker's answer has another length than it says";
    if (len != sizeof *head) return 0;
    result.answer = NULL;
    *ret_result = result;
    return 1;
  }
  ckptanswer_t const *answer = result.answer;
  size_t left = len - sizeof *head;
  int sound = left >= sizeof *answer && answer->magic == CKPTASK_MAGIC &&
              answer->entry_cnt <= CKPTASK_ENTRIES_MAX && answer->gone_cnt <= CKPTASK_GONE_MAX &&
              answer->text_len <= CKPTASK_TEXT_MAX;
  if (!sound || left != sizeof *answer + answer->entry_cnt * sizeof(ckptentry_t) +
                            answer->gone_cnt * sizeof(uint64_t) + answer->text_len) {
    *ret_why = "the worker's answer has another length than it says";
    return 0;
  }
  if (op == RESULT_CHECKPOINT && answer->entry_cnt != 1) {
    *ret_why = "the worker took a checkpoint and does not tell which";
    return 0;
  }
  result.entries = (ckptentry_t const *)(answer + 1);
  result.gone = (uint64_t const *)(result.entries + answer->entry_cnt);
  result.text = (char const *)(result.gone + answer->gone_cnt);
  for (uint32_t i = 0; i < answer->entry_cnt; i++) {
    *ret_why = entry_why(ask, &result.entries[i]);
    if (*ret_why) return 0;
  }
  if (answer->text_len && memchr(result.text, 0, answer->text_len)) {
    *ret_why = "a text that ends early";
    return 0;
  }
  *ret_result = result;
  return 1;
}
