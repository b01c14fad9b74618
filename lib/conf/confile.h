/* confile: a configuration file, sections of key = value, read by inih line by line. */

#ifndef WKSP_CONF_CONFILE_H
#define WKSP_CONF_CONFILE_H

#include <stddef.h>

/* Room for a sentence about a mistake. */
#define CONFIG_ERROR_MAX 1024

/* A path of the configuration; PATH_MAX of Linux. */
#define CONFIG_PATH_MAX 4096

/* Bytes of a line, without its end: inih would cut what is longer, so it is refused. */
#define CONFIG_LINE_MAX 198

/* Bytes of a file: some 5,000 of the longest lines. */
#define CONFIG_FILE_MAX (1U << 20)

/* Files of a folder that are read. */
#define CONFILE_FOLDER_MAX 16384U

typedef struct confile confile_t;

/* One key, in the order of the file. To refuse it: confile_refuse. */
typedef void (*confile_key_t)(confile_t *file, char const *section, char const *name,
                              char const *value);

struct confile {
  void *arg; /* the reader's */
  char const *path;
  int line;    /* of the key, from 1 */
  char *error; /* "" as long as all is well */
  /* private */
  void *stream;
  confile_key_t key;
  size_t bytes;
};

/* Reads the file. 0, or 2 and a sentence that begins with the file, and the line if one is wrong:
   it cannot be read, is no regular file, is too long, has a line that is too long, a NUL, or is
   none, or a key was refused. What follows is not read then. */
int confile_read(char const *path, confile_key_t key, void *arg, char *ret_error);

/* Refuses the key of this line: "<file>:<line>: " and the sentence. */
void confile_refuse(confile_t *file, char const *format, ...) __attribute__((format(printf, 2, 3)));

/* Refuses a key that is given a second time: *seen counts. 1, or 0. */
int confile_twice(confile_t *file, char const *name, unsigned *seen);

/* The files of a folder whose names end in .conf and do not begin with a dot, in the order of their
   names; to be freed. A folder that is not there has none. 0, or 2 and a sentence. */
int confile_folder(char const *path, char ***ret_names, size_t *ret_cnt, char *ret_error);
void confile_folder_free(char **names, size_t cnt);

#endif
