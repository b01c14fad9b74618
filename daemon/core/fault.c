/* fault: what is wrong with a request, in words and figures.

   Every refusal says what was refused, which value, and what to do. Values come from peers, so they
   are made printable before they stand in a sentence. Refuses to change anything. */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/core/engine_priv.h"

void text_printable(char const *in, char *out, size_t out_size) {
  size_t i = 0;
  for (; in[i] && i + 1 < out_size; i++) out[i] = in[i] >= 0x20 && in[i] <= 0x7e ? in[i] : '?';
  out[i] = 0;
}

void fault_set(engine_reply_t *ret_fault, int code, char const *kind, char const *format, ...) {
  char sentence[ENGINE_SENTENCE_MAX];
  va_list args;

  *ret_fault = (engine_reply_t){.code = code, .detail_kind = kind, .detail_node = -1};
  va_start(args, format);
  vsnprintf(sentence, sizeof(sentence), format, args);
  va_end(args);
  text_printable(sentence, ret_fault->sentence, sizeof(ret_fault->sentence));
}

void fault_hint(engine_reply_t *fault, char const *format, ...) {
  char hint[ENGINE_HINT_MAX];
  va_list args;

  va_start(args, format);
  vsnprintf(hint, sizeof(hint), format, args);
  va_end(args);
  text_printable(hint, fault->detail_hint, sizeof(fault->detail_hint));
}

void fault_figures(engine_reply_t *fault, uint64_t wanted, uint64_t free) {
  fault->detail_wanted = wanted;
  fault->detail_free = free;
}

void fault_workspace(engine_reply_t *fault, char const *name) {
  snprintf(fault->detail_workspace, sizeof(fault->detail_workspace), "%s", name);
}

int fault_name(char const *name, engine_reply_t *ret_fault) {
  if (spec_name_ok(name)) return 0;
  fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "name",
            "\"%s\" is not a name for a workspace: it takes 1 to 39 letters, digits, '.', '_' or "
            "'-', the first a letter or digit",
            name);
  fault_hint(ret_fault, "choose another name");
  return 1;
}

int fault_limit(char const *what, uint64_t in_use, uint64_t limit, engine_reply_t *ret_fault) {
  if (in_use < limit) return 0;
  fault_set(ret_fault, ENGINE_CODE_RESOURCE_EXHAUSTED, "limit",
            "%" PRIu64 " %s are in use and the limit is %" PRIu64 "; try again when some are free",
            in_use, what, limit);
  fault_figures(ret_fault, in_use + 1, 0);
  fault_hint(ret_fault, "end some of the %s, or try again later", what);
  return 1;
}

int fault_kept(engine_t const *e, engine_reply_t *ret_fault) {
  uint64_t kept = (uint64_t)e->registry.by_id.cnt + e->leases.by_id.cnt;
  return fault_limit("workspaces and leases", kept, e->config.kept_max, ret_fault) ||
         fault_limit("workspaces, leases and connections", kept + e->calls.conns.cnt,
                     e->config.files_max, ret_fault);
}

int fault_size(engine_t const *e, uint64_t size, engine_reply_t *ret_fault) {
  if (!size || size > SPEC_SIZE_MAX) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "size",
              "a workspace of %" PRIu64 " bytes cannot be: the size must be 1 to %lu (64 TiB)",
              size, SPEC_SIZE_MAX);
    fault_figures(ret_fault, size, SPEC_SIZE_MAX);
    fault_hint(ret_fault, "give a size such as 64M");
    return 1;
  }
  if (e->config.memory_bytes && size > e->config.memory_bytes) {
    fault_set(ret_fault, ENGINE_CODE_RESOURCE_EXHAUSTED, "size",
              "a workspace of %" PRIu64 " bytes is larger than this machine's memory of %" PRIu64
              " bytes",
              size, e->config.memory_bytes);
    fault_figures(ret_fault, size, e->config.memory_bytes);
    fault_hint(ret_fault, "give a smaller size");
    return 1;
  }
  return 0;
}

