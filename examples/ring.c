/* ring: messages from one process to another, through a ring that outlives both.

   The ring lies in a workspace and is found through the root "ring". A message is a block from
   fd_alloc: the sender takes it, writes it, and hands over its gaddr; the receiver reads it and
   frees it. Who finds the ring full or empty waits on a futex, which works between processes.

   sent and done are the only facts. The sender publishes a message by one store to sent, the
   receiver takes it over by one store to done. Kill either at any instruction and start it again:
   it goes on where it was. A message arrives once, but for one kill: a receiver that dies between
   its store to done and what it does with the message. At most one block is left without an owner
   then.
   Refuses to: serve two senders, or two receivers, at a time. */

#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wksp/wksp.h>

#define RING_TAG 8UL
#define RING_CNT 256U /* messages under way, a power of two */

typedef struct message {
  uint number; /* the first is 1 */
  uint len;
  char text[];
} message_t;

typedef struct ring {
  ulong alloc;                   /* gaddr of the fd_alloc that messages come from */
  _Alignas(64) atomic_uint sent; /* messages since the start, modulo 2^32; the sender's */
  _Alignas(64) atomic_uint done; /* the receiver's; sent - done are in the ring */
  ulong slot[RING_CNT];          /* gaddr of message i in i % RING_CNT */
} ring_t;

static fd_wksp_t *wksp;
static fd_alloc_t *alloc;
static ring_t *ring;

static void die(char const *what, char const *why) {
  fprintf(stderr, "ring: %s: %s\n", what, why);
  exit(1);
}

/* Waits while *word is seen. */
static void await(atomic_uint *word, uint seen) {
  syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

/* Stores, for others to see all that was written before, and wakes who waits. */
static void announce(atomic_uint *word, uint value) {
  atomic_store_explicit(word, value, memory_order_release); /* pairs with the acquires below */
  syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Makes a ring and binds the root to it, unless another process is quicker. */
static void found_ring(void) {
  ring_t *own = fd_wksp_alloc_laddr(wksp, 0, sizeof *own, RING_TAG);
  void *shalloc = fd_wksp_alloc_laddr(wksp, fd_alloc_align(), fd_alloc_footprint(), RING_TAG);
  if (!own || !fd_alloc_new(shalloc, RING_TAG)) die("cannot make a ring", wksp_last_error());
  memset(own, 0, sizeof *own);
  own->alloc = fd_wksp_gaddr(wksp, shalloc);
  int err = fd_wksp_root_add(wksp, "ring", fd_wksp_gaddr(wksp, own), RING_TAG);
  if (!err) return;
  if (err != WKSP_E_EXISTS) die("cannot bind the root ring", wksp_last_error());
  fd_alloc_delete(shalloc);
  fd_wksp_free_laddr(wksp, shalloc);
  fd_wksp_free_laddr(wksp, own);
}

static void send_one(uint at) {
  for (uint done;
       at - (done = atomic_load_explicit(&ring->done, memory_order_acquire)) == RING_CNT;)
    await(&ring->done, done);
  uint len = at % 100; /* of different lengths, to have blocks of different sizes */
  message_t *message = fd_alloc_malloc(alloc, 0, sizeof *message + len);
  if (!message) die("no room for a message", wksp_last_error());
  *message = (message_t){.number = at + 1, .len = len};
  memset(message->text, 'a' + (int)(at % 26), len);
  ring->slot[at % RING_CNT] = fd_wksp_gaddr_fast(wksp, message);
  announce(&ring->sent, at + 1);
}

/* Returns the message's length. */
static uint receive_one(uint at) {
  while (atomic_load_explicit(&ring->sent, memory_order_acquire) == at) await(&ring->sent, at);
  message_t *message = fd_wksp_laddr(wksp, ring->slot[at % RING_CNT]);
  if (!message || message->number != at + 1 || message->len != at % 100)
    die("the ring is broken", "a message is not the next one");
  for (uint i = 0; i < message->len; i++)
    if (message->text[i] != 'a' + (int)(at % 26))
      die("the ring is broken", "a message is not whole");
  uint len = message->len;
  announce(&ring->done, at + 1); /* before the free: a block may be lost, but never freed twice */
  fd_alloc_free(alloc, message);
  return len;
}

int main(int argc, char **argv) {
  char const *path = NULL; /* the default socket */
  if (argc > 2 && !strcmp(argv[1], "--socket")) path = argv[2], argv += 2, argc -= 2;
  int sending = argc == 4 && !strcmp(argv[2], "send");
  if (!sending && (argc != 4 || strcmp(argv[2], "receive"))) {
    fputs("usage: ring [--socket PATH] WORKSPACE send|receive UPTO\n", stderr);
    return 2;
  }
  uint upto = (uint)strtoul(argv[3], NULL, 10); /* the last message's number */
  wksp_client_t *client = wksp_client_connect(path);
  if (!client) die("cannot connect", wksp_last_error());
  wksp = wksp_client_attach(client, argv[1], WKSP_ATTACH_RW);
  if (!wksp) die("cannot attach", wksp_last_error());
  fd_wksp_root_t root;
  if (fd_wksp_root_find(wksp, "ring", &root) == WKSP_E_NOTFOUND) found_ring();
  if (fd_wksp_root_find(wksp, "ring", &root)) die("no ring", wksp_last_error());
  ring = fd_wksp_laddr(wksp, root.gaddr);
  alloc = fd_alloc_join(fd_wksp_laddr(wksp, ring->alloc), (ulong)sending);
  if (!alloc) die("cannot join the allocator", wksp_last_error());
  uint from = atomic_load(sending ? &ring->sent : &ring->done), at = from;
  ulong bytes = 0;
  for (; at < upto; at++)
    if (sending)
      send_one(at);
    else
      bytes += receive_one(at);
  if (sending)
    printf("sent %u messages, from number %u on\n", at - from, from + 1);
  else
    printf("received %u messages with %lu bytes, from number %u on, all whole and in order\n",
           at - from, bytes, from + 1);
  fd_alloc_leave(alloc);
  fd_wksp_detach(wksp);
  wksp_client_close(client);
  return 0;
}
