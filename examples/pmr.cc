/* pmr: a history that any number of runs of this program, one at a time, share.

   The history is a std::vector of std::strings in a workspace, with wksp::allocator, so each run
   may map it elsewhere. What is counted on the way is of this run alone: it lies in a
   std::pmr::map, whose memory comes from the same workspace, and is gone at the end.

   Runs take turns by a robust mutex beside the vector, since a container is not safe against two
   at once. A run that is killed holding it leaves the vector perhaps half changed: the next one
   says so and begins anew, for only it knows what that means for its data. fd_alloc stays whole
   in any case.
   Built with libstdc++; see the table in wksp/wksp.hpp. */

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <pthread.h>
#include <scoped_allocator>
#include <string>
#include <vector>
#include <wksp/wksp.hpp>

namespace {

constexpr ulong tag = 10;

using text = std::basic_string<char, std::char_traits<char>, wksp::allocator<char>>;
using texts = std::vector<text, std::scoped_allocator_adaptor<wksp::allocator<text>>>;

struct history {
  explicit history(wksp::alloc const &heap)
      : home(heap.home()), lines(wksp::allocator<text>(heap)) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&turn, &attr);
    pthread_mutexattr_destroy(&attr);
  }
  pthread_mutex_t turn;
  wksp::offset_ptr<void> home; /* the fd_alloc that all of this comes from */
  texts lines;
};

/* The history of the workspace; the first run makes it. */
history &found(wksp::workspace &in) {
  if (auto *there = in.find<history>("history", tag)) return *there;
  auto heap = wksp::alloc::make(in, tag);
  auto *own = heap.construct<history>(heap);
  if (!in.bind_new("history", own, tag)) { /* another run was quicker */
    void *home = heap.home();
    fd_alloc_delete(home);
    fd_wksp_free_laddr(in.get(), home);
  }
  return *in.find<history>("history", tag);
}

class turn {
public:
  explicit turn(history &of) : of_(of) {
    int const err = pthread_mutex_lock(&of.turn);
    if (err && err != EOWNERDEAD) throw std::runtime_error(std::strerror(err));
    if (!err) return;
    std::fputs("pmr: a run was killed in the middle of a change; the history begins anew\n",
               stderr);
    ::new (&of.lines) texts(of.lines.get_allocator()); /* what it held is lost, not freed */
    pthread_mutex_consistent(&of.turn);
  }
  ~turn() {
    pthread_mutex_unlock(&of_.turn);
  }
  turn(turn const &) = delete;

private:
  history &of_;
};

void run(char const *name, int argc, char **argv) {
  wksp::client client; /* $WKSPD_SOCKET, else the default socket */
  auto in = wksp::workspace::attach(client, name);
  history &past = found(in);
  auto heap = wksp::alloc::join(past.home.get());
  turn const mine(past);
  for (int i = 0; i < argc; i++) past.lines.emplace_back(argv[i]);

  wksp::memory_resource scratch(heap);
  std::pmr::map<std::pmr::string, ulong> counts(&scratch);
  for (text const &line : past.lines) counts[std::pmr::string(line.c_str(), &scratch)]++;
  for (auto const &[line, count] : counts) std::printf("%6lu %s\n", count, line.c_str());
  std::printf("%zu lines, %zu of them different\n", past.lines.size(), counts.size());
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 2) {
    std::fputs("usage: pmr WORKSPACE [LINE...]\n", stderr);
    return 2;
  }
  try {
    run(argv[1], argc - 2, argv + 2);
  } catch (std::exception const &e) {
    std::fprintf(stderr, "pmr: %s\n", e.what());
    return 1;
  }
  return 0;
}
