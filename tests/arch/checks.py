"""checks: what the source tree must satisfy, as functions from a tree to a list of findings.

The model is docs/architecture.md, "Source tree": a folder may include what the arrows say, and may call
what its allow-list says. Each function takes the root of a tree (or the objects of a build), so that the
tests can also hand it trees with planted violations and see that it finds them.

Refuses to: repair, or to accept an exception that is not written down here with its reason.
"""

import os
import re
import subprocess

# Which folders a folder may include from. 'public' is lib/include/wksp, 'proto' the generated messages.
ARROWS = {
    "lib/include/wksp": {"public"},
    "lib/core": {"public", "lib/core"},
    "lib/heap": {"public", "lib/heap"},
    "lib/ckpt": {"public", "lib/core", "lib/ckpt"},
    "lib/ttrpc": {"lib/ttrpc"},
    "lib/conf": {"lib/conf"},
    "lib/client": {"public", "lib/core", "lib/ttrpc", "lib/client", "proto"},
    "daemon/core": {"error.h", "daemon/core"},
    "daemon/shell": {"public", "lib/core", "lib/ttrpc", "lib/client", "lib/conf", "proto", "daemon/core",
                     "daemon/shell"},
    "daemon/child": {"public", "lib/core", "lib/ckpt", "lib/ttrpc", "lib/client", "proto", "daemon/child"},
    "daemon": {"public", "daemon/core", "daemon/shell", "daemon/child"},
    "cli": {"public", "lib/conf", "proto", "cli"},
    "examples": {"public"},
    "bench": {"public", "bench"},
    # Tests reach into what they test.
    "tests": {"public", "lib/core", "lib/heap", "lib/ckpt", "lib/ttrpc", "lib/client", "proto", "daemon/core",
              "daemon/shell", "daemon/child", "tests"},
}

# The shell starts workers; it knows the child by these headers only.
EXTRA_EDGES = {
    ("daemon/shell", "daemon/child"),
}

# The heap is a user of the library but for how it says why.
FILE_EDGES = {
    ("lib/heap", "core/fail.h"),
    ("lib/heap", "core/testing.h"),
}

# Headers of other people's libraries, and who may include them.
LIBRARIES = {
    "uv.h": {"daemon/shell", "daemon", "bench"},
    "numa.h": {"daemon/shell"},
    "numaif.h": {"daemon/shell"},
    "ini.h": {"lib/conf"},
    "systemd/": {"daemon/shell"},
    "protobuf-c/": {"lib/client", "daemon/shell", "daemon/child", "cli"},
    "seccomp.h": {"daemon/child"},
    "linux/seccomp.h": {"daemon/child"},
    "lz4.h": {"lib/ckpt", "bench"},
    "zstd.h": {"lib/ckpt", "bench"},
    "xxhash.h": {"lib/ckpt", "bench"},
    "jansson.h": {"cli"},
    "curses.h": {"cli"},
    "libsmartcols/": {"cli"},
    "libsmartcols.h": {"cli"},
}

# System headers that a pure folder has no use for.
PURE_FOLDERS = ("lib/ttrpc", "daemon/core")
IMPURE_HEADERS = re.compile(
    r"^(sys/(socket|mman|un|epoll|stat|file|ioctl|time|uio|syscall)\.h|netinet/|arpa/|poll\.h|time\.h|unistd\.h|"
    r"fcntl\.h|pthread\.h|signal\.h|syslog\.h)")

# Tests beside the code, and what only they include.
TEST_FILE = re.compile(r"(_test|/test_\w+|/testing)\.[ch]$")

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def sources(root, *endings):
    """Paths, relative to root, of the tree's files with one of these endings; build folders left out."""
    found = []
    for folder, folders, names in os.walk(root):
        rel = os.path.relpath(folder, root)
        folders[:] = sorted(d for d in folders if not d.startswith(".") and d != "__pycache__"
                            and not (rel == "." and d.startswith("build")))
        found += [os.path.normpath(os.path.join(rel, n)) for n in sorted(names) if n.endswith(endings)]
    return found


def folder_of(path):
    """The folder of ARROWS that path belongs to, or None."""
    for folder in sorted(ARROWS, key=len, reverse=True):
        if path.startswith(folder + "/"):
            return folder
    return None


