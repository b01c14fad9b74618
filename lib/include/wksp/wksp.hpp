/* wksp.hpp: workspaces in C++17, header-only, on the C interface alone.

   What it adds to wksp/wksp.h:

     client, workspace, alloc   handles that end what they began
     memory_resource            std::pmr over an fd_alloc, for containers of this process
     offset_ptr, allocator      for containers that other processes use, too
     error                      WKSP_E_* and its sentence, thrown

   A process maps a workspace wherever it likes, so a container that lies in one and is to be read
   by others must not hold an address. std::pmr containers do: their blocks lie in the workspace,
   they themselves are for the process that made them. With allocator<T> a container holds
   offset_ptr, the distance from the pointer to what it points to, which is the same in each
   mapping:

     using text = std::basic_string<char, std::char_traits<char>, wksp::allocator<char>>;
     using list = std::vector<text, std::scoped_allocator_adaptor<wksp::allocator<text>>>;

     wksp::client client;
     auto wksp = wksp::workspace::attach(client, "demo");
     auto heap = wksp::alloc::make(wksp, 7);
     auto *words = heap.construct<list>(wksp::allocator<text>(heap));
     words->emplace_back("shared");
     wksp.bind("words", words, 7);

   and in another process, at another address:

     auto *words = wksp.find<list const>("words", 7);

   Which containers can do without raw pointers is up to the standard library. One that would store
   them is refused when it is compiled, never found out later:

                                 libstdc++ 12   libc++ 14   Boost.Container 1.74
     vector, deque               yes            yes         yes
     basic_string                yes            no          yes
     map, set, list              no             yes         yes
     unordered_*, forward_list   no             yes         (slist)
     vector<bool>                no             yes         yes

   Both sides must be built with the same standard library, and layout of T: what lies in the
   workspace is the objects themselves. No container is safe against kills or against readers
   beside a writer: whoever changes one holds a lock of the program's own, and a process killed in
   the middle of a change leaves the container half changed. fd_alloc itself stays whole then.

   Not for: types with virtual functions (their tables lie elsewhere in each process), or pointers
   in lock-free structures (use gaddrs, see examples/kv.c). */

#ifndef WKSP_WKSP_HPP
#define WKSP_WKSP_HPP

#include "wksp.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

/* libc++ has it from version 16 on; without it there is no memory_resource here. */
#if __has_include(<memory_resource>)
#include <memory_resource>
#endif

#ifdef __GLIBCXX__
#include <forward_list>
#include <unordered_map>
#endif

namespace wksp {

/* A failure of libwksp: what() is its sentence. */
class error : public std::runtime_error {
public:
  error(int code, char const *sentence)
      : std::runtime_error(*sentence ? sentence : wksp_strerror(code)), code_(code) {
  }
  int code() const noexcept { /* WKSP_E_* */
    return code_;
  }

  /* Throws the calling thread's last failure. */
  [[noreturn]] static void last() {
    throw error(wksp_last_error_code(), wksp_last_error());
  }
  /* The same unless err is 0. */
  static void check(int err) {
    if (err) throw error(err, wksp_last_error_code() == err ? wksp_last_error() : "");
  }

private:
  int code_;
};

/* Handles
 * ----------------------------------------------------------------------------------------------
 * They are moved, not copied; one that was moved from is empty and only good for being assigned
 * to. get() is for calls of the C interface; it stays the handle's. */

enum class access { read_write = WKSP_ATTACH_RW, read_only = WKSP_ATTACH_RO };

/* A connection to wkspd; see wksp/client.h. */
class client {
public:
  explicit client(char const *socket_path = nullptr) : client_(wksp_client_connect(socket_path)) {
    if (!client_) error::last();
  }
  client(client &&other) noexcept : client_(std::exchange(other.client_, nullptr)) {
  }
  client &operator=(client &&other) noexcept {
    std::swap(client_, other.client_);
    return *this;
  }
  ~client() {
    wksp_client_close(client_);
  }

