"""wkspctl metrics: what it says, that monitoring systems read it, and that the alerts are about metrics that exist."""

import http.client
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
from clilib import fails
from daemon import Daemon, binary

ROOT = os.environ.get("WKSP_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
ALERTS = os.path.join(ROOT, "contrib/prometheus/wkspd-alerts.yml")
SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")


def samples(text):
    """{name{labels}: value} of a text in either format; fails on a line that is none."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = SAMPLE.fullmatch(line)
        tap.true(match, f"a sample: {line!r}")
        key = match[1] + ("{" + match[2] + "}" if match[2] else "")
        tap.true(key not in found, f"{key} is there once")
        found[key] = float(match[3])
    return found


def standing(found):
    """Those that do not change from one moment to the next."""
    moving = ("wkspd_uptime", "wkspd_requests_total", "wkspd_node_huge")
    return {k: v for k, v in found.items() if not k.startswith(moving)}


def promtool(*args, **kw):
    """Runs promtool, which must have nothing to say."""
    if not shutil.which("promtool"):
        tap.skip("promtool (package prometheus)")
    done = subprocess.run(["promtool", *args], capture_output=True, text=True, check=False, **kw)
    tap.eq((done.returncode, done.stderr), (0, ""), f"promtool {' '.join(args)}\n{done.stdout}")


@tap.test
def figures():
    """the figures are those that status, ls and usage show"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "8M", "--max-size", "16M", "--page", "4k")
        d.ok("create", "other", "--size", "2M", "--page", "4k")
        d.ok("alloc", "demo", "--size", "1M", "--tag", "7")
        d.ctl("show", "nobody")
        got = samples(d.ok("metrics"))
        status, shown, used = d.status(), d.json("show", "demo"), d.json("usage", "demo")["usage"]
        tap.true(got["wkspd_requests_total"] < status["request_cnt"], "requests")
        for name, want in {"wkspd_workspaces": 2, "wkspd_leases": 0, "wkspd_memory_outlives_daemon": 0,
                           "wkspd_workspaces_bytes": status["bytes"], "wkspd_requests_refused_total": 1,
                           "wkspd_violations_total": 0, "wkspd_workspaces_lost": 0}.items():
            tap.eq(got[name], want, name)
        for name, want in {"size_bytes": shown["size"], "max_size_bytes": shown["max_size"], "page_size_bytes": 4096,
                           "data_bytes": used["total_size"], "used_bytes": used["used_size"],
                           "free_bytes": used["free_size"], "largest_free_bytes": used["free_size_max"],
                           "partitions": used["total_cnt"], "partitions_max": used["total_max"], "readable": 1,
                           "quarantined": 0, "lock_wait_seconds": 0}.items():
            tap.eq(got[f'wkspd_workspace_{name}{{workspace="demo"}}'], want, name)
        tap.eq(got['wkspd_workspace_used_bytes{workspace="other"}'], 0)
        tap.true(abs(got['wkspd_workspace_created_timestamp_seconds{workspace="demo"}'] -
                     shown["created_ns"] / 1e9) < 1e-3, "time of creation")
        version = d.json("version")
        tap.eq(got[f'wkspd_info{{version="{version["daemon"]}",layout="{version["layout"]}"}}'], 1)
        fragmentation = 1 - used["free_size_max"] / used["free_size"]
        tap.true(abs(got['wkspd_workspace_fragmentation_ratio{workspace="demo"}'] - fragmentation) < 1e-9, "ratio")


@tap.test
def formats():
    """both formats and JSON have the same samples; OpenMetrics ends as it must and its counters' families lack
    _total, Prometheus' have it"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "8M", "--page", "4k")
        openmetrics, prometheus = d.ok("metrics"), d.ok("metrics", "--format", "prometheus")
        first, second = samples(openmetrics), samples(prometheus)
        tap.eq(standing(first), standing(second))
        third = {}
        for metric in d.json("metrics")["metrics"]:
            labels = ",".join(f'{k}="{v}"' for k, v in metric["labels"].items())
            third[metric["name"] + (f"{{{labels}}}" if labels else "")] = metric["value"]
        tap.eq(standing(first), standing(third))
        tap.true(openmetrics.endswith("\n# EOF\n"), "the end of OpenMetrics")
        tap.contains(openmetrics, "# TYPE wkspd_requests counter\n")
        tap.contains(prometheus, "# TYPE wkspd_requests_total counter\n")
        fails(d, 2, ["metrics", "--format", "xml"], "'xml'", "openmetrics", "prometheus")


@tap.test
def others():
    """a workspace that the asker may not read is not named, one that he may only read is there as a whole"""
    if os.getuid():
        tap.skip("root")
    with Daemon() as d:
        os.chmod(d.dir, 0o755)
        os.chmod(d.socket, 0o666)
        d.ok("create", "mine", "--size", "2M", "--page", "4k", "--mode", "0600")
        d.ok("create", "open", "--size", "2M", "--page", "4k", "--mode", "0644")
        program = shutil.copy(binary("cli/wkspctl"), d.dir)  # others may not look into the build folder
        os.chmod(program, 0o755)
        done = subprocess.run([program, "metrics"], env=d.env, cwd="/", capture_output=True, text=True,
                              check=False, user=65534, group=65534, extra_groups=[])
        tap.eq((done.returncode, done.stderr), (0, ""), "metrics as another user")
        got = samples(done.stdout)
        tap.true("mine" not in done.stdout, "what he may not know of is not told")
        tap.eq(got['wkspd_workspace_readable{workspace="open"}'], 1)
        tap.eq(got['wkspd_workspace_used_bytes{workspace="open"}'], 0)


@tap.test
def promtool_metrics():
    """promtool check metrics has nothing to say about --format prometheus"""
    with Daemon() as d:
        for name in ("a", "b"):
            d.ok("create", name, "--size", "2M", "--page", "4k")
        promtool("check", "metrics", input=d.ok("metrics", "--format", "prometheus"))


@tap.test
def openmetrics_parser():
    """the parser of Prometheus' own Python client, which is strict, reads the OpenMetrics text"""
    try:
        from prometheus_client.openmetrics import parser
    except ImportError:
        tap.skip("python3-prometheus-client")
    with Daemon() as d:
        d.ok("create", "a", "--size", "2M", "--page", "4k")
        text = d.ok("metrics")
        families = list(parser.text_string_to_metric_families(text))
        tap.eq(sum(len(f.samples) for f in families), len(samples(text)), "samples that it found")
        tap.true(all(f.documentation for f in families), "each family has help")


@tap.test
def alerts():
    """promtool check rules accepts the alerts, and every metric that they and docs/metrics.md name exists, and none
    is missing there"""
    with Daemon() as d:
        d.ok("create", "a", "--size", "2M", "--page", "4k")
        # What there is nothing to say of has a family, and no sample.
        names = set(re.findall("^# TYPE (wkspd_[a-z_]+) ", d.ok("metrics", "--format", "prometheus"), re.MULTILINE))
    with open(ALERTS, encoding="utf-8") as f:
        rules = re.findall(r"wkspd_\w+", " ".join(re.findall(r"expr:.*?\n(?=        \w)", f.read(), re.DOTALL)))
    tap.true(len(set(rules)) > 10, f"metrics in rules: {rules}")
    tap.eq(sorted(set(rules) - names), [], "metrics in rules that do not exist")
    with open(os.path.join(ROOT, "docs/metrics.md"), encoding="utf-8") as f:
        documented = set(re.findall(r"^\| `(wkspd_\w+)`", f.read(), re.MULTILINE))
    tap.eq(sorted(documented ^ names), [], "metrics that are only here or only in docs/metrics.md")
    promtool("check", "rules", ALERTS)


@tap.test
def alerts_fire():
    """by promtool test rules each alert fires where it is to and nowhere else; each is tried"""
    with open(ALERTS, encoding="utf-8") as f:
        names = re.findall(r"^ +- alert: (\w+)", f.read(), re.MULTILINE)
    tests = ALERTS.replace(".yml", "-test.yml")
    with open(tests, encoding="utf-8") as f:
        tried = re.findall(r"- alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:\n", f.read())
    tap.eq(sorted(set(tried)), sorted(names), "alerts that a test sees firing")
    promtool("test", "rules", tests)


@tap.test
def checkpoints():
    """of checkpoints, schedules, jobs, pages and pools the figures are those that other commands show; a workspace
    that is gone has its checkpoints, one without has none"""
    with Daemon() as d:
        for name in ("demo", "gone", "bare"):
            d.ok("create", name, "--size", "2M", "--page", "4k")
        d.ok("alloc", "demo", "--size", "64K")
        for name in ("demo", "gone", "demo"):
            d.ok("checkpoint", name, "--wait")
        last = d.json("checkpoints", "demo")["checkpoints"][-1]
        d.ok("checkpoint-verify", last["id"])
        d.ok("schedule", "demo", "--every", "1h")
        d.ok("rm", "gone")
        got, nodes = samples(d.ok("metrics")), d.json("show", "demo")["placement"]["nodes"]

        def of(metric, name="demo"):
            return got.get(f'wkspd_checkpoint{metric}{{workspace="{name}"}}')

        files = sum(c["file_size"] for c in d.json("checkpoints", "demo")["checkpoints"])
        for metric, want in {"s": 2, "s_bad": 0, "_files_bytes": files, "_last_good_live_bytes": last["live_size"],
                             "_last_good_suspects": 0, "_schedule_interval_seconds": 3600,
                             "_schedule_failures": 0}.items():
            tap.eq(of(metric), want, metric)
        for metric in ("_last_good_timestamp_seconds", "_last_verified_timestamp_seconds"):
            tap.true(abs(of(metric) - last["created_ns"] / 1e9) < 1e-3, metric)
        due = d.json("schedule", "demo")["schedule"]["due_ns"] / 1e9
        tap.true(abs(of("_schedule_due_timestamp_seconds") - due) < 1e-3, "due")
        tap.eq((of("s", "gone"), of("_last_verified_timestamp_seconds", "gone")), (1, None), "one that is gone")
        tap.eq((of("s", "bare"), of("_last_good_timestamp_seconds", "bare")), (0, None), "one without")
        jobs = {k: v for k, v in got.items() if k.startswith("wkspd_checkpoint_jobs")}
        tap.eq({k: v for k, v in jobs.items() if v}, {
            'wkspd_checkpoint_jobs{kind="checkpoint",state="done"}': 3,
            'wkspd_checkpoint_jobs{kind="verify",state="done"}': 1}, "jobs")
        for node in nodes:
            label = "none" if node["node"] is None else node["node"]
            tap.eq(got[f'wkspd_workspace_node_pages{{workspace="demo",node="{label}"}}'], node["got"], "pages")
        # How many there are may change meanwhile.
        pools = {f'wkspd_node_huge_pages{free}{{node="{node["node"]}",page_size="{pool["page_size"]}"}}'
                 for pool in d.json("hugepages")["pools"] for node in pool["nodes"] for free in ("", "_free")}
        tap.eq({k for k in got if k.startswith("wkspd_node_huge")}, pools, "pools")


@tap.test
def suspects():
    """blocks that a killed program had in flight are counted while they live, also in what is restored from a
    checkpoint, until they are freed"""
    with Daemon() as d:
        d.ok("create", "demo", "--size", "8M", "--page", "4k")
        heap = d.ok("heap", "new", "demo", "--tag", "7").strip()

        def counted(want):
            got = samples(d.ok("metrics"))
            tap.eq(got['wkspd_workspace_suspects{workspace="demo"}'], want, "suspect blocks")

        d.ok("heap", "malloc", heap, "--size", "100")
        counted(0)
        lost = d.run(binary("tests/cli/hand"), "kill", "demo", heap.split(":")[1], 100).out.strip()
        counted(1)
        d.ok("checkpoint", "demo", "--wait")
        d.ok("rm", "demo")
        d.ok("restore", "demo")
        counted(1)
        d.ok("heap", "free", heap, "demo:" + lost)
        counted(0)


@tap.test
def quotas():
    """a user's quota and what counts against it are there as status has them"""
    with tempfile.TemporaryDirectory() as folder:
        conf = os.path.join(folder, "wkspd.conf")
        with open(conf, "w", encoding="ascii") as f:
            f.write(f"[quota]\nuid{os.getuid()}.4k = 64M\n")
        with Daemon(args=["--config", conf]) as d:
            d.ok("create", "demo", "--size", "2M", "--max-size", "4M", "--page", "4k")
            got, (quota,) = samples(d.ok("metrics")), d.status()["quotas"]
            labels = f'{{uid="{quota["uid"]}",page_size="4096",node="all"}}'
            tap.eq((got["wkspd_quota_used_bytes" + labels], got["wkspd_quota_limit_bytes" + labels]),
                   (quota["used"], quota["limit"]))
            tap.eq((quota["used"], quota["limit"]), (4 << 20, 64 << 20))


class UnixHTTP(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.host)


def serving(d, where, timeout_s=60):
    """A wkspctl that serves metrics there, and has said so; None if the place is taken."""
    proc = d.popen(binary("cli/wkspctl"), "metrics", "--listen", where, "--timeout", timeout_s, stdout=subprocess.PIPE,
                   stderr=subprocess.PIPE)
    line = proc.stdout.readline().decode()
    if line == f"serving metrics at {where}\n":
        return proc
    why = proc.communicate(timeout=60)[1].decode()
    if "without libmicrohttpd" in why:
        tap.skip("libmicrohttpd")
    tap.contains(why, "Address already in use")
    return None


def asked(connection, method="GET", path="/metrics", **headers):
    """(status, type, text) of an answer."""
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    return response.status, response.getheader("Content-Type"), response.read().decode()


def ended(proc):
    """It ends with 0 at SIGTERM, and has not complained."""
    proc.send_signal(signal.SIGTERM)
    out, err = proc.communicate(timeout=60)
    tap.eq((proc.returncode, out, err), (0, b"", b""), "the end of the server")


@tap.test
def served():
    """--listen PATH serves the same over HTTP on a unix socket, in the format that is asked for; other requests are
    refused; while the daemon is away it says so, and goes on when it is back"""
    with Daemon(supervise=True) as d:
        d.ok("create", "demo", "--size", "2M", "--page", "4k")
        path = os.path.join(d.dir, "http")
        proc = serving(d, path)
        tap.eq(os.stat(path).st_mode & 0o022, 0, "who else may connect")
        status, kind, text = asked(UnixHTTP(path))
        tap.eq((status, kind), (200, "text/plain; version=0.0.4; charset=utf-8"))
        tap.eq(set(samples(text)), set(samples(d.ok("metrics"))), "names of samples")
        promtool("check", "metrics", input=text)
        status, kind, text = asked(UnixHTTP(path), Accept="application/openmetrics-text; version=1.0.0, */*;q=0.1")
        tap.eq((status, kind), (200, "application/openmetrics-text; version=1.0.0; charset=utf-8"))
        tap.true(text.endswith("# EOF\n"), "the end of OpenMetrics")
        tap.eq(asked(UnixHTTP(path), "HEAD")[::2], (200, ""), "HEAD")
        tap.eq(asked(UnixHTTP(path), "POST", **{"Content-Length": "0"})[0], 405, "POST")
        tap.eq(asked(UnixHTTP(path), path="/")[0], 404, "another page")
        d.wait_restart(d.kill_child())
        tap.eq(asked(UnixHTTP(path))[0], 200, "after a restart of the daemon")
        ended(proc)
        tap.true(not os.path.exists(path), "the socket is gone")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        ended(serving(d, path))
        proc = serving(d, path, timeout_s=1)
        tap.true(serving(d, path) is None, "a socket that somebody listens at is not taken")
        d.stop()
        status, _, text = asked(UnixHTTP(path))
        tap.eq(status, 503, "without a daemon")
        tap.contains(text, d.socket)
        ended(proc)


@tap.test
def served_tcp():
    """--listen takes loopback addresses with a port and no others"""
    with Daemon() as d:
        for where in ("0.0.0.0:9477", "192.168.1.1:9477", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "[::]:9477",
                      "localhost:9477", "9477", "", "127.0.0.1:80x", "relative/path", "/" + "x" * 200):
            fails(d, 2, ["metrics", "--listen", where], "127.0.0.1:PORT")
        for _ in range(20):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            proc = serving(d, f"127.0.0.1:{port}")
            if proc:
                break
        tap.true(proc, "a port that is free")
        status, _, text = asked(http.client.HTTPConnection("127.0.0.1", port, timeout=60))
        tap.eq(status, 200)
        tap.contains(text, "wkspd_info")
        # Somebody who connects and says nothing is in nobody's way, and is borne with for ten seconds.
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", port)) as silent:
            tap.eq(asked(http.client.HTTPConnection("127.0.0.1", port, timeout=60))[0], 200, "beside a silent one")
            told = select.select([silent], [], [], 0)[0]
            tap.true(not told or time.monotonic() - begun > 9, "the silent one is told something")
        ended(proc)


@tap.test
def no_daemon():
    """without a daemon it prints nothing and exits with 3, so that what collects it notices"""
    with Daemon() as d:
        d.stop()
        fails(d, 3, ["metrics"], d.socket)


tap.run()
