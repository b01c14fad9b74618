/* kv: counts words, together with any number of other processes, in a table that outlives them all.

   The table is found through the root "kv". Nothing in it is a pointer: buckets and nodes hold
   gaddrs, which mean the same in every process. Nodes come from fd_alloc.

   Kill any of them at any instruction and the table stays whole: a node is complete before one CAS
   makes it part of its bucket, and a count is one atomic addition. A killed process loses at most
   the node that it had not published yet, or the table that it was about to found. Words are never
   removed, and the number of buckets does not grow. */

#include <ctype.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wksp/wksp.h>

#define KV_TAG      7UL
#define KV_BUCKETS  65536UL
#define KV_WORD_MAX 63U /* a longer word counts as its first 63 letters */
#define KV_TOP_MAX  99UL
#define KV_REPORT   100000UL /* words between two signs of life */

typedef struct node {
  ulong next; /* gaddr, constant once published, as all else but count */
  ulong hash; /* of the word; check computes it again */
  _Atomic ulong count;
  uint len;
  char word[];
} node_t;

static fd_wksp_t *wksp;
static fd_alloc_t *alloc;
static struct table {
  ulong alloc; /* gaddr of the fd_alloc that nodes come from */
  _Atomic ulong bucket[KV_BUCKETS];
} * table;

static void die(char const *what, char const *why) {
  fprintf(stderr, "kv: %s: %s\n", what, why);
  exit(1);
}

static ulong hash_of(char const *word, uint len) {
  ulong hash = 0xcbf29ce484222325UL;
  for (uint i = 0; i < len; i++) hash = (hash ^ (uchar)word[i]) * 0x100000001b3UL;
  return hash;
}

/* Makes a table and binds the root to it, unless another process is quicker. */
static void found_table(void) {
  struct table *own = fd_wksp_alloc_laddr(wksp, 0, sizeof *own, KV_TAG);
  void *shalloc = fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), KV_TAG);
  if (!own || !fd_alloc_new(shalloc, KV_TAG)) die("cannot make a table", wksp_last_error());
  memset(own, 0, sizeof *own);
  own->alloc = fd_wksp_gaddr(wksp, shalloc);
  int err = fd_wksp_root_add(wksp, "kv", fd_wksp_gaddr(wksp, own), KV_TAG);
  if (!err) return;
  if (err != WKSP_E_EXISTS) die("cannot bind the root kv", wksp_last_error());
  fd_alloc_delete(shalloc);
  fd_wksp_free_laddr(wksp, shalloc);
  fd_wksp_free_laddr(wksp, own);
}

static void count_word(char const *word, uint len) {
  ulong hash = hash_of(word, len);
  _Atomic ulong *bucket = &table->bucket[hash % KV_BUCKETS];
  ulong head = atomic_load_explicit(bucket, memory_order_acquire);
  for (node_t *node, *own = NULL;; own->next = head) {
    for (ulong gaddr = head; gaddr; gaddr = node->next) {
      node = fd_wksp_laddr_fast(wksp, gaddr);
      if (node->hash != hash || node->len != len || memcmp(node->word, word, len)) continue;
      atomic_fetch_add_explicit(&node->count, 1, memory_order_relaxed);
      fd_alloc_free(alloc, own); /* another process published the word first */
      return;
    }
    if (!own && !(own = fd_alloc_malloc(alloc, 0, sizeof *own + len)))
      die("no room for a word", wksp_last_error());
    *own = (node_t){.next = head, .hash = hash, .count = 1, .len = len};
    memcpy(own->word, word, len);
    /* Publishes the node; pairs with the acquire above. */
    if (atomic_compare_exchange_strong(bucket, &head, fd_wksp_gaddr_fast(wksp, own))) return;
  }
}