  wksp_client_t *get() const noexcept {
    return client_;
  }
  void deadline(std::chrono::milliseconds deadline) {
    error::check(wksp_client_deadline_set(client_, static_cast<long>(deadline.count())));
  }
  wksp_info_t create(wksp_create_t const &create) {
    wksp_info_t info;
    error::check(wksp_client_create(client_, &create, &info));
    return info;
  }
  wksp_info_t info(char const *name) {
    wksp_info_t info;
    error::check(wksp_client_get(client_, name, &info));
    return info;
  }
  void remove(char const *name, bool force = false) {
    error::check(wksp_client_remove(client_, name, force));
  }

private:
  wksp_client_t *client_;
};

/* A joined workspace, and the end of that. It must outlive every alloc, memory_resource and
   container in it that this process still uses; the client may go before. */
class workspace {
public:
  static workspace attach(client const &from, char const *name, access how = access::read_write) {
    return workspace(wksp_client_attach(from.get(), name, static_cast<int>(how)), fd_wksp_detach_);
  }
  /* From the daemon on the default socket, to write. */
  static workspace attach(char const *name) {
    return workspace(fd_wksp_attach(name), fd_wksp_detach_);
  }
  /* As fd_wksp_new_anon: of this process and those that it forks. */
  static workspace anon(char const *name, ulong size, ulong page_size = 0, uint seed = 0,
                        ulong part_max = 0) {
    return workspace(fd_wksp_new_anon(name, size, page_size, seed, part_max), fd_wksp_delete_anon);
  }
  workspace(workspace &&other) noexcept
      : wksp_(std::exchange(other.wksp_, nullptr)), end_(other.end_) {
  }
  workspace &operator=(workspace &&other) noexcept {
    std::swap(wksp_, other.wksp_);
    std::swap(end_, other.end_);
    return *this;
  }
  ~workspace() {
    if (wksp_) end_(wksp_);
  }

  fd_wksp_t *get() const noexcept {
    return wksp_;
  }

  /* Where an object lies, as every process says it; 0: not in here. */
  ulong gaddr(void const *laddr) const noexcept {
    return fd_wksp_gaddr(wksp_, laddr);
  }
  /* The object there; nullptr: that is no place in here for a T. */
  template <class T> T *laddr(ulong gaddr) const noexcept {
    ulong const hi = fd_wksp_gaddr_hi(wksp_);
    if (gaddr % alignof(T) || gaddr > hi || hi - gaddr < sizeof(T)) return nullptr;
    return static_cast<T *>(fd_wksp_laddr(wksp_, gaddr));
  }

  /* Binds name to an object in here, in place of what it was bound to. */
  void bind(char const *name, void const *object, ulong tag) {
    error::check(fd_wksp_root_set(wksp_, name, gaddr(object), tag));
  }
  /* The same unless the name is bound: of several processes that try, one gets true. */
  bool bind_new(char const *name, void const *object, ulong tag) {
    int const err = fd_wksp_root_add(wksp_, name, gaddr(object), tag);
    if (err && err != WKSP_E_EXISTS) error::check(err);
    return !err;
  }
  /* Whether it was bound. What it was bound to is not destroyed. */
  bool unbind(char const *name) {
    int const err = fd_wksp_root_remove(wksp_, name);
    if (err && err != WKSP_E_NOTFOUND) error::check(err);
    return !err;
  }
  /* The object that name is bound to; nullptr: to none. Nothing says of which type it is but its
     tag: give each type one of its own. Throws E_INVAL if the tag differs, E_CORRUPT if there is no
     room for a T. */
  template <class T> T *find(char const *name, ulong tag) const {
    fd_wksp_root_t root;
    int const err = fd_wksp_root_find(wksp_, name, &root);
    if (err == WKSP_E_NOTFOUND) return nullptr;
    error::check(err);
    if (root.tag != tag)
      throw error(WKSP_E_INVAL, (std::string("the root ") + name + " has tag " +
                                 std::to_string(root.tag) + ", not " + std::to_string(tag))
                                    .c_str());
    T *const object = laddr<T>(root.gaddr);
    if (!object)
      throw error(
          WKSP_E_CORRUPT,
          (std::string("the root ") + name + " is bound to no place for such an object").c_str());
    return object;
  }

private:
  workspace(fd_wksp_t *wksp, void (*end)(fd_wksp_t *)) : wksp_(wksp), end_(end) {
    if (!wksp) error::last();
  }
  static void fd_wksp_detach_(fd_wksp_t *wksp) {
    (void)fd_wksp_detach(wksp);
  }