def target_of(root, path, name):
    """What a quoted include means: 'public', 'proto', 'error.h', a folder, or None when it is nowhere."""
    if name.endswith(".pb-c.h"):
        return "proto"
    here = os.path.normpath(os.path.join(os.path.dirname(path), name))
    for candidate in (here, os.path.join("lib", name), name, os.path.join("lib/include", name)):
        if os.path.isfile(os.path.join(root, candidate)):
            folder = folder_of(candidate)
            if folder == "lib/include/wksp":
                return "error.h" if os.path.basename(candidate) in ("error.h", "types.h") else "public"
            return folder
    return None


def include_findings(root):
    """Include edges that the arrows do not allow."""
    found = []
    for path in sources(root, ".c", ".h"):
        folder = folder_of(path)
        if folder is None:
            if not path.startswith("lib/"):
                found.append(f"{path}: in a folder that tests/arch/checks.py knows no arrows for")
            continue
        is_test = folder == "tests" or TEST_FILE.search(path)
        for quote, name in INCLUDE.findall(read(os.path.join(root, path))):
            if quote == "<":
                if name == "cmocka.h" and not is_test:
                    found.append(f"{path}: includes <cmocka.h> outside a test")
                for library, users in LIBRARIES.items():
                    if (name == library or library.endswith("/") and name.startswith(library)) and \
                            folder not in users | {"tests"}:
                        found.append(f"{path}: {folder} may not include <{name}>")
                if folder in PURE_FOLDERS and not is_test and IMPURE_HEADERS.match(name):
                    found.append(f"{path}: {folder} is pure and may not include <{name}>")
                continue
            target = target_of(root, path, name)
            allowed = ARROWS[folder]
            if target is None:
                found.append(f'{path}: "{name}" is not in the tree')
            elif target == "error.h":
                if not allowed & {"public", "error.h"}:
                    found.append(f'{path}: {folder} may not include "{name}" (public headers)')
            elif target not in allowed and (folder, target) not in EXTRA_EDGES \
                    and (folder, name) not in FILE_EDGES:
                found.append(f'{path}: {folder} may not include "{name}" ({target})')
    return found


# Undefined symbols ------------------------------------------------------------------------------

# Plain computation.
PURE = set("""memcpy memmove memset memcmp memchr memrchr memmem strlen strnlen strcmp strncmp strchr strrchr strstr
    strspn strcspn stpcpy strcasecmp strncasecmp strtoul strtoull strtol strtoll snprintf vsnprintf
    qsort bsearch malloc calloc realloc free abort __assert_fail __stack_chk_fail
    __memcpy_chk __memset_chk __memmove_chk __snprintf_chk __vsnprintf_chk __strcpy_chk __stpcpy_chk
    __ctype_b_loc __isoc99_sscanf sscanf __isoc23_strtoul __isoc23_strtoull _GLOBAL_OFFSET_TABLE_ __tls_get_addr
    strerror strerror_r __xpg_strerror_r __errno_location __popcountdi2""".split())

# lib/core also takes slots and waits on futexes.
CORE = PURE | set("""pthread_mutex_init pthread_mutex_lock pthread_mutex_trylock pthread_mutex_unlock
    pthread_mutex_destroy pthread_mutex_consistent pthread_mutexattr_init pthread_mutexattr_destroy
    pthread_mutexattr_setrobust pthread_mutexattr_setpshared pthread_mutexattr_settype pthread_key_create
    pthread_setspecific pthread_getspecific pthread_key_delete pthread_once pthread_atfork __register_atfork
    pthread_self pthread_getname_np syscall getpid gettid prctl sched_yield""".split())

# What single files of lib/core may call beyond that, and why.
CORE_FILES = {
    # A workspace without a daemon: the one place where the core asks the kernel for memory.
    "anon": set("memfd_create ftruncate fallocate madvise mmap munmap close".split()),
    # The page that a child of fork gets zeroed; signals wait while a handler would find something half done.
    "live": set("madvise pthread_sigmask sigfillset".split()),
    # A thread's seat: a signal handler may need the first one, inside of malloc.
    "map": set("mmap munmap".split()),
    # Where a workspace lies in the address space.
    "mapping": set("mmap munmap".split()),
    # Memory of one process alone: made accessible as it grows, given back when it is free.
    "private": set("mprotect mmap munmap madvise sysconf".split()),
    # Protection of a mapping, for debugging.
    "protect": {"mprotect"},
    # A claimant without a lease that is gone (kill 0).
    "slot": {"kill"},
    # Deadlines, and since when a holder has been there.
    "wait": {"clock_gettime"},
    # The uuid of a new workspace.
    "wksp": {"getrandom"},
}

