"""The packages, installed, upgraded and removed as an operator does it."""

import http.client
import os
import pwd
import re
import shutil
import socket as sockets
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import lab
import tap
import tutorial

PROGRAM = os.path.join(lab.debs_dir(), "tutorial-index")
with open(os.path.join(lab.ROOT, "docs/tutorial.md"), encoding="utf-8") as page:
    TUTORIAL = page.read()


def program():
    """Compiles the tutorial's program with the headers and the library of the packages, as the bed has no compiler."""
    lab.debs()
    with tempfile.TemporaryDirectory() as tree:
        for deb in lab.deb_files("libwksp1", "libwksp-dev"):
            lab.ok("dpkg", "-x", deb, tree)
        libs = os.path.dirname(lab.ok("find", tree, "-name", "libwksp.so").strip())
        source = os.path.join(tree, "index.c")
        with open(source, "w", encoding="utf-8") as f:
            f.write(tutorial.steps(TUTORIAL)[0]["index.c"])
        lab.ok("cc", "-o", PROGRAM, source, f"-I{tree}/usr/include", f"-L{libs}", "-lwksp")


lab.bed("nspawn", program)

NEXT = "0.1.0+next"
# Where somebody else's things are called wksp..., or the package manager keeps what it knows of all packages.
ELSEWHERE = ("/proc", "/sys", "/dev", "/home", "/wkspd-lab", "/var/log", "/var/cache", "/var/lib/apt")


@tap.test
def installs():
    """apt-get install of the three packages and systemctl start give a daemon that answers, as a user of its own
    without capabilities, with systemd as keeper of its descriptors, and again after the next boot"""
    lab.apt("install", *lab.deb_files())
    lab.ok("systemctl", "start", "wkspd")
    pid = lab.serving()
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        status = f.read()
    tap.eq(re.search(r"^Uid:\s+(\d+)", status, re.M)[1], str(pwd.getpwnam("wkspd").pw_uid), "its user")
    for which in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        tap.eq(int(re.search(rf"^{which}:\s+(\w+)", status, re.M)[1], 16), 0, which)
    tap.eq(re.search(r"^Seccomp:\s+(\d)", status, re.M)[1], "2", "its system call filter")
    tap.eq(lab.ctl("status")["fd_store"], True, "whether memory outlives it")
    tap.eq(lab.run("systemctl", "is-enabled", "wkspd.service", "wkspd.socket")[1].split(), ["enabled"] * 2, "at boot")
    tap.eq(lab.unit()["NRestarts"], "0", "restarts")


@tap.test
def socket():
    """the socket is root's and the group's: a member creates a workspace, who is none is told that he may not"""
    tap.eq(lab.ok("stat", "-c", "%U:%G:%a", "/run/wkspd/wkspd.sock").strip(), "root:wkspd:660", "the socket")
    lab.add_user()
    refused = lab.run("wkspctl", "create", "w", "--size", "2M", user="labour", group="labour", extra_groups=[])
    tap.true(refused[0] not in (0, 2), f"who is not of the group was served: {refused}")
    tap.contains(refused[2], "/run/wkspd/wkspd.sock")
    lab.ok("wkspctl", "create", "w", "--size", "4M", "--page", "4k", user="labour", group="labour",
           extra_groups=["wkspd"])
    tap.eq(lab.ok("wkspctl", "--json", "ls", user="labour", group="labour", extra_groups=["wkspd"]).count('"w"'), 1)


@tap.test
def works_hardened():
    """what wkspd does with its workers and with memory works inside its unit: resize, query, verify, compact and
    removal, and nothing is refused by the system call filter"""
    lab.ok("wkspctl", "create", "h", "--size", "4M", "--max-size", "16M", "--page", "4k")
    place = lab.ok("wkspctl", "alloc", "h", "--size", "100000", "--tag", "5").split()[0]
    lab.ok("wkspctl", "resize", "h", "--size", "12M")
    tap.eq(len(lab.ctl("query", "h")["partitions"]), 1, "partitions")
    lab.ok("wkspctl", "verify", "h")
    lab.ok("wkspctl", "compact", "h")
    lab.ok("wkspctl", "free", place)
    lab.ok("wkspctl", "resize", "h", "--size", "4M")
    lab.ok("wkspctl", "rm", "h")
    wrong = [line for line in lab.journal().splitlines() if re.match("warn|error", line)]
    tap.eq(wrong, [], "complaints in its log")
    tap.eq(lab.unit()["NRestarts"], "0", "restarts")


def metrics_at(connection):
    """The status and text of /metrics there."""
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    return response.status, response.read().decode()