static ulong count_file(char const *path, ulong words) {
  char word[KV_WORD_MAX];
  FILE *file = fopen(path, "r");
  if (!file) die(path, "cannot be read");
  for (int c = 0, len = 0; c != EOF;) {
    c = getc_unlocked(file);
    int const letter = c != EOF && isalpha(c);
    if (letter && len < (int)KV_WORD_MAX) word[len++] = (char)tolower(c);
    if (letter || !len) continue;
    count_word(word, (uint)len);
    len = 0;
    if (++words % KV_REPORT == 0)
      printf("process %d has counted %lu words\n", (int)getpid(), words);
  }
  fclose(file);
  return words;
}

/* Walks the whole table, trusting nothing in it, and prints the top_cnt most frequent words. */
static void walk(ulong top_cnt) {
  node_t *top[KV_TOP_MAX + 1]; /* [0, kept) by count; place top_cnt is for the one that drops out */
  ulong cnt = 0, total = 0, kept = 0, cnt_max = fd_wksp_data_max(wksp) / sizeof(node_t);
  for (ulong b = 0, next; b < KV_BUCKETS; b++) {
    for (ulong gaddr = atomic_load(&table->bucket[b]); gaddr; gaddr = next) {
      node_t *node = fd_wksp_laddr(wksp, gaddr);
      ulong room = fd_wksp_gaddr_hi(wksp) - gaddr;
      if (!node || ++cnt > cnt_max || room < sizeof *node || node->len > room - sizeof *node ||
          node->hash != hash_of(node->word, node->len) || node->hash % KV_BUCKETS != b)
        die("the table is broken", "a node does not match its hash");
      ulong i = kept < top_cnt ? kept++ : top_cnt;
      for (; i && atomic_load(&top[i - 1]->count) < atomic_load(&node->count); i--)
        top[i] = top[i - 1];
      top[i] = node;
      total += atomic_load(&node->count);
      next = node->next;
    }
  }
  for (ulong i = 0; i < kept; i++)
    printf("%10lu %.*s\n", atomic_load(&top[i]->count), (int)top[i]->len, top[i]->word);
  printf("%lu different words, %lu in all, every node whole\n", cnt, total);
}

int main(int argc, char **argv) {
  char const *path = NULL; /* the default socket */
  if (argc > 2 && !strcmp(argv[1], "--socket")) path = argv[2], argv += 2, argc -= 2;
  char const *what = argc > 2 ? argv[2] : "";
  int counting = !strcmp(what, "count") && argc > 3;
  if (!counting && strcmp(what, "top") && strcmp(what, "check")) {
    fputs("usage: kv [--socket PATH] WORKSPACE count FILE... | top [N] | check\n", stderr);
    return 2;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  wksp_client_t *client = wksp_client_connect(path);
  if (client)
    wksp = wksp_client_attach(client, argv[1], counting ? WKSP_ATTACH_RW : WKSP_ATTACH_RO);
  if (!wksp) die("cannot attach", wksp_last_error());
  fd_wksp_root_t root;
  if (fd_wksp_root_find(wksp, "kv", &root) == WKSP_E_NOTFOUND && counting) found_table();
  if (fd_wksp_root_find(wksp, "kv", &root)) die("no table", wksp_last_error());
  table = fd_wksp_laddr(wksp, root.gaddr);
  ulong words = 0, top_cnt = what[0] == 'c' ? 0 : argc > 3 ? strtoul(argv[3], NULL, 10) : 10;
  if (counting) {
    alloc = fd_alloc_join(fd_wksp_laddr(wksp, table->alloc), (ulong)getpid());
    if (!alloc) die("cannot join the allocator", wksp_last_error());
    for (int i = 3; i < argc; i++) words = count_file(argv[i], words);
    printf("process %d is done: %lu words\n", (int)getpid(), words);
    fd_alloc_leave(alloc);
  } else {
    walk(top_cnt < KV_TOP_MAX ? top_cnt : KV_TOP_MAX);
  }
  fd_wksp_detach(wksp);
  wksp_client_close(client);
  return 0;
}