  fd_wksp_t *wksp_;
  void (*end_)(fd_wksp_t *);
};

/* A join of an fd_alloc, which ends for the thread that destroys it; the fd_alloc stays in the
   workspace. Any thread of the process may use it meanwhile. */
class alloc {
public:
  /* A new fd_alloc in a partition of its own, both with that tag. flags: FD_ALLOC_FLAG_*. */
  static alloc make(workspace const &in, ulong tag, ulong flags = 0) {
    void *const shmem = fd_wksp_alloc_laddr(in.get(), fd_alloc_align(), fd_alloc_footprint(), tag);
    if (!shmem) error::last();
    if (!fd_alloc_new_flags(shmem, tag, flags)) {
      error const why(wksp_last_error_code(), wksp_last_error());
      (void)fd_wksp_free_laddr(in.get(), shmem);
      throw why;
    }
    return join(shmem);
  }
  /* shalloc: where fd_alloc_new or make made it; home() tells. */
  static alloc join(void *shalloc, ulong cgroup_hint = 0) {
    fd_alloc_t *const join = fd_alloc_join(shalloc, cgroup_hint);
    if (!join) error::last();
    return alloc(join);
  }
  alloc(alloc &&other) noexcept : join_(std::exchange(other.join_, nullptr)) {
  }
  alloc &operator=(alloc &&other) noexcept {
    std::swap(join_, other.join_);
    return *this;
  }
  ~alloc() {
    fd_alloc_leave(join_);
  }

  fd_alloc_t *get() const noexcept {
    return join_;
  }
  /* Where it lies: what others join, and roots are bound to. */
  void *home() const noexcept {
    return reinterpret_cast<void *>(fd_alloc_join_cgroup_hint_set(join_, 0));
  }

  /* A T in a block of its own. Throws std::bad_alloc, and what its constructor throws. */
  template <class T, class... Args> T *construct(Args &&...args) const {
    void *const block = fd_alloc_malloc(join_, alignof(T), sizeof(T));
    if (!block) throw std::bad_alloc();
    try {
      return ::new (block) T(std::forward<Args>(args)...);
    } catch (...) {
      fd_alloc_free(join_, block);
      throw;
    }
  }
  /* Ends it. nullptr: nothing. */
  template <class T> void destroy(T *object) const noexcept {
    if (!object) return;
    object->~T();
    fd_alloc_free_sized(join_, const_cast<std::remove_cv_t<T> *>(object), sizeof(T));
  }

private:
  explicit alloc(fd_alloc_t *join) : join_(join) {
  }

  fd_alloc_t *join_;
};

/* For containers of this process
 * --------------------------------------------------------------------------------------------- */

#if __has_include(<memory_resource>)
/* Memory from an fd_alloc, joined by the caller for as long as this is used. Two are equal if they
   are of one fd_alloc. Throws std::bad_alloc; wksp_last_error() has the sentence. */
class memory_resource : public std::pmr::memory_resource {
public:
  explicit memory_resource(fd_alloc_t *join) noexcept : join_(join) {
  }
  explicit memory_resource(alloc const &of) noexcept : join_(of.get()) {
  }
  fd_alloc_t *join() const noexcept {
    return join_;
  }

protected:
  void *do_allocate(std::size_t bytes, std::size_t align) override {
    void *const block = fd_alloc_malloc(join_, align, bytes ? bytes : 1);
    if (!block) throw std::bad_alloc();
    return block;
  }
  void do_deallocate(void *block, std::size_t bytes, std::size_t) override {
    fd_alloc_free_sized(join_, block, bytes ? bytes : 1);
  }
  bool do_is_equal(std::pmr::memory_resource const &other) const noexcept override {
    auto const *const same = dynamic_cast<memory_resource const *>(&other);
    return same &&
           fd_alloc_join_cgroup_hint_set(same->join_, 0) == fd_alloc_join_cgroup_hint_set(join_, 0);
  }

private:
  fd_alloc_t *join_;
};
#endif

/* For containers that other processes use, too
 * ----------------------------------------------------------------------------------------- */

/* libstdc++'s basic_string takes its pointer for a plain one here and there. Of no other type than
   characters: an implicit way to plain pointers is a way into containers that store them. */
template <class P, class T, bool is_character> struct offset_ptr_to_plain {};
template <class P, class T> struct offset_ptr_to_plain<P, T, true> {
  operator T *() const noexcept {
    return static_cast<P const *>(this)->get();
  }
};
template <class T>
inline constexpr bool is_character = std::is_same_v<T, char> || std::is_same_v<T, wchar_t> ||
                                     std::is_same_v<T, char16_t> || std::is_same_v<T, char32_t>;

/* A pointer as the distance from itself to its target, in bytes. It and its target lie in one
   mapping of one workspace, or both in memory of this process alone; where it is copied to, the
   distance is made anew. So it must not be copied as bytes (memcpy, realloc, std::atomic).
   Distance 1, into the pointer itself, is null. */
template <class T>
class offset_ptr : public offset_ptr_to_plain<offset_ptr<T>, T, is_character<std::remove_cv_t<T>>> {
public:
  using element_type = T;
  using value_type = std::remove_cv_t<T>;
  using difference_type = std::ptrdiff_t;
  using pointer = offset_ptr;
  using reference = std::add_lvalue_reference_t<T>;
  using iterator_category = std::random_access_iterator_tag;