/* Sizes and pages of a create. */
int fault_dimensions(engine_t const *e, engine_request_t const *req, engine_reply_t *ret_fault) {
  uint64_t page_size = req->u.create.page_size;

  if (fault_size(e, req->u.create.size, ret_fault)) return 1;
  /* What it may grow to counts now: a writer can touch beyond its present end. */
  uint64_t max_size = req->u.create.max_size;
  if (max_size && max_size < req->u.create.size) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "max_size",
              "a workspace of %" PRIu64 " bytes cannot have a max-size of %" PRIu64
              ": it must be at least the size, or 0 for the same",
              req->u.create.size, max_size);
    fault_figures(ret_fault, max_size, req->u.create.size);
    fault_hint(ret_fault, "give a larger max-size, or leave it out");
    return 1;
  }
  if (max_size && fault_size(e, max_size, ret_fault)) return 1;
  if (page_size && topo_size_of(page_size) < 0) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "page_size",
              "there are no pages of %" PRIu64 " bytes: the page size must be 4096, 2097152, "
              "1073741824 or 0 for whichever is to be had",
              page_size);
    fault_hint(ret_fault, "leave the page size out");
    return 1;
  }
  return 0;
}

int fault_create(engine_t const *e, engine_request_t const *req, engine_reply_t *ret_fault) {
  uint64_t part_max = req->u.create.part_max;

  if (fault_name(req->u.create.name, ret_fault)) return 1;
  if (fault_dimensions(e, req, ret_fault)) return 1;
  if (req->u.create.mode > SPEC_MODE_MAX) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "mode",
              "mode 0%o is not one: it must be 0 to 0777 (0 means 0660)", req->u.create.mode);
    fault_hint(ret_fault, "give permission bits such as 0660");
    return 1;
  }
  if (part_max && (part_max < SPEC_PART_MIN || part_max > SPEC_PART_MAX)) {
    fault_set(ret_fault, ENGINE_CODE_INVALID_ARGUMENT, "part_max",
              "a workspace cannot have %" PRIu64 " partitions at the most: it must be %lu to %lu, "
              "or 0 for an estimate",
              part_max, SPEC_PART_MIN, SPEC_PART_MAX);
    fault_figures(ret_fault, part_max, SPEC_PART_MAX);
    fault_hint(ret_fault, "leave it out");
    return 1;
  }
  return 0;
}

int fault_served(ws_t const *ws, engine_reply_t *ret_fault) {
  if (ws->state == WS_SPEC_REMOVING || ws->state == WS_REMOVING) {
    fault_set(ret_fault, ENGINE_CODE_FAILED_PRECONDITION, "removing",
              "workspace \"%s\" is being removed", ws->spec.name);
    fault_workspace(ret_fault, ws->spec.name);
    fault_hint(ret_fault, "create it anew once it has gone");
    return 1;
  }
  if (ws->quarantined) {
    fault_set(ret_fault, ENGINE_CODE_FAILED_PRECONDITION, "quarantined",
              "workspace \"%s\" is kept but not served: %s", ws->spec.name, ws->reason);
    fault_workspace(ret_fault, ws->spec.name);
    fault_hint(ret_fault, "its owner or root may remove it");
    return 1;
  }
  return 0;
}

int fault_writable(ws_t const *ws, engine_reply_t *ret_fault) {
  if (fault_served(ws, ret_fault)) return 1;
  if (!ws->read_only) return 0;
  fault_set(ret_fault, ENGINE_CODE_FAILED_PRECONDITION, "read_only",
            "workspace \"%s\" is served read-only: %s", ws->spec.name, ws->reason);
  fault_workspace(ret_fault, ws->spec.name);
  fault_hint(ret_fault, "open it read-only, or run the daemon that it was made by");
  return 1;
}
