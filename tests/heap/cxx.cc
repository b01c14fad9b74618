// cxx: what C++ asks of malloc: its operators, by default, are calls of malloc and free, so another
// malloc serves them too. preload_test.py runs it under libwksp_malloc.so, and under the C
// library's malloc to see that it asks nothing else.
//
// Prints "ok" at the end, or says what is wrong and ends with 1.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>
#include <vector>

#define WANT(x)                                        \
  if (!(x)) {                                          \
    std::printf("WRONG: %s, line %d\n", #x, __LINE__); \
    std::exit(1);                                      \
  }

namespace {

// Sizes that cannot be, unknown to the compiler.
std::size_t volatile g_huge = PTRDIFF_MAX / 2;

int g_live;
struct Counted {
  int value[5];
  Counted() {
    value[0] = ++g_live;
  }
  Counted(Counted const &) = delete;
  ~Counted() {
    g_live--;
  }
};

struct alignas(64) Line {
  unsigned char bytes[192];
};
struct alignas(4096) Page {
  unsigned char bytes[4096];
};

// A block from an operator is one of malloc's: as large as malloc's of that size.
void is_mallocs(void *ptr, std::size_t sz) {
  void *same = std::malloc(sz);
  WANT(same && malloc_usable_size(ptr) == malloc_usable_size(same));
  std::free(same);
}

void plain() {
  for (std::size_t sz = 1; sz < 200000; sz += sz / 3 + 1) {
    auto *ptr = static_cast<unsigned char *>(::operator new(sz));
    WANT(reinterpret_cast<std::uintptr_t>(ptr) % __STDCPP_DEFAULT_NEW_ALIGNMENT__ == 0 || sz < 16);
    is_mallocs(ptr, sz);
    std::memset(ptr, 7, malloc_usable_size(ptr));
    ::operator delete(ptr, sz); // sized
    auto *array = new unsigned char[sz];
    std::memset(array, 8, sz);
    delete[] array;
  }
  void *none = ::operator new(0), *other = ::operator new(0);
  WANT(none && other && none != other);
  ::operator delete(none);
  ::operator delete (other, std::size_t{0});
  ::operator delete(nullptr);
}

void objects() {
  auto *one = new Counted;
  auto *many = new Counted[1000];
  WANT(g_live == 1001 && many[999].value[0] == 1001);
  delete[] many;
  delete one;
  WANT(!g_live);
  alignas(Counted) unsigned char place[sizeof(Counted)];
  auto *there = new (place) Counted;
  there->~Counted();
  WANT(!g_live);
}

template <class T> void aligned_of() {
  std::vector<std::unique_ptr<T[]>> kept;
  for (std::size_t cnt = 1; cnt < 40; cnt++) {
    auto *one = new T;
    WANT(reinterpret_cast<std::uintptr_t>(one) % alignof(T) == 0);
    std::memset(one->bytes, 1, sizeof one->bytes);
    kept.emplace_back(new T[cnt]);
    WANT(reinterpret_cast<std::uintptr_t>(kept.back().get()) % alignof(T) == 0);
    std::memset(kept.back()[cnt - 1].bytes, 2, sizeof(T));
    delete one; // sized and aligned
  }
}

void aligned() {
  aligned_of<Line>();
  aligned_of<Page>();
  for (std::size_t align = 1; align <= std::size_t{4} << 20; align *= 2) {
    void *ptr = ::operator new (100, std::align_val_t{align}, std::nothrow);
    WANT(ptr && reinterpret_cast<std::uintptr_t>(ptr) % align == 0);
    std::memset(ptr, 3, 100);
    ::operator delete (ptr, std::align_val_t{align});
  }
}

int g_handled;
void handler() {
  if (++g_handled == 3) std::set_new_handler(nullptr);
}

// What cannot be had: nothing, or an exception, after the handler was asked as often as it is
// there.
void failures() {
  WANT(!::operator new(g_huge, std::nothrow));
  WANT(!::operator new[](g_huge, std::nothrow));
  WANT(!::operator new (g_huge, std::align_val_t{64}, std::nothrow));
  bool caught = false;
  std::set_new_handler(handler);
  try {
    ::operator delete(::operator new(g_huge));
  } catch (std::bad_alloc const &) {
    caught = true;
  }
  WANT(caught && g_handled == 3);
  g_handled = 0;
  std::set_new_handler(handler);
  WANT(!::operator new(g_huge, std::nothrow) && g_handled == 3);
  WANT(std::get_new_handler() == nullptr);
}

// A handler that gives a reserve back: then the request is served.
char *g_reserve;
void gives_reserve() {
  if (!g_reserve) std::set_new_handler(nullptr);
  delete[] g_reserve;
  g_reserve = nullptr;
}

void reserve() {
  std::size_t const mib = std::size_t{1} << 20;
  unsigned long pages = 0;
  std::FILE *file = std::fopen("/proc/self/statm", "r");
  WANT(file && std::fscanf(file, "%lu", &pages) == 1);
  std::fclose(file);
  rlim_t most = pages * static_cast<unsigned long>(sysconf(_SC_PAGESIZE)) + 160 * mib;
  g_reserve = new char[100 * mib];
  struct rlimit limit = {most, most};
  WANT(!setrlimit(RLIMIT_AS, &limit));
  std::set_new_handler(gives_reserve);
  char *ptr = new char[120 * mib];
  WANT(!g_reserve);
  ptr[120 * mib - 1] = 1;
  delete[] ptr;
}

// Containers in threads, which free what others have allocated.
void containers() {
  std::vector<std::map<int, std::string>> made(8);
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; i++)
    threads.emplace_back([&made, i] {
      for (int k = 0; k < 2000; k++) {
        made[i][k * 7919 % 1000] += std::string(static_cast<std::size_t>(k % 90), 'x');
        if (k % 3 == 0) made[i].erase(k % 500);
      }
    });
  for (auto &thread : threads) thread.join();
  threads.clear();
  for (int i = 0; i < 8; i++)
    threads.emplace_back([&made, i] {
      std::map<int, std::string> const copy = made[(i + 1) % 8];
      for (auto const &[key, text] : copy) WANT(text.find_first_not_of('x') == std::string::npos);
    });
  for (auto &thread : threads) thread.join();
}

// Before main, and after it.
struct AtEnds {
  std::string text;
  AtEnds() : text(1000, 'y') {
  }
  ~AtEnds() {
    text.append(5000, 'z');
  }
} g_ends;

} // namespace

int main() {
  plain();
  objects();
  aligned();
  failures();
  containers();
  WANT(g_ends.text.size() == 1000);
  reserve(); // the last, for it limits the process
  std::puts("ok");
  return 0;
}