  offset_ptr() noexcept = default;
  offset_ptr(T *target) noexcept { /* nullptr, too */
    set(target);
  }
  offset_ptr(offset_ptr const &other) noexcept : base(other) {
    set(other.get());
  }
  template <class U, class = std::enable_if_t<std::is_convertible_v<U *, T *>>>
  offset_ptr(offset_ptr<U> const &other) noexcept {
    set(other.get());
  }
  /* Back from void, or from a base class. */
  template <class U, class = std::enable_if_t<!std::is_convertible_v<U *, T *>>,
            class = decltype(static_cast<T *>(std::declval<U *>()))>
  explicit offset_ptr(offset_ptr<U> const &other) noexcept {
    set(static_cast<T *>(other.get()));
  }
  offset_ptr &operator=(offset_ptr const &other) noexcept {
    set(other.get());
    return *this;
  }
  ~offset_ptr() = default;

  T *get() const noexcept {
    if (distance_ == null_) return nullptr;
    return reinterpret_cast<T *>(reinterpret_cast<std::uintptr_t>(this) + distance_);
  }
  explicit operator bool() const noexcept {
    return distance_ != null_;
  }
  reference operator*() const noexcept {
    return *get();
  }
  T *operator->() const noexcept {
    return get();
  }
  reference operator[](difference_type i) const noexcept {
    return get()[i];
  }
  template <class U = T, class = std::enable_if_t<!std::is_void_v<U>>>
  static offset_ptr pointer_to(U &target) noexcept {
    return offset_ptr(std::addressof(target));
  }

  offset_ptr &operator+=(difference_type n) noexcept {
    set(get() + n);
    return *this;
  }
  offset_ptr &operator-=(difference_type n) noexcept {
    return *this += -n;
  }
  offset_ptr &operator++() noexcept {
    return *this += 1;
  }
  offset_ptr &operator--() noexcept {
    return *this -= 1;
  }
  offset_ptr operator++(int) noexcept {
    offset_ptr const old(*this);
    *this += 1;
    return old;
  }
  offset_ptr operator--(int) noexcept {
    offset_ptr const old(*this);
    *this -= 1;
    return old;
  }
  friend offset_ptr operator+(offset_ptr const &p, difference_type n) noexcept {
    return offset_ptr(p.get() + n);
  }
  friend offset_ptr operator+(difference_type n, offset_ptr const &p) noexcept {
    return offset_ptr(p.get() + n);
  }
  friend offset_ptr operator-(offset_ptr const &p, difference_type n) noexcept {
    return offset_ptr(p.get() - n);
  }

private:
  using base = offset_ptr_to_plain<offset_ptr<T>, T, is_character<std::remove_cv_t<T>>>;
  static constexpr std::uintptr_t null_ = 1;

  void set(T *target) noexcept {
    distance_ =
        target ? reinterpret_cast<std::uintptr_t>(target) - reinterpret_cast<std::uintptr_t>(this)
               : null_;
  }

