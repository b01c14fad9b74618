"""Real programs on libwksp_malloc.so do what they do with the C library's malloc.

Each test is skipped where the program is missing; scripts/test installs what it can.
"""

import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import heaplib
import tap

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
PYTHON = "/usr/bin/python3"


def need(name):
    path = heaplib.program(name)
    if not path:
        tap.skip(name)
    return path


def alike(*command, **more):
    """The program's output and status are the same under both."""
    ours, theirs = heaplib.run(heaplib.OURS, *command, **more), heaplib.run(None, *command, **more)
    tap.eq(ours.returncode, theirs.returncode, ours.stderr[-400:])
    tap.eq(ours.stdout, theirs.stdout)
    tap.eq(theirs.returncode, 0, theirs.stderr[-400:])


PYTHON_SCRIPT = r"""
import concurrent.futures, json, multiprocessing, os, random, re, subprocess, sys, threading, zlib
random.seed(7)
data = [{"n": i, "s": str(i) * (i % 40), "l": list(range(i % 30))} for i in range(20000)]
text = json.dumps(data)
assert json.loads(text) == data
print(zlib.crc32(text.encode()))
def work(seed):
    r, kept = random.Random(seed), {}
    for i in range(20000):
        kept[r.randrange(3000)] = bytes(r.randrange(2000))
    return sum(map(len, kept.values()))
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    print(list(pool.map(work, range(16))))
with multiprocessing.get_context("fork").Pool(4) as pool:
    print(pool.map(work, range(8)))
def forks():
    for i in range(5):
        pid = os.fork()
        if not pid:
            os._exit(work(i) % 100)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == work(i) % 100
threads = [threading.Thread(target=forks) for _ in range(3)]
[t.start() for t in threads]
[t.join() for t in threads]
print(subprocess.run([sys.executable, "-c", "print('x' * 10)"], capture_output=True).stdout)
print(len(re.sub("[0-9]+", lambda m: m.group() * 2, text)))
"""


@tap.test
def python():
    """python: json, threads, processes by fork, forks under threads"""
    alike(PYTHON, "-c", PYTHON_SCRIPT)


@tap.test
def python_tests():
    """python's own tests of threads, fork, memory and json pass"""
    modules = ["test_thread", "test_fork1", "test_json", "test_gc"]
    found = heaplib.run(None, PYTHON, "-c", "import " + ", ".join("test." + m for m in modules))
    if found.returncode:
        tap.skip("libpython3.11-testsuite")
    with tempfile.TemporaryDirectory(prefix="wksp-heap-") as folder:
        done = heaplib.run(heaplib.OURS, PYTHON, "-m", "test", "-q", "--tempdir", folder, *modules)
    tap.eq(done.returncode, 0, done.stdout[-1000:] + done.stderr[-1000:])


SQL = """
create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
  insert into t select i, 'text' || (i * 7919 % 100003), i / 3.0 from n;
create index tb on t(b);
select count(*), sum(length(b)) from t where b like 'text1%';
select count(*) from t x join t y on x.b = y.b where x.a < 5000;
delete from t where a % 3 = 0;
vacuum;
select sum(c), group_concat(a) from (select a, c from t where a % 97 = 0 order by b);
pragma integrity_check;
"""


@tap.test
def sqlite():
    """sqlite3: tables, indexes, joins, sorting, vacuum, integrity check"""
    alike(need("sqlite3"), ":memory:", SQL)


PERL_SCRIPT = r"""
my %h; $h{"key$_"} = [$_, "v$_" x ($_ % 9)] for 1..60000;
my $n = 0;
for my $k (sort keys %h) { $n += length $h{$k}[1]; delete $h{$k} if $n % 3 == 0 }
my $s = join ",", map { "x$_" x 3 } 1..50000;
my @b = split /,/, $s; $s =~ s/(\d+)/$1 * 2/ge;
for my $i (1..5) { my $pid = fork; if (!$pid) { my @c = map { $_ x 5 } @b; exit @c % 100 }
  waitpid $pid, 0; print $? >> 8, "\n" }
print scalar(keys %h), " $n ", scalar(@b), " ", length $s, "\n";
"""


@tap.test
def perl():
    """perl: hashes, strings, regular expressions, fork"""
    alike(need("perl"), "-e", PERL_SCRIPT, PERL_HASH_SEED="0")


@tap.test
def gcc():
    """gcc makes the same objects of lib/core"""
    cc = need("gcc")
    files = [os.path.join(ROOT, "lib/core", name) for name in ("part.c", "alloc_span.c", "slot.c", "verify_test.c")]
    with tempfile.TemporaryDirectory(prefix="wksp-heap-") as folder:
        made = []
        for library in (heaplib.OURS, None):
            for path in files:
                out = os.path.join(folder, f"{os.path.basename(path)}-{library is None}.o")
                done = heaplib.run(library, cc, "-O2", "-std=gnu11", "-D_GNU_SOURCE", f"-I{ROOT}/lib",
                                   f"-I{ROOT}/lib/include", "-c", path, "-o", out)
                tap.eq(done.returncode, 0, done.stderr[-400:])
                with open(out, "rb") as f:
                    made.append(f.read())
        tap.true(made[:len(files)] == made[len(files):], "objects differ")


class Redis:
    """A redis-server of ours on a socket in a folder."""

    def __init__(self, folder, name):
        self.socket = os.path.join(folder, name + ".sock")
        self.log = open(os.path.join(folder, name + ".log"), "wb")
        self.process = subprocess.Popen(
            [need("redis-server"), "--port", "0", "--unixsocket", self.socket, "--dir", folder, "--save", "",
             "--enable-debug-command", "yes", "--daemonize", "no"],
            env=heaplib.environment(heaplib.OURS), stdout=self.log, stderr=self.log)

    def ask(self, *command):
        done = heaplib.run(None, need("redis-cli"), "-s", self.socket, *command)
        return done.stdout.decode().strip() if not done.returncode else None

    def until(self, *command, want):
        tap.until(lambda: (self.ask(*command) or "").find(want) >= 0, 60, f"redis: {command} says {want}")

    def end(self):
        self.process.terminate()
        self.process.wait(timeout=60)
        self.log.close()


@tap.test
def redis():
    """redis-server saves in the background while redis-benchmark writes; the dump loads and is equal"""
    need("redis-server")
    bench = need("redis-benchmark")
    folder = tempfile.mkdtemp(prefix="wksp-heap-")
    servers = []
    try:
        first = Redis(folder, "first")
        servers.append(first)
        first.until("ping", want="PONG")
        load = subprocess.Popen([bench, "-s", first.socket, "-q", "-n", "30000", "-r", "20000", "-P", "8", "-t",
                                 "set,lpush,hset,zadd,incr,lrange_100", "-d", "200"],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            saves = 0
            while load.poll() is None:
                if "started" in (first.ask("bgsave") or ""):
                    saves += 1
                    first.until("info", "persistence", want="rdb_bgsave_in_progress:0")
            tap.eq(load.returncode, 0)
        finally:
            if load.poll() is None:
                load.kill()
            load.wait()
        tap.true(saves, "no save was made under load")
        tap.true("rdb_last_bgsave_status:ok" in first.ask("info", "persistence"), "a save under load failed")
        tap.eq(first.ask("save"), "OK")
        digest = first.ask("debug", "digest")
        tap.true(int(first.ask("dbsize")) > 1000, "there are keys")
        second = Redis(folder, "second")
        servers.append(second)
        second.until("ping", want="PONG")
        tap.eq(second.ask("debug", "digest"), digest)
    finally:
        for server in servers:
            server.end()
        shutil.rmtree(folder)


tap.run()
