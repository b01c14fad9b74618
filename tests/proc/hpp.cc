/* hpp: wksp/wksp.hpp at work, as a user would build it.

   write NAME        founds containers in the workspace, prints where it is mapped
   read NAME PLACE   in another process, which keeps that place occupied, so that the workspace is
                     mapped elsewhere: reads them by a read-only attach
   change NAME PLACE the same, and changes them
   alone             what needs no daemon

   Which containers take part follows from the standard library; std::map stores raw pointers in
   libstdc++, so there Boost's stands in for it where it is to be had. */

#include <wksp/wksp.hpp>

#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <list>
#include <map>
#include <numeric>
#include <scoped_allocator>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <unordered_map>
#include <vector>

#ifdef __GLIBCXX__
#define TEXT_BY_STD 1
#if __has_include(<boost/container/map.hpp>)
#include <boost/container/map.hpp>
#define MAP_BY boost::container::map
#endif
#else
#define TEXT_BY_STD 0
#define MAP_BY      std::map
#endif

#undef assert
#define assert(x)                                                  \
  do {                                                             \
    if (!(x)) {                                                    \
      fprintf(stderr, "hpp: line %d: not so: %s\n", __LINE__, #x); \
      exit(1);                                                     \
    }                                                              \
  } while (0)

namespace {

template <class T> using alc = wksp::allocator<T>;
template <class T> using scoped = std::scoped_allocator_adaptor<alc<T>>;
using ulongs = std::vector<ulong, alc<ulong>>;
#if TEXT_BY_STD
using text = std::basic_string<char, std::char_traits<char>, alc<char>>;
#else
using text = std::vector<char, alc<char>>; /* what else there is of characters */
#endif
using texts = std::vector<text, scoped<text>>;
using table = std::vector<ulongs, scoped<ulongs>>;
using queue = std::deque<ulong, alc<ulong>>;

constexpr ulong tag = 7, cnt = 1000;

struct library {
  explicit library(wksp::alloc const &heap)
      : home(heap.home()), words(alc<text>(heap)), rows(alc<ulongs>(heap)), line(alc<ulong>(heap))
#ifdef MAP_BY
        ,
        index(alc<entry>(heap))
#endif
#ifndef __GLIBCXX__
        ,
        chain(alc<ulong>(heap)), hash(alc<std::pair<ulong const, ulong>>(heap)),
        bits(alc<bool>(heap))
#endif
  {
  }
  wksp::offset_ptr<void> home; /* of the fd_alloc */
  texts words;
  table rows;
  queue line;
#ifdef MAP_BY
  using entry = std::pair<text const, ulong>;
  MAP_BY<text, ulong, std::less<text>, scoped<entry>> index;
#endif
#ifndef __GLIBCXX__
  std::list<ulong, alc<ulong>> chain;
  std::unordered_map<ulong, ulong, std::hash<ulong>, std::equal_to<ulong>,
                     alc<std::pair<ulong const, ulong>>>
      hash;
  std::vector<bool, alc<bool>> bits;
#endif
};

/* Short ones lie inside of the string, long ones in a block of their own. */
std::string word(ulong i) {
  return std::string(i % 3 ? 3 : 100, static_cast<char>('a' + i % 26)) + std::to_string(i);
}

text shared(std::string const &s, wksp::alloc const &heap) {
  return text(s.begin(), s.end(), alc<char>(heap));
}

void fill(library &lib, wksp::alloc const &heap, ulong from, ulong to) {
  for (ulong i = from; i < to; i++) {
    std::string const w = word(i);
    lib.words.emplace_back(w.begin(), w.end());
    lib.rows.emplace_back(i % 7, i);
    lib.line.push_back(i);
#ifdef MAP_BY
    lib.index.emplace(shared(w, heap), i);
#endif
#ifndef __GLIBCXX__
    lib.chain.push_back(i);
    lib.hash.emplace(i, i * i);
    lib.bits.push_back(i % 3);
#endif
    (void)heap;
  }
}

void look(library const &lib, ulong upto) {
  assert(lib.words.size() == upto && lib.rows.size() == upto && lib.line.size() == upto);
  for (ulong i = 0; i < upto; i++) {
    std::string const w = word(i);
    assert(std::string(lib.words[i].begin(), lib.words[i].end()) == w);
    assert(lib.rows[i].size() == i % 7);
    assert(std::accumulate(lib.rows[i].begin(), lib.rows[i].end(), 0UL) == i % 7 * i);
    assert(lib.line[i] == i);
#ifndef __GLIBCXX__
    assert(lib.hash.at(i) == i * i && lib.bits[i] == (i % 3 != 0));
#endif
  }
#ifdef MAP_BY
  ulong seen = 0;
  text const *before = nullptr;
  for (auto const &[key, i] : lib.index) {
    assert(std::string(key.begin(), key.end()) == word(i));
    assert(!before || *before < key);
    before = &key;
    seen++;
  }
  assert(seen == upto);
#endif
#ifndef __GLIBCXX__
  assert(std::accumulate(lib.chain.begin(), lib.chain.end(), 0UL) == upto * (upto - 1) / 2);
#endif
}

/* From now on nothing else can be mapped at that place. */
void occupy(char const *place) {
  void *const at = reinterpret_cast<void *>(strtoul(place, nullptr, 0));
  void *const got =
      mmap(at, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  assert(got == at || got == MAP_FAILED); /* taken by something else already */
}

void write_it(char const *name) {
  wksp::client client;
  auto in = wksp::workspace::attach(client, name);
  auto heap = wksp::alloc::make(in, tag);
  auto *lib = heap.construct<library>(heap);
  fill(*lib, heap, 0, cnt);
  look(*lib, cnt);
  assert(in.bind_new("library", lib, tag));
  assert(!in.bind_new("library", lib, tag));
  printf("%p\n", static_cast<void *>(in.get()));
}

void read_it(char const *name, char const *place) {
  occupy(place);
  wksp::client client;
  auto in = wksp::workspace::attach(client, name, wksp::access::read_only);
  assert(strtoul(place, nullptr, 0) != reinterpret_cast<ulong>(in.get()));
  look(*in.find<library const>("library", tag), cnt);
  puts("read");
}

void change_it(char const *name, char const *place) {
  occupy(place);
  wksp::client client;
  auto in = wksp::workspace::attach(client, name);
  assert(strtoul(place, nullptr, 0) != reinterpret_cast<ulong>(in.get()));
  auto *lib = in.find<library>("library", tag);
  auto heap = wksp::alloc::join(lib->home.get());
  fill(*lib, heap, cnt, 2 * cnt); /* all of them move to larger blocks */
  look(*lib, 2 * cnt);
  assert(in.unbind("library") && !in.unbind("library"));
  assert(!in.find<library>("library", tag));
  heap.destroy(lib);
  assert(fd_alloc_is_empty(heap.get()));
  puts("changed");
}

/* Pointers whose target lies anywhere, null, inside of themselves, and what they convert to. */
void pointers() {
  struct base {
    int a;
  };
  struct derived : base {
    int b;
  };
  derived d[3] = {};
  wksp::offset_ptr<derived> p = d, q(p), none;
  wksp::offset_ptr<base> up = p;
  wksp::offset_ptr<void> any = p;
  wksp::offset_ptr<derived const> fixed = p;
  assert(p == q && up.get() == d && any.get() == d && fixed == p && !none && none == nullptr);
  assert(static_cast<wksp::offset_ptr<derived>>(up) == p);
  assert(static_cast<wksp::offset_ptr<derived>>(any) == p);
  assert(p + 2 == d + 2 && 2 + p - p == 2 && p++ == q && --p == q && p < p + 1 && p >= q);
  assert((p += 2) - q == 2 && (p -= 2) == q && &p[1] == d + 1 && &*p == d && &p->b == &d->b);
  struct self {
    wksp::offset_ptr<self> me;
  } one{nullptr};
  one.me = &one;
  self two = one;
  assert(one.me.get() == &one && two.me.get() == &one);
  assert(std::pointer_traits<decltype(p)>::pointer_to(d[1]) == d + 1);
  wksp::offset_ptr<char> chars[2];
  for (long i = 0; i <= 16; i++)
    if (i != 1) { /* into itself */
      chars[0] = reinterpret_cast<char *>(&chars[0]) + i;
      assert(chars[0] && chars[0].get() == reinterpret_cast<char *>(&chars[0]) + i);
    }
}

void handles() {
  auto in = wksp::workspace::anon("alone", 16UL << 20);
  auto heap = wksp::alloc::make(in, tag), other = wksp::alloc::make(in, tag);
#ifdef __GLIBCXX__
  wksp::memory_resource res(heap), same(heap), differs(other);
  assert(res == same && res != differs && res != *std::pmr::new_delete_resource());
  {
    std::pmr::map<std::pmr::string, std::pmr::vector<int>> map(&res);
    for (int i = 0; i < 1000; i++) map[std::pmr::string(word(ulong(i)).c_str(), &res)].push_back(i);
    std::pmr::unordered_map<int, int> hash({{1, 2}, {3, 4}}, &res);
    fd_alloc_stat_t stat;
    wksp::error::check(fd_alloc_stat(heap.get(), &stat));
    assert(map.size() == 1000 && hash[3] == 4 && stat.small_cnt > 2000);
    void *const wide = res.allocate(100, 4096);
    assert(reinterpret_cast<ulong>(wide) % 4096 == 0 && in.gaddr(wide));
    res.deallocate(wide, 100, 4096);
    res.deallocate(res.allocate(0), 0);
  }
  assert(fd_alloc_is_empty(heap.get()));
#endif
  {
    ulongs a(10, 1, alc<ulong>(heap)), b(5, 2, alc<ulong>(other));
    a.swap(b);
    assert(a.get_allocator() == alc<ulong>(other) && a.size() == 5 && b.size() == 10);
    b = std::move(a);
    assert(b.get_allocator() == alc<ulong>(other) && b.size() == 5);
    ulongs c(alc<ulong>{heap});
    c = b;
    assert(c == b && c.get_allocator() == alc<ulong>(heap) &&
           c.get_allocator() != b.get_allocator());
    assert(alc<char>(alc<ulong>(heap)) == alc<ulong>(heap));
  }
  assert(fd_alloc_is_empty(heap.get()) && fd_alloc_is_empty(other.get()));
  std::thread([&] { heap.destroy(heap.construct<ulongs>(5UL, alc<ulong>(heap))); }).join();
  assert(fd_alloc_is_empty(heap.get()));
  wksp::workspace moved(std::move(in));
  assert(!in.get() && moved.get());
  in = std::move(moved); /* it has to outlive what is joined in it */
  assert(in.get() && !moved.get());
}

template <class E, class F> bool throws(F what, int code = 0) {
  try {
    what();
  } catch (E const &e) {
    if constexpr (std::is_same_v<E, wksp::error>) return e.code() == code && *e.what();
    return true;
  }
  return false;
}

void failures() {
  using wksp::error;
  auto in = wksp::workspace::anon("alone", 4UL << 20);
  auto heap = wksp::alloc::make(in, tag);
  assert(throws<error>([] { wksp::client("/nowhere/at/all"); }, WKSP_E_NODAEMON));
  assert(throws<error>([] { wksp::workspace::anon("not/a/name", 1UL << 20); }, WKSP_E_INVAL));
  assert(throws<error>([&] { wksp::alloc::make(in, 0); }, WKSP_E_INVAL));
  assert(throws<error>([&] { wksp::alloc::make(in, tag, ~0UL); }, WKSP_E_INVAL));
  assert(throws<error>(
      [] {
        int on_the_stack;
        wksp::alloc::join(&on_the_stack);
      },
      WKSP_E_INVAL));
  assert(throws<error>([&] { in.bind("x", &heap, tag); }, WKSP_E_INVAL));
  assert(throws<error>([&] { in.bind("", heap.home(), tag); }, WKSP_E_INVAL));
  in.bind("x", heap.home(), tag);
  assert(throws<error>([&] { in.find<int>("x", tag + 1); }, WKSP_E_INVAL));
  struct wide {
    char bytes[64UL << 20];
  };
  assert(throws<error>([&] { in.find<wide>("x", tag); }, WKSP_E_CORRUPT));
  assert(in.find<char>("x", tag) == heap.home() && !in.find<char>("y", tag));
#ifdef __GLIBCXX__
  assert(throws<std::bad_alloc>([&] { (void)wksp::memory_resource(heap).allocate(64UL << 20); }));
#endif
  assert(throws<std::bad_alloc>([&] { ulongs(64UL << 20, alc<ulong>(heap)); }));
  assert(throws<std::bad_alloc>([&] { (void)alc<ulong>(heap).allocate(~0UL / 4); }));
  assert(throws<std::bad_alloc>([&] { heap.construct<wide>(); }));
  struct refuses {
    refuses() {
      throw 1;
    }
  };
  assert(throws<int>([&] { heap.construct<refuses>(); }));
  heap.destroy(static_cast<int *>(nullptr));
  assert(fd_alloc_is_empty(heap.get()));
}

} // namespace

int main(int argc, char **argv) {
  std::string const what = argc > 1 ? argv[1] : "";
  try {
    if (what == "write" && argc == 3)
      write_it(argv[2]);
    else if (what == "read" && argc == 4)
      read_it(argv[2], argv[3]);
    else if (what == "change" && argc == 4)
      change_it(argv[2], argv[3]);
    else if (what == "alone")
      pointers(), handles(), failures(), puts("alone");
    else
      return fputs("usage: hpp write NAME | read NAME PLACE | change NAME PLACE | alone\n", stderr),
             2;
  } catch (std::exception const &e) {
    fprintf(stderr, "hpp: %s\n", e.what());
    return 1;
  }
  return 0;
}