  std::uintptr_t distance_ = null_; /* modulo 2^64 */
};

/* With each other, with plain pointers, and with nullptr. */
template <class T, class U>
std::ptrdiff_t operator-(offset_ptr<T> const &a, offset_ptr<U> const &b) noexcept {
  return a.get() - b.get();
}
template <class T, class U>
bool operator==(offset_ptr<T> const &a, offset_ptr<U> const &b) noexcept {
  return a.get() == b.get();
}
template <class T, class U>
bool operator!=(offset_ptr<T> const &a, offset_ptr<U> const &b) noexcept {
  return a.get() != b.get();
}
template <class T, class U>
bool operator<(offset_ptr<T> const &a, offset_ptr<U> const &b) noexcept {
  return a.get() < b.get();
}
template <class T, class U>
bool operator>(offset_ptr<T> const &a, offset_ptr<U> const &b) noexcept {
  return a.get() > b.get();
}
template <class T, class U>
bool operator<=(offset_ptr<T> const &a, offset_ptr<U> const &b) noexcept {
  return a.get() <= b.get();
}
template <class T, class U>
bool operator>=(offset_ptr<T> const &a, offset_ptr<U> const &b) noexcept {
  return a.get() >= b.get();
}
template <class T, class U> bool operator==(offset_ptr<T> const &a, U *b) noexcept {
  return a.get() == b;
}
template <class T, class U> bool operator==(U *a, offset_ptr<T> const &b) noexcept {
  return a == b.get();
}
template <class T, class U> bool operator!=(offset_ptr<T> const &a, U *b) noexcept {
  return a.get() != b;
}
template <class T, class U> bool operator!=(U *a, offset_ptr<T> const &b) noexcept {
  return a != b.get();
}
template <class T> bool operator==(offset_ptr<T> const &a, std::nullptr_t) noexcept {
  return !a;
}
template <class T> bool operator==(std::nullptr_t, offset_ptr<T> const &a) noexcept {
  return !a;
}
template <class T> bool operator!=(offset_ptr<T> const &a, std::nullptr_t) noexcept {
  return static_cast<bool>(a);
}
template <class T> bool operator!=(std::nullptr_t, offset_ptr<T> const &a) noexcept {
  return static_cast<bool>(a);
}

/* Whether T is a node or word of a container of libstdc++ that stores raw pointers whatever its
   allocator says. (Its map, set and list do not compile at all.) */
#ifdef __GLIBCXX__
template <class T>
inline constexpr bool stores_raw_pointers =
    std::is_same_v<T, bool> || std::is_base_of_v<std::__detail::_Hash_node_base, T> ||
    std::is_base_of_v<std::_Fwd_list_node_base, T>;
#else
template <class T> inline constexpr bool stores_raw_pointers = false;
#endif

/* A standard allocator over an fd_alloc, whose own state is one offset_ptr: it may lie in the
   workspace with its container. A process that changes the container has joined the fd_alloc.
   There is none by default: containers are given one, nested ones by
   std::scoped_allocator_adaptor. A container that is moved or swapped takes it along, a copy gets
   its source's. */
template <class T> class allocator {
  template <class U> friend class allocator;

public:
  using value_type = T;
  using pointer = offset_ptr<T>;
  using const_pointer = offset_ptr<T const>;
  using void_pointer = offset_ptr<void>;
  using const_void_pointer = offset_ptr<void const>;
  using size_type = std::size_t;
  using difference_type = std::ptrdiff_t;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;
  using is_always_equal = std::false_type;

  explicit allocator(fd_alloc_t *join) noexcept : join_(join) {
  }
  explicit allocator(alloc const &of) noexcept : join_(of.get()) {
  }
  template <class U> allocator(allocator<U> const &other) noexcept : join_(other.join_) {
    static_assert(!stores_raw_pointers<U>, "this container of libstdc++ stores raw pointers");
  }
  fd_alloc_t *join() const noexcept {
    return join_.get();
  }

  pointer allocate(size_type n) {
    static_assert(!stores_raw_pointers<T>,
                  "this container of libstdc++ stores raw pointers, which mean nothing to another "
                  "process: see the table in wksp/wksp.hpp");
    if (!n) return nullptr;
    if (n > std::numeric_limits<size_type>::max() / sizeof(T)) throw std::bad_array_new_length();
    void *const block = fd_alloc_malloc(join(), alignof(T), n * sizeof(T));
    if (!block) throw std::bad_alloc();
    return static_cast<T *>(block);
  }
  void deallocate(pointer const &block, size_type n) noexcept {
    if (n) fd_alloc_free_sized(join(), block.get(), n * sizeof(T));
  }

  template <class U> bool operator==(allocator<U> const &other) const noexcept {
    return fd_alloc_join_cgroup_hint_set(join(), 0) ==
           fd_alloc_join_cgroup_hint_set(other.join(), 0);
  }
  template <class U> bool operator!=(allocator<U> const &other) const noexcept {
    return !(*this == other);
  }

private:
  offset_ptr<fd_alloc_t> join_;
};

} // namespace wksp

#endif
