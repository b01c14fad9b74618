/* format: the bytes of packs and manifests; docs/format.md explains them.

   Numbers are in the order of the machine; one of the other order finds no magic number that it
   knows, as it would in a workspace. Every byte of a file is covered by a checksum of 64 bits at
   least: of the header that it is in, or of the payload that a header describes.

   A feature bit that a reader does not know makes a file unreadable (incompat) or does not matter
   (compat); so do sections of a manifest, by their flag. */

#ifndef WKSP_CKPT_FORMAT_H
#define WKSP_CKPT_FORMAT_H

#include "wksp/ckpt.h"

#include <stdint.h>

#define WKSP_CK_PACK_MAGIC     0x314b434150534b57UL /* "WKSPACK1" in memory */
#define WKSP_CK_MANIFEST_MAGIC 0x3154504b43534b57UL /* "WKSCKPT1" */
#define WKSP_CK_VERSION        1U
#define WKSP_CK_INCOMPAT_KNOWN 0UL

typedef struct wksp__ck_digest {
  uint64_t lo, hi;
} wksp__ck_digest_t;

/* Both kinds of file begin so. */
typedef struct wksp__ck_head {
  uint64_t magic;
  uint32_t version, pad;
  uint64_t compat, incompat;
  uint64_t id;         /* of the checkpoint that it was made for */
  uint64_t created_ns; /* since 1970 */
  uint64_t file_sz;    /* of a manifest; 0 in a pack, whose end says it */
  uint64_t sum;        /* of all before */
} wksp__ck_head_t;

/* A pack: head, frames, end. A frame is a header and stored_len bytes. */
#define WKSP_CK_FRAME_MAGIC 0x4d415246U /* "FRAM" */
#define WKSP_CK_END_MAGIC   0x53444e45U /* "ENDS" */
typedef struct wksp__ck_frame {
  uint32_t magic, codec;
  uint32_t raw_len, stored_len;
  wksp__ck_digest_t digest; /* of the raw bytes */
  uint64_t payload_sum;     /* of the stored bytes; 0 if they are raw, which digest covers */
  uint64_t sum;             /* of all before */
} wksp__ck_frame_t;

typedef struct wksp__ck_end {
  uint32_t magic, pad;
  uint64_t frame_cnt, file_sz;
  uint64_t sum; /* of all before */
} wksp__ck_end_t;

/* A manifest: head, sections. A section is a header and stored_len bytes. */
typedef struct wksp__ck_section {
  uint32_t type, flags;
  uint32_t codec, pad; /* WKSP_CKPT_RAW or _ZSTD */
  uint64_t raw_len, stored_len;
  uint64_t payload_sum; /* of the stored bytes */
  uint64_t sum;         /* of all before */
} wksp__ck_section_t;

#define WKSP_CK_SECTION_SKIP 1U /* a reader that does not know the type may skip it */

enum {
  WKSP_CK_SEC_INFO = 1,     /* wksp__ck_wire_info_t */
  WKSP_CK_SEC_TEXT = 2,     /* host, NUL, the user's text, NUL */
  WKSP_CK_SEC_SPEC = 3,     /* the caller's */
  WKSP_CK_SEC_PARTS = 4,    /* wksp__ck_part_t, ascending */
  WKSP_CK_SEC_ROOTS = 5,    /* wksp__ck_root_t */
  WKSP_CK_SEC_DIR = 6,      /* wksp__ck_dir_t */
  WKSP_CK_SEC_SPANS = 7,    /* wksp__ck_span_t, ascending */
  WKSP_CK_SEC_BITS = 8,     /* words */
  WKSP_CK_SEC_SUSPECTS = 9, /* wksp__ck_suspect_t */
  WKSP_CK_SEC_PACKS = 10,   /* wksp__ck_wire_pack_t */
  WKSP_CK_SEC_CHUNKS = 11,  /* wksp__ck_ref_t, one for each chunk in the order of windows */
  WKSP_CK_SEC_SILENT = 12,  /* wksp_ckpt_silent_t */
  WKSP_CK_SEC_CNT = 13
};

typedef struct wksp__ck_wire_info {
  uint8_t uuid[16];
  char name[FD_WKSP_NAME_MAX + 1];
  uint32_t seed, layout_version;
  uint64_t geometry_hash, compat, ro_compat, incompat;
  uint64_t part_max, data_max, data_sz, page_size;
  uint32_t mode_asked, mode, codec;
  int32_t level;
  uint64_t took_ns, pause_ns;
  uint64_t live_sz, scanned_sz, changed_sz, written_sz;
  uint32_t chunk_lg, silent_cnt;
} wksp__ck_wire_info_t;

typedef struct wksp__ck_wire_pack {
  uint64_t id, file_sz;
} wksp__ck_wire_pack_t;

/* Where a chunk's bytes are. pack: number in the section of packs. off: of its frame. */
typedef struct wksp__ck_ref {
  wksp__ck_digest_t digest;
  uint64_t off;
  uint32_t pack, raw_len, stored_len, codec;
} wksp__ck_ref_t;

_Static_assert(sizeof(wksp__ck_head_t) == 64, "as docs/format.md says");
_Static_assert(sizeof(wksp__ck_frame_t) == 48, "as docs/format.md says");
_Static_assert(sizeof(wksp__ck_end_t) == 32, "as docs/format.md says");
_Static_assert(sizeof(wksp__ck_section_t) == 48, "as docs/format.md says");
_Static_assert(sizeof(wksp__ck_wire_info_t) == 200, "as docs/format.md says");
_Static_assert(sizeof(wksp__ck_ref_t) == 40, "as docs/format.md says");

/* Digest of a chunk; checksum of anything else. */
wksp__ck_digest_t wksp__ck_digest(void const *bytes, uint64_t len);
/* The same of several ranges, one behind the other. state: of wksp__ck_digest_state_sz bytes,
   aligned to 64. */
extern uint64_t const wksp__ck_digest_state_sz;
void wksp__ck_digest_begin(void *state);
void wksp__ck_digest_add(void *state, void const *bytes, uint64_t len);
wksp__ck_digest_t wksp__ck_digest_end(void *state);
uint64_t wksp__ck_sum(void const *bytes, uint64_t len);

static inline int wksp__ck_digest_same(wksp__ck_digest_t a, wksp__ck_digest_t b) {
  return a.lo == b.lo && a.hi == b.hi;
}

/* Whether a checksum read from a file is right; a fuzzer's build takes any, for it would never
   guess one. */
int wksp__ck_sum_ok(void const *bytes, uint64_t len, uint64_t sum);

/* Codecs (codec.c). A coder belongs to one thread. */
typedef struct wksp__ck_coder wksp__ck_coder_t;
int wksp__ck_coder_new(wksp__ck_coder_t **ret_coder); /* 0, E_NOMEM (reported) */
void wksp__ck_coder_free(wksp__ck_coder_t *coder);

/* Bytes that may be needed to store len bytes. */
uint64_t wksp__ck_coder_bound(uint64_t len);

/* Writes len bytes as style says, to room of bound bytes: how many, and *ret_codec: RAW and nothing
   written if that would be no shorter. Negative: E_NOMEM (reported). */
long wksp__ck_encode(wksp__ck_coder_t *coder, wksp_ckpt_style_t style, void const *raw,
                     uint64_t len, void *to, uint32_t *ret_codec);

/* Makes raw_len bytes of them again. 1, or 0: they are not what a coder wrote. */
int wksp__ck_decode(wksp__ck_coder_t *coder, uint32_t codec, void const *stored,
                    uint64_t stored_len, void *raw, uint64_t raw_len);

#endif