# lib/ckpt works with threads of its own; what else it uses are codecs, the core, and files.
CKPT = PURE | set("""aligned_alloc pthread_create pthread_join pthread_mutex_init pthread_mutex_destroy
    pthread_mutex_lock pthread_mutex_unlock""".split())
CKPT_FILES = {
    "codec": set("""LZ4_compressBound LZ4_compress_default LZ4_decompress_safe ZSTD_compressBound ZSTD_compressCCtx
        ZSTD_createCCtx ZSTD_createDCtx ZSTD_decompressDCtx ZSTD_freeCCtx ZSTD_freeDCtx ZSTD_getErrorName
        ZSTD_isError""".split()),
    "manifest": set("ZSTD_compress ZSTD_compressBound ZSTD_decompress ZSTD_getFrameContentSize ZSTD_isError".split()),
    # Which instructions there are; libgcc's.
    "digest": {"__cpu_model"},
    # The one place that knows of a machine's folders.
    "folder": set("""open openat close pwrite pread fstat fsync renameat unlinkat fdopendir readdir closedir flock
        sync_file_range""".split()),
    # For people.
    "look": set("gmtime_r strftime vfprintf".split()),
    # The rate; how many threads.
    "work": set("nanosleep sched_getaffinity __sched_cpucount".split()),
    # The host's name, unless the caller gives one.
    "writer": {"gethostname"},
}

LAYERS = {
    "lib/core": (CORE, CORE_FILES),
    "lib/ckpt": (CKPT, CKPT_FILES),
    "lib/ttrpc": (PURE, {}),
    "daemon/core": (PURE, {}),
}


def nm(*arguments):
    """The words of each line that nm prints."""
    out = subprocess.run(["nm", *arguments], capture_output=True, text=True, check=True).stdout
    return [line.split() for line in out.splitlines()]


def plain(name):
    """A function of the C library without what large file support makes of its name."""
    return name[:-2] if name in ("mmap64", "ftruncate64", "fallocate64", "fcntl64", "open64", "pread64",
                                  "pwrite64", "openat64", "fstat64", "readdir64") else name


def symbols(objects):
    """{object: (defined, undefined)}, global symbols only."""
    table = {}
    for path in objects:
        defined = {w[-1] for w in nm("--defined-only", "-g", path) if len(w) >= 2}
        undefined = {plain(w[-1]) for w in nm("-u", path) if len(w) >= 2}
        table[path] = (defined, undefined)
    return table


def stem_of(path):
    """What a source file is called whose object this is."""
    return os.path.basename(path).split(".c.")[0]


def symbol_findings(objects, allowed, by_file=None):
    """Undefined symbols that are neither defined among the objects nor allowed, and allowances that nobody
    needs. by_file: what single files may use besides."""
    table, by_file = symbols(objects), by_file or {}
    own = set().union(*(defined for defined, _ in table.values()))
    found = []
    for path, (_, undefined) in sorted(table.items()):
        extra = by_file.get(stem_of(path), set())
        found += [f"{stem_of(path)}.c: may not use {name}" for name in sorted(undefined - own - allowed - extra)]
    for stem, names in by_file.items():
        used = set().union(*(undefined for path, (_, undefined) in table.items() if stem_of(path) == stem))
        found += [f"{stem}.c: may use {name}, but does not: take it off the list" for name in sorted(names - used)]
    return found


def objects_of(build, folder):
    """The object files of the static libraries that a folder of the tree is built into; what only tests link
    is left out."""
    found = []
    top = os.path.join(build, folder)
    for sub, _, names in os.walk(top):
        name = os.path.basename(sub)
        if name.endswith(".a.p") and not re.search("_(test|crash)", name):
            found += [os.path.join(sub, n) for n in sorted(names) if n.endswith(".o")]
    return found


# Public interface -------------------------------------------------------------------------------


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)


# What a public header declares is in libwksp, unless it is one of these.
HEADERS_CKPT = {"ckpt.h"}


def declared_api(root, headers=None):
    """Names that the public headers declare WKSP_API: those named, or all that are libwksp's."""
    names = set()
    for path in sources(os.path.join(root, "lib/include/wksp"), ".h"):
        if path not in headers if headers else path in HEADERS_CKPT:
            continue
        text = without_comments(read(os.path.join(root, "lib/include/wksp", path)))
        text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
        for declaration in re.findall(r"\bWKSP_API\b([^;{]*)[;{]", text):
            head = declaration.split("(", 1)[0] if "(" in declaration else declaration
            names.add(re.findall(r"\w+", head)[-1])
    return names