def metrics_of_socket(path):
    """The same at a unix socket."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = sockets.socket(sockets.AF_UNIX)
    connection.sock.connect(path)
    return metrics_at(connection)


@tap.test
def serves_metrics():
    """wkspd-metrics.service is off until it is switched on, serves metrics at loopback as a user of its own without
    capabilities, elsewhere if /etc/default says so, and is none of the daemon's matter when it is killed"""
    name = "wkspd-metrics.service"
    tap.eq(lab.run("systemctl", "is-enabled", name)[1].strip(), "disabled", "at boot")
    tap.eq(lab.unit(name)["ActiveState"], "inactive", "after the installation")
    daemon = lab.serving()
    lab.ok("systemctl", "start", name)

    def answered(ask):
        try:
            return ask()
        except OSError:
            return None

    def at_port():
        return answered(lambda: metrics_at(http.client.HTTPConnection("127.0.0.1", 9477, timeout=60)))

    status, text = tap.until(at_port, lab.READY_S, "it serves")
    tap.eq((status, "wkspd_memory_outlives_daemon 1" in text), (200, True), f"its answer:\n{text}")
    tap.contains(text, 'wkspd_node_huge_pages{node="0"')
    pid = lab.unit(name)["MainPID"]
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        state = f.read()
    tap.true(int(re.search(r"^Uid:\s+(\d+)", state, re.M)[1]) not in (0, pwd.getpwnam("wkspd").pw_uid), "its user")
    for which in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        tap.eq(int(re.search(rf"^{which}:\s+(\w+)", state, re.M)[1], 16), 0, which)
    with open("/etc/default/wkspd-metrics", "w", encoding="ascii") as f:
        f.write("WHERE=/run/wkspd-metrics/sock\n")
    lab.ok("systemctl", "restart", name)
    status, _ = tap.until(lambda: answered(lambda: metrics_of_socket("/run/wkspd-metrics/sock")), lab.READY_S,
                          "it serves the socket")
    tap.eq((status, at_port()), (200, None), "at the socket, and at the port any more")
    lab.ok("systemctl", "kill", "-s", "KILL", name)
    tap.eq(lab.serving(), daemon, "the daemon's process")
    lab.ok("systemctl", "stop", name)
    os.unlink("/etc/default/wkspd-metrics")


