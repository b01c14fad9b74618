/* codec: how chunks are stored.

   lz4 as one block, zstd as one frame, each with its length outside; what does not become shorter
   is stored as it is, whatever the style, so a style is a wish and each chunk says what it got. A
   coder keeps what a codec wants for its work from one chunk to the next. */

#include "ckpt/format.h"

#include "core/fail.h"

#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define LEVEL_MIN     (-7)
#define LEVEL_MAX     19
#define LEVEL_DEFAULT 1

struct wksp__ck_coder {
  ZSTD_CCtx *cctx;
  ZSTD_DCtx *dctx;
};

int wksp__ck_coder_new(wksp__ck_coder_t **ret_coder) {
  wksp__ck_coder_t *coder = calloc(1, sizeof *coder);
  if (coder) {
    coder->cctx = ZSTD_createCCtx();
    coder->dctx = ZSTD_createDCtx();
  }
  if (!coder || !coder->cctx || !coder->dctx) {
    wksp__ck_coder_free(coder);
    return wksp__fail(WKSP_E_NOMEM, "checkpoint: no memory for a codec");
  }
  *ret_coder = coder;
  return 0;
}

void wksp__ck_coder_free(wksp__ck_coder_t *coder) {
  if (!coder) return;
  ZSTD_freeCCtx(coder->cctx);
  ZSTD_freeDCtx(coder->dctx);
  free(coder);
}

uint64_t wksp__ck_coder_bound(uint64_t len) {
  uint64_t lz4 = (uint64_t)LZ4_compressBound((int)len), zstd = ZSTD_compressBound(len);
  return lz4 > zstd ? lz4 : zstd;
}

long wksp__ck_encode(wksp__ck_coder_t *coder, wksp_ckpt_style_t style, void const *raw,
                     uint64_t len, void *to, uint32_t *ret_codec) {
  uint64_t got = 0;
  *ret_codec = WKSP_CKPT_RAW;
  if (style.codec == WKSP_CKPT_LZ4) {
    got = (uint64_t)LZ4_compress_default(raw, to, (int)len, (int)wksp__ck_coder_bound(len));
  } else if (style.codec == WKSP_CKPT_ZSTD) {
    got = ZSTD_compressCCtx(coder->cctx, to, wksp__ck_coder_bound(len), raw, len,
                            style.level ? style.level : LEVEL_DEFAULT);
    if (ZSTD_isError(got))
      return wksp__fail(WKSP_E_NOMEM, "checkpoint: zstd: %s", ZSTD_getErrorName(got));
  }
  if (!got || got >= len) return (long)len;
  *ret_codec = style.codec;
  return (long)got;
}

int wksp__ck_decode(wksp__ck_coder_t *coder, uint32_t codec, void const *stored,
                    uint64_t stored_len, void *raw, uint64_t raw_len) {
  if (codec == WKSP_CKPT_RAW) {
    if (stored_len != raw_len) return 0;
    if (raw != stored) memcpy(raw, stored, raw_len);
    return 1;
  }
  if (codec == WKSP_CKPT_LZ4 && stored_len <= INT32_MAX && raw_len <= INT32_MAX)
    return LZ4_decompress_safe(stored, raw, (int)stored_len, (int)raw_len) == (int)raw_len;
  if (codec == WKSP_CKPT_ZSTD)
    return ZSTD_decompressDCtx(coder->dctx, raw, raw_len, stored, stored_len) == raw_len;
  return 0;
}

/* Styles
 * ---------------------------------------------------------------------------------------------- */

int wksp_ckpt_style_parse(char const *text, wksp_ckpt_style_t *ret_style) {
  wksp_ckpt_style_t style = {0};
  if (!text) return wksp__fail(WKSP_E_INVAL, "style: it is NULL");
  if (!strcmp(text, "raw")) {
    style.codec = WKSP_CKPT_RAW;
  } else if (!strcmp(text, "lz4")) {
    style.codec = WKSP_CKPT_LZ4;
  } else if (!strcmp(text, "zstd")) {
    style = (wksp_ckpt_style_t){WKSP_CKPT_ZSTD, LEVEL_DEFAULT};
  } else {
    char *end = NULL;
    long level = strncmp(text, "zstd:", 5) ? 0 : strtol(text + 5, &end, 10);
    if (!end || end == text + 5 || *end || !level || level < LEVEL_MIN || level > LEVEL_MAX)
      return wksp__fail(WKSP_E_INVAL,
                        "style: \"%.32s\" is none: raw, lz4, zstd or zstd:LEVEL, with a level "
                        "from %d to %d, not 0",
                        text, LEVEL_MIN, LEVEL_MAX);
    style = (wksp_ckpt_style_t){WKSP_CKPT_ZSTD, (int)level};
  }
  *ret_style = style;
  return 0;
}

char *wksp_ckpt_style_cstr(wksp_ckpt_style_t style, char *text) {
  static char const *const names[] = {"raw", "lz4", "zstd"};
  char const *name = style.codec <= WKSP_CKPT_ZSTD ? names[style.codec] : "unknown";
  if (style.codec == WKSP_CKPT_ZSTD && style.level)
    snprintf(text, WKSP_CKPT_STYLE_MAX, "%s:%d", name, style.level);
  else
    snprintf(text, WKSP_CKPT_STYLE_MAX, "%s", name);
  return text;
}

int wksp_ckpt_styles(int (*on_style)(void *arg, char const *name, char const *about), void *arg) {
  static struct {
    char const *name, *about;
  } const all[] = {
      {"raw", "as it is: as fast as the disk takes it"},
      {"lz4", "lz4, for disks slower than memory"},
      {"zstd", "zstd at level 1"},
      {"zstd:LEVEL", "zstd at a level from -7 (fastest) to 19 (smallest), not 0"},
  };
  if (!on_style) return wksp__fail(WKSP_E_INVAL, "styles: on_style is NULL");
  for (uint32_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    int stop = on_style(arg, all[i].name, all[i].about);
    if (stop) return stop;
  }
  return 0;
}
