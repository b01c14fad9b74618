/* file: small files of the state folder, whole or not there. */

#ifndef WKSPD_SHELL_FILE_H
#define WKSPD_SHELL_FILE_H

#include <stddef.h>
#include <sys/types.h>

/* Bytes of a file's name, the NUL included: "<39 of a workspace's name>.schedule" and a bit. */
#define FILE_NAME_MAX 64

/* What a temporary file is called: its name and this. One that a kill leaves is to be removed by
   whoever lists the folder. */
#define FILE_TEMP_SUFFIX ".tmp"

/* Makes name in the folder hold text, replacing what was there: temporary file, write, fsync,
   rename, fsync of the folder. 0 once it is durable; else errno, *ret_call names what failed, and
   either content may be found after a power failure. The temporary file is gone then. */
int file_put(int dir_fd, char const *name, char const *text, size_t len, char const **ret_call);

/* The whole of a file of less than cap bytes, with a NUL. Its length, or -1 and errno (EFBIG:
   longer). Neither links are followed nor pipes waited for. */
ssize_t file_get(int dir_fd, char const *name, char *ret_text, size_t cap);

/* 1: an errno that speaks of a shortage of this moment, not of the file. */
int file_short(int err);

#endif
