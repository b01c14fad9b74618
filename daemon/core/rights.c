/* rights: who may do what, and who may know what.

   A workspace has an owner and a mode, as a file has. A peer is its uid, its gid and its further
   groups, as the kernel had them when it connected:

     administers   uid 0, who is in the administrators' group, and what the operator declares: all
     owner         all, whatever the mode says
     group         the mode's middle bits, for any of the peer's groups
     others        the last bits

   Who may not read a workspace is not to learn its name: for him it is not there, word for word
   (fault_unknown), in lists and events too. One thing cannot be kept from him, for names are one
   space: that his own create of that name is refused.

   Refuses to grant by name or pid. */

#include <inttypes.h>
#include <string.h>

#include "daemon/core/engine_priv.h"

int rights_member(conn_t const *conn, uint32_t gid) {
  if (conn->gid == gid) return 1;
  for (uint32_t i = 0; i < conn->gid_cnt; i++)
    if (conn->gids[i] == gid) return 1;
  return 0;
}

int rights_admin(engine_config_t const *config, conn_t const *conn) {
  return !conn->uid || (config->admin_gid && rights_member(conn, config->admin_gid));
}

/* What of want is refused. */
static int refused_of(spec_t const *spec, conn_t const *conn, int want) {
  uint32_t bits = rights_member(conn, spec->gid) ? spec->mode >> 3 : spec->mode;

  if (conn->admin || conn->uid == spec->uid) return 0;
  if (bits & 04) want &= ~WANT_READ;
  if (bits & 02) want &= ~WANT_WRITE;
  return want;
}

int rights_sees(spec_t const *spec, conn_t const *conn) {
  return !refused_of(spec, conn, WANT_READ);
}

/* The same words whether it is not there, not there yet, or not to be seen. */
static void fault_unknown(char const *name, engine_reply_t *ret_fault) {
  fault_set(ret_fault, ENGINE_CODE_NOT_FOUND, "unknown", "there is no workspace \"%s\"", name);
  fault_workspace(ret_fault, name);
  fault_hint(ret_fault, "list the workspaces there are; one that is being made comes with its end");
}

ws_t *ws_lookup(engine_t *e, char const *name, engine_reply_t *ret_fault) {
  if (fault_name(name, ret_fault)) return NULL;
  ws_t *ws = registry_by_name(&e->registry, name);
  if (ws && ws_visible(ws)) return ws;
  fault_unknown(name, ret_fault);
  return NULL;
}

int fault_rights(spec_t const *spec, conn_t const *conn, int want, engine_reply_t *ret_fault) {
  int refused = refused_of(spec, conn, want);

  if (!rights_sees(spec, conn)) {
    fault_unknown(spec->name, ret_fault);
    return 1;
  }
  if (!refused) return 0;
  fault_set(ret_fault, ENGINE_CODE_PERMISSION_DENIED, "permission",
            "uid %" PRIu32 " gid %" PRIu32 " may not %s workspace \"%s\" of uid %" PRIu32
            " gid %" PRIu32 " mode 0%03o",
            conn->uid, conn->gid, refused & WANT_DELETE ? "remove" : "write", spec->name, spec->uid,
            spec->gid, spec->mode);
  fault_workspace(ret_fault, spec->name);
  fault_hint(ret_fault, "ask its owner (uid %" PRIu32 "), or who administers wkspd", spec->uid);
  return 1;
}