@tap.test(timeout=240)
def tutorial_holds():
    """every command of the tutorial does what it shows, as an ordinary user, with what the packages install"""
    folder = "/var/tmp/tutorial"
    os.makedirs(os.path.join(folder, "bin"))
    # Its program was compiled outside, with the packages' headers and library.
    for tool, does in (("cc", f"cp {PROGRAM} index"), ("pkg-config", "echo")):
        path = os.path.join(folder, "bin", tool)
        with open(path, "w", encoding="ascii") as f:
            f.write(f"#!/bin/sh\n{does}\n")
        os.chmod(path, 0o755)
    home = pwd.getpwnam("labour")
    os.chown(folder, home.pw_uid, home.pw_gid)
    env = {"HOME": home.pw_dir, "PATH": f"{folder}/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    user = {"user": "labour", "group": "labour", "extra_groups": []}
    tap.true(tutorial.walk(TUTORIAL, folder, env, **user) > 40, "commands")
    tap.eq(sorted(os.listdir(folder)), ["bin", "index", "index.c", "said"], "what it leaves")
    shutil.rmtree(folder)


@tap.test
def declares():
    """systemctl reload makes what the configuration declares and resizes what differs; a file with a mistake is
    named in the service's log and by wkspd --check-config, and changes nothing"""
    def declare(name, text):
        os.makedirs("/etc/wkspd/workspaces.d", exist_ok=True)
        with open(f"/etc/wkspd/{name}.conf", "w", encoding="ascii") as f:
            f.write(text)

    def sizes():
        return {w["name"]: (w["size"], w["owner"]) for w in lab.ctl("ls")["workspaces"] if w["name"] == "declared"}

    text = "[workspace]\nsize = 2M\nmax_size = 8M\npage_size = 4k\nowner = labour\n"
    declare("workspaces.d/declared", text)
    pid = lab.serving()
    lab.ok("systemctl", "reload", "wkspd")
    tap.eq(sizes(), {"declared": (2 << 20, "labour")}, "declared workspaces")
    declare("workspaces.d/declared", text.replace("2M", "4M"))
    lab.ok("systemctl", "reload", "wkspd")
    tap.eq(sizes(), {"declared": (4 << 20, "labour")}, "declared workspaces")
    declare("wkspd", "[wkspd]\nlog_level = loud\n")
    checked = lab.run("wkspd", "--check-config", "--config", "/etc/wkspd/wkspd.conf")
    tap.eq(checked[0], 2, "exit status of --check-config")
    for part in ("/etc/wkspd/wkspd.conf", "2", "loud"):
        tap.contains(checked[1] + checked[2], part)
    tap.eq(lab.run("systemctl", "reload", "wkspd")[0], 1, "exit status of a reload with a mistake in the file")
    os.unlink("/etc/wkspd/wkspd.conf")
    os.unlink("/etc/wkspd/workspaces.d/declared.conf")
    tap.contains(lab.journal(), "loud", "the service's log")
    tap.eq((lab.serving(), sizes()), (pid, {"declared": (4 << 20, "labour")}), "its process and the workspace")
    lab.ok("wkspctl", "rm", "declared")


def pooled():
    """Pages of 2 MiB that node 0 keeps."""
    with open("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", encoding="ascii") as f:
        return int(f.read())


def sysfs(how):
    """Makes the pools' places in this container's sysfs read-only (ro) or not (rw)."""
    for place in ("/sys/kernel", "/sys/devices"):
        if how == "rw":
            # The file system of this network namespace, then this mount of it.
            lab.ok("mount", "-o", "remount,rw", place)
        lab.ok("mount", "-o", f"remount,bind,{how}", place)


def pools_conf(text):
    with open("/etc/wkspd/hugepages.conf", "w", encoding="ascii") as f:
        f.write(text)


@tap.test
def pools_at_boot():
    """wkspd-hugepages.service sets the pools that hugepages.conf names, if there is such a file and sysfs can be
    written; a mistake fails it with file, line and value in its log, and wkspd is not held up"""
    pid, unit = lab.serving(), "wkspd-hugepages.service"
    tap.eq(lab.ok("systemctl", "is-enabled", unit).strip(), "enabled", "at boot")
    tap.eq("wkspd.service" in lab.unit(unit)["Before"].split(), True, "whether it is before wkspd")
    lab.ok("systemctl", "start", unit)
    tap.eq((lab.unit(unit)["ConditionResult"], lab.unit(unit)["Result"]), ("no", "success"), "without a file")
    was = pooled()
    pools_conf(f"[node 0]\n2M = {was + 2}\n")
    sysfs("ro")
    lab.ok("systemctl", "start", unit)
    tap.eq((lab.unit(unit)["ConditionResult"], pooled()), ("no", was), "where sysfs cannot be written")
    try:
        sysfs("rw")
        lab.ok("systemctl", "start", unit)
        tap.eq((lab.unit(unit)["ActiveState"], pooled()), ("active", was + 2), "with a file")
        tap.contains(lab.journal(unit),
                     f"node 0 has {was + 2} of {was + 2} pages of 2 MiB, had {was}")
        pools_conf(f"[node 0]\n2M = {was}\n[node 9]\n2M = 1\n")
        tap.eq(lab.run("systemctl", "restart", unit)[0], 1, "exit status with a mistake in the file")
        tap.eq((lab.unit(unit)["ActiveState"], pooled()), ("failed", was + 2), "with a mistake in the file")
        tap.contains(lab.journal(unit),
                     "/etc/wkspd/hugepages.conf:4: 2M = 1: there is no node 9")
        pools_conf(f"[node 0]\n2M = {was}\n")
        lab.ok("systemctl", "restart", unit)
        tap.eq(pooled(), was, "pages at the end")
    finally:
        with open("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "w",
                  encoding="ascii") as f:
            f.write(str(was))
        os.unlink("/etc/wkspd/hugepages.conf")
        sysfs("ro")
    tap.eq(lab.serving(), pid, "wkspd's process")


USER_MANAGER = """[Service]
PAMName=
Environment=XDG_RUNTIME_DIR=/run/user/%i
"""


@tap.test
def of_a_user():
    """a user's own wkspd, by the user units: it serves its socket, and its memory outlives a restart and a kill"""
    # A manager without a login: the bed has no PAM module for it.
    lab.drop_in("user@.service", USER_MANAGER)
    uid = pwd.getpwnam("labour").pw_uid
    folder = f"/run/user/{uid}"
    lab.ok("systemctl", "start", f"user@{uid}.service")
    env = dict(os.environ, XDG_RUNTIME_DIR=folder, WKSPD_SOCKET=f"{folder}/wkspd/wkspd.sock", HOME="/home/labour")
    user = {"user": "labour", "group": "labour", "extra_groups": [], "env": env}
    lab.ok("systemctl", "--user", "start", "wkspd.socket", **user)
    lab.ok("wkspctl", "create", "mine", "--size", "2M", "--page", "4k", **user)
    before = lab.ctl("ls", **user)
    tap.eq([w["owner"] for w in before["workspaces"]], ["labour"], "owners")
    for what in (("restart", "wkspd"), ("kill", "-s", "KILL", "wkspd")):
        pid = lab.ctl("status", **user)["pid"]
        lab.ok("systemctl", "--user", *what, **user)
        tap.until(lambda was=pid: lab.ctl("status", **user)["pid"] != was, lab.READY_S, "another process serves")
        tap.eq(lab.ctl("ls", **user), before, f"workspaces after {what[0]}")
    lab.ok("wkspctl", "rm", "mine", **user)
    lab.ok("systemctl", "stop", f"user@{uid}.service")


def repacked(folder):
    """The packages with the version NEXT."""
    made = []
    for deb in lab.deb_files():
        tree = os.path.join(folder, os.path.basename(deb)[:-4])
        lab.ok("dpkg-deb", "-R", deb, tree)
        control = os.path.join(tree, "DEBIAN/control")
        with open(control, encoding="utf-8") as f:
            text = f.read()
        version = re.search(r"^Version: (.*)", text, re.M)[1]
        with open(control, "w", encoding="utf-8") as f:
            f.write(text.replace(f"Version: {version}", f"Version: {NEXT}").replace(f"(= {version})", f"(= {NEXT})"))
        lab.ok("dpkg-deb", "-b", tree, tree + ".deb")
        made.append(tree + ".deb")
    return made


@tap.test
def upgrades():
    """an upgrade restarts wkspd in one step: workspaces and clients are as they were, and the socket is the same
    one; a service that was stopped stays stopped"""
    lab.ok("mkdir", "-p", "/var/tmp/next")
    labour = lab.Labour("/var/tmp")
    try:
        lab.ok(os.path.join(lab.bin_dir(), "tests/lab/labour"), "setup", "w", user="labour", group="labour",
               extra_groups=["wkspd"])
        labour.start("work", "w", "BOARD", "PLACE", 1)
        labour.go_on([100])
        old, socket_was = lab.serving(), os.stat("/run/wkspd/wkspd.sock").st_ino
        before, next_debs = lab.ctl("ls"), repacked("/var/tmp/next")
        lab.apt("install", *next_debs)
        lab.serving(old)
        labour.go_on([100])
        tap.eq(lab.ctl("ls"), before, "workspaces and leases")
        tap.eq(os.stat("/run/wkspd/wkspd.sock").st_ino, socket_was, "the socket")
        labour.finish()
    finally:
        labour.kill()
    lab.ok("systemctl", "stop", "wkspd.socket", "wkspd.service")
    lab.apt("install", "--reinstall", *next_debs)
    tap.eq(lab.unit()["ActiveState"], "inactive", "a stopped service after a reinstallation")
    lab.ok("systemctl", "start", "wkspd.service")
    lab.serving()


def left():
    """Paths that have wksp in their names, but for those of this checkout and of others."""
    skip = [part for where in (*ELSEWHERE, lab.ROOT, lab.bin_dir(), "/var/tmp/next")
            for part in ("-path", where, "-prune", "-o")]
    return lab.ok("find", "/", *skip, "-name", "*wksp*", "-print").split()


@tap.test
def removes():
    """remove ends the service and takes away all but what it knows of its workspaces; purge takes that too, and
    the user: nothing is left, no file, no unit, no memory"""
    lab.ok("wkspctl", "create", "left", "--size", "2M", "--page", "4k")
    lab.apt("remove", *lab.PACKAGES)
    tap.eq(lab.run("pgrep", "-x", "wkspd")[1], "", "processes")
    tap.eq(lab.unit()["LoadState"], "not-found", "the service")
    tap.eq(lab.unit("wkspd.socket")["LoadState"], "not-found", "the socket")
    tap.eq(os.path.exists("/run/wkspd"), False, "whether /run/wkspd is there")
    tap.eq(lab.memories(), {}, "memory")
    tap.eq(os.path.exists("/var/lib/wkspd/specs"), True, "whether its state is there")
    lab.apt("purge", "wkspd")
    tap.eq([path for path in left() if "wkspd-lab" not in path], [], "paths")
    for file in ("passwd", "group", "shadow", "gshadow"):
        with open(f"/etc/{file}", encoding="ascii") as f:
            tap.eq([line for line in f if line.startswith("wkspd:")], [], f"/etc/{file}")
    tap.eq(lab.run("dpkg-query", "-W", *lab.PACKAGES)[1], "", "what dpkg knows of them")
    tap.eq(lab.ok("systemctl", "list-units", "--all", "--plain", "--no-legend", "wkspd.*"), "", "units")


tap.run()
