/* The problem: somebody makes a mistake in wkspd.conf, and hours later an upgrade, a crash or a
   reboot restarts the daemon. Memory is safe with who keeps it, but nobody can open it before the
   mistake is found.

   The model: each configuration that was read as a whole is written down again, each key with what
   was said of it last (config.c). A start that finds a mistake, and that a service manager has
   made, so that nobody stands by to read why it failed, goes on with that (config_read) and says so
   for as long as it does.

   Refuses: to mix the two; to keep what the command line says; a copy that somebody has changed. */

#include "daemon/shell/config_keep.h"

#include "daemon/core/crc.h"
#include "daemon/shell/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEEP_NAME "wkspd.good"
#define CRC_LINE  "# crc="

#define KEEP_TEXT_MAX (CONFIG_SAID_MAX + 256U)

int config_keep_folder(char const *state_dir, char ret_path[CONFIG_PATH_MAX]) {
  char const *path = state_dir[0] ? state_dir : getenv("STATE_DIRECTORY");
  if (!path) return 0;
  size_t len = state_dir[0] ? strlen(path) : strcspn(path, ":");
  if (!len || len >= CONFIG_PATH_MAX - 64) return 0;
  memcpy(ret_path, path, len);
  ret_path[len] = '\0';
  return 1;
}

/* -1 and errno: it is not there, or others could have written what is in it. */
static int open_folder(char const *path) {
  struct stat st;
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return -1;
  if (!fstat(fd, &st) && st.st_uid == geteuid() && !(st.st_mode & (S_IWGRP | S_IWOTH))) return fd;
  close(fd);
  errno = EPERM;
  return -1;
}

/* The text of the copy. Its length; 0: there is no room. */
static size_t put_all(char *ret_text, config_t const *config) {
  int len =
      snprintf(ret_text, KEEP_TEXT_MAX,
               "# What wkspd has read last without a mistake; for a start that finds one.\n%s",
               config->said);
  if (config->said_cut || len + 32 > (int)KEEP_TEXT_MAX) return 0;
  return (size_t)len + (size_t)snprintf(ret_text + len, KEEP_TEXT_MAX - (size_t)len,
                                        CRC_LINE "%08x\n", crc_of(ret_text, (size_t)len));
}

/* Whether text ends with the checksum of what is before it. */
static int sound(char const *text, size_t len) {
  char line[32];
  int line_len = snprintf(line, sizeof line, CRC_LINE "%08x\n", 0U);
  if (len < (size_t)line_len || strlen(text) != len) return 0;
  len -= (size_t)line_len;
  snprintf(line, sizeof line, CRC_LINE "%08x\n", crc_of(text, len));
  return !strcmp(text + len, line);
}

int config_keep(config_t const *config, char *ret_detail) {
  char folder[CONFIG_PATH_MAX];
  char const *call = "malloc";
  if (!config_keep_folder(config->state_dir_given ? config->state_dir : "", folder)) return 0;
  char *there = malloc(KEEP_TEXT_MAX), *text = malloc(KEEP_TEXT_MAX);
  size_t text_len = there && text ? put_all(text, config) : 0;
  int fd = -1, err = !there || !text ? ENOMEM : text_len ? 0 : EFBIG;
  if (!err) {
    call = "open";
    fd = open_folder(folder);
    if (fd < 0) err = errno;
  }
  if (!err) {
    ssize_t len = file_get(fd, KEEP_NAME, there, KEEP_TEXT_MAX);
    if (len != (ssize_t)text_len || memcmp(there, text, text_len) != 0)
      err = file_put(fd, KEEP_NAME, text, text_len, &call);
  }
  if (err)
    snprintf(ret_detail, CONFIG_ERROR_MAX, "%.800s/" KEEP_NAME ": %s: %s", folder, call,
             strerror(err));
  if (fd >= 0) close(fd);
  free(there);
  free(text);
  return err;
}

int config_kept(config_t *config, char const *folder) {
  char path[CONFIG_PATH_MAX + 16], error[CONFIG_ERROR_MAX];
  char *text = malloc(KEEP_TEXT_MAX);
  int fd = text ? open_folder(folder) : -1, bad = 2;
  ssize_t len = fd >= 0 ? file_get(fd, KEEP_NAME, text, KEEP_TEXT_MAX) : -1;
  snprintf(path, sizeof path, "%s/" KEEP_NAME, folder);
  if (len > 0 && sound(text, (size_t)len)) bad = config_file(config, path, error);
  if (fd >= 0) close(fd);
  free(text);
  return bad;
}