def exported(library):
    """{symbol: version} that a shared library defines for others; version symbols left out."""
    table = {}
    for words in nm("-D", "--defined-only", library):
        if len(words) >= 3 and words[1] != "A":
            name, _, version = words[2].partition("@@")
            table[name] = version
    return table


def export_findings(root, library, version_map="lib/libwksp.map", headers=None):
    """Differences between what is declared, what is exported and what the version map names. What is exported
    under the private version is declared nowhere, and must be named there."""
    declared, out = declared_api(root, headers), exported(library)
    text = re.sub(r"#.*", "", without_comments(read(os.path.join(root, version_map))))
    node = re.search(r"(\w+)\s*\{.*?global:(.*?)local:", text, re.DOTALL)
    private = re.search(r"(\w*PRIVATE\w*)\s*\{.*?global:(.*?)\}", text, re.DOTALL)
    patterns = [p.strip() for p in (node[2] + (private[2] if private else "")).split(";") if p.strip()]
    found = [f"declared WKSP_API but not exported: {n}" for n in sorted(declared - set(out))]
    if private:
        out = {n: v for n, v in out.items() if v != private[1] or not n.startswith("wksp__")}
    found += [f"exported but not declared WKSP_API: {n}" for n in sorted(set(out) - declared)]
    for name, version in sorted(out.items()):
        if version != node[1]:
            found.append(f"{name} has version '{version}', the map says {node[1]}")
    for pattern in patterns:
        rx = re.compile(re.escape(pattern).replace(r"\*", ".*") + "$")
        if not any(rx.match(name) for name in exported(library)):
            found.append(f"the map exports {pattern}, which nothing matches")
    return found


# Style ------------------------------------------------------------------------------------------

LINES_MAX = 600
# C has 100, which clang-format sees to; this is for the tables that it leaves alone.
COLUMNS_MAX = {".build": 160, ".proto": 160}
COLUMNS_MAX_ELSE = 120
POSTPONED = re.compile(r"\b(" + "TO" "DO|FIX" "ME|XX" "X|HA" "CK" + r")\b")
SLEEP = re.compile(r"\b(" + "sl" "eep|usl" "eep|nanosl" "eep|clock_nanosl" "eep" + r")\s*(\(|\d)")
DEAD = re.compile(r"^\s*#\s*if\s+0\b", re.MULTILINE)


def style_findings(root):
    """Long files, postponed work, tests and scripts that wait by the clock, dead code, files that do not say
    why they exist."""
    found = []
    paths = sources(root, ".c", ".h", ".py", ".sh", ".proto", ".build")
    for folder in ("scripts", ".ci"):
        top = os.path.join(root, folder)
        if os.path.isdir(top):
            paths += [os.path.join(folder, n) for n in sorted(os.listdir(top)) if os.path.isfile(os.path.join(top, n))]
    for path in dict.fromkeys(paths):
        text = read(os.path.join(root, path))
        lines = text.splitlines()
        columns_max = COLUMNS_MAX.get(os.path.splitext(path)[1], COLUMNS_MAX_ELSE)
        waits = path.startswith(("tests/", "scripts/", "examples/", ".ci/")) or path.endswith("_test.c")
        if len(lines) > LINES_MAX:
            found.append(f"{path}: {len(lines)} lines, at most {LINES_MAX}: split it by what it is")
        for number, line in enumerate(lines, 1):
            if POSTPONED.search(line):
                found.append(f"{path}:{number}: postponed work: {line.strip()}")
            if waits and SLEEP.search(line):
                found.append(f"{path}:{number}: waits by the clock, not for an event: {line.strip()}")
            if len(line) > columns_max:
                found.append(f"{path}:{number}: {len(line)} columns, at most {columns_max}")
            if line != line.rstrip():
                found.append(f"{path}:{number}: white space at the end")
        if DEAD.search(text):
            found.append(f"{path}: code that is never compiled")
        if path.endswith((".c", ".h")) and not text.lstrip().startswith("/*"):
            found.append(f"{path}: does not open with a comment that says why it exists")
        if path.endswith(".py") and not text.startswith(('"""', "#!")):
            found.append(f"{path}: does not open with a docstring that says why it exists")
        if text and not text.endswith("\n"):
            found.append(f"{path}: no newline at the end")
    return found
