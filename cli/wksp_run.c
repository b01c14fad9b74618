/* wksp-run: runs a program with its heap on libwksp_malloc.so.

   Sets the environment that the library reads, LD_PRELOAD before all, and becomes the program. What
   LD_PRELOAD had before comes after. Programs that it starts in turn inherit all of it.

   What it refuses: an option that the library would not understand; there are no defaults of its
   own. */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char const g_usage[] =
    "usage: wksp-run [OPTION...] [--] PROGRAM [ARGUMENT...]\n"
    "\n"
    "Runs PROGRAM with its heap on libwksp_malloc.so; see wksp-run(1).\n"
    "\n"
    "  --huge[=thp|hugetlb]  2 MiB pages, as the kernel finds them or from the pool\n"
    "  --numa NODES          on these memory nodes, such as 0 or 0,2-3\n"
    "  --stats               a report on standard error when it ends\n"
    "  --keep SIZE           free memory that it keeps at hand, such as 32M\n"
    "  --size SIZE           addresses that it reserves at most, such as 64G\n"
    "  --bad-free HOW        of frees that are refused: tell, ignore or abort\n"
    "  --workspace NAME      the heap lies in this workspace of wkspd, which others see\n"
    "  --tag TAG             of what it takes there\n"
    "  --library FILE        this libwksp_malloc.so\n"
    "  --help, --version\n";

static int fail(char const *what, char const *which, char const *why) {
  fprintf(stderr, "wksp-run: %s%s%s%s\n", what, which, *why ? ": " : "", why);
  return 2;
}

static int set(char const *name, char const *value) {
  return setenv(name, value, 1) ? fail("setting ", name, strerror(errno)) : 0;
}

/* A size as the library reads it. */
static int size_ok(char const *text) {
  size_t digits = strspn(text, "0123456789");
  return digits && digits < 19 && strspn(text + digits, "KMGTkmgt") == strlen(text + digits) &&
         strlen(text + digits) < 2;
}

/* Nodes as the library reads them, as far as their characters go. */
static int nodes_ok(char const *text) {
  return *text && strspn(text, "0123456789,-") == strlen(text) && text[strlen(text) - 1] >= '0';
}

static int one_of(char const *text, char const *a, char const *b, char const *c) {
  return !strcmp(text, a) || !strcmp(text, b) || !strcmp(text, c);
}

/* 0, 2 (told). */
static int option(int opt, char const *value, char const **library) {
  switch (opt) {
  case 'h':
    if (!value) value = "thp";
    if (!one_of(value, "thp", "hugetlb", "0")) return fail("--huge=", value, "thp or hugetlb");
    return set("WKSP_MALLOC_HUGE", value);
  case 'n':
    if (!nodes_ok(value)) return fail("--numa ", value, "nodes are numbers, such as 0 or 0,2-3");
    return set("WKSP_MALLOC_NUMA", value);
  case 's':
    return set("WKSP_MALLOC_STATS", "1");
  case 'k':
  case 'z':
    if (!size_ok(value)) return fail("no size: ", value, "bytes, or with K, M, G or T");
    return set(opt == 'k' ? "WKSP_MALLOC_KEEP" : "WKSP_MALLOC_SIZE", value);
  case 'b':
    if (!one_of(value, "tell", "ignore", "abort"))
      return fail("--bad-free ", value, "tell, ignore or abort");
    return set("WKSP_MALLOC_BAD_FREE", value);
  case 'w':
    return set("WKSP_MALLOC_WORKSPACE", value);
  case 't':
    if (!size_ok(value)) return fail("--tag ", value, "a number");
    return set("WKSP_MALLOC_TAG", value);
  case 'l':
    *library = value;
    return 0;
  default:
    fputs("wksp-run --help says what there is\n", stderr);
    return 2;
  }
}

static int preload(char const *library) {
  char const *before = getenv("LD_PRELOAD");
  char *value;
  if (access(library, R_OK)) return fail("", library, strerror(errno));
  if (strpbrk(library, " :")) return fail("", library, "the dynamic linker takes no such path");
  if (asprintf(&value, "%s%s%s", library, before && *before ? ":" : "", before ? before : "") < 0)
    return fail("out of memory", "", "");
  int err = set("LD_PRELOAD", value);
  free(value);
  return err;
}

int main(int argc, char **argv) {
  static struct option const options[] = {
      {"huge", optional_argument, NULL, 'h'},      {"numa", required_argument, NULL, 'n'},
      {"stats", no_argument, NULL, 's'},           {"keep", required_argument, NULL, 'k'},
      {"size", required_argument, NULL, 'z'},      {"bad-free", required_argument, NULL, 'b'},
      {"workspace", required_argument, NULL, 'w'}, {"tag", required_argument, NULL, 't'},
      {"library", required_argument, NULL, 'l'},   {"help", no_argument, NULL, 'H'},
      {"version", no_argument, NULL, 'V'},         {NULL, 0, NULL, 0}};
  char const *library = WKSP_PRELOAD_PATH;
  for (int opt, err; (opt = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
    if (opt == 'H' || opt == 'V') {
      fputs(opt == 'H' ? g_usage : "wksp-run " WKSP_VERSION "\n", stdout);
      return 0;
    }
    if ((err = option(opt, optarg, &library))) return err;
  }
  if (optind == argc) return fail("no program: ", "", "wksp-run --help says what there is");
  int err = preload(library);
  if (err) return err;
  execvp(argv[optind], argv + optind);
  err = errno;
  fail("", argv[optind], strerror(err));
  return err == ENOENT ? 127 : 126;
}
