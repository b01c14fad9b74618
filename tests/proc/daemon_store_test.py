"""What a daemon finds with its service manager at a start is checked before it is believed.

Every test has a daemon, manager, socket and state folder of its own.
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))

import tap
import wire
from daemon import Daemon
from manager import EXIT_S, Manager, create_stored, memfd, spec_state, wait_ready


def start(d, manager):
    """A process of the daemon that is ready."""
    proc = manager.start(d)
    wait_ready(proc)
    return proc


def begin():
    """A daemon, its manager and its first process."""
    d = Daemon()
    manager = Manager(d)
    return d, manager, start(d, manager)


def end(d, manager, proc):
    """Ends all three; the process must have nothing against that."""
    stop(proc)
    manager.close()
    d.cleanup()


def stop(proc):
    proc.terminate()
    tap.eq(proc.wait(EXIT_S), 0)
    proc.stderr.close()


def kill(proc):
    proc.kill()
    proc.wait()
    proc.stderr.close()


def listed(d):
    """Name to (quarantined, reason) of every workspace."""
    with wire.Wire(d.socket) as c:
        found = [wire.decode(raw) for raw in c.call("Workspaces", "List", {3: 1}).fields[1]]
    return {w[1][0].decode(): ((w[15] or [0])[0], b"".join(w[16]).decode()) for w in found}


def delete(d, manager, name, until="BARRIER=1"):
    """Removes it; the manager hears of it meanwhile."""
    with wire.Wire(d.socket) as c:
        stream = c.start("Workspaces", "Delete", {1: name})
        manager.until(until)
        got = c.frame()
        tap.eq((got.stream, c.reply(got).code), (stream, 0), f"removing {name}")


def unanswered(c):
    """The daemon that was killed had not answered on this connection."""
    try:
        tap.true(False, f"an answer before it was confirmed: {c.frame()}")
    except wire.Broken:
        pass


@tap.test
def kept_before_answered():
    """a create and an open are not answered before the manager has confirmed that it keeps the descriptor; a daemon
    that is killed there leaves nothing behind of either"""
    d, manager, proc = begin()
    create_stored(d, manager, "w")
    manager.confirm = False
    for method, message, name in (("Create", {1: "x", 2: 1 << 20, 3: 4096}, "w2"), ("Open", {1: "w"}, "l")):
        with wire.Wire(d.socket) as c:
            c.start("Workspaces", method, message)
            manager.until("FDSTORE=1")
            tap.eq(manager.names().count(name), 1, f"descriptors called {name}")
            manager.until("BARRIER=1")
            kill(proc)
            unanswered(c)
        manager.release()
        manager.confirm = True
        proc = start(d, manager)
        if method == "Create":
            manager.until("FDSTOREREMOVE=1")
            manager.until("BARRIER=1")
            tap.until(lambda: spec_state(d, 2) == "", EXIT_S, "the create is undone")
        tap.eq(listed(d), {"w": (0, "")}, f"what there is after a {method} that was cut off")
        tap.until(lambda: wire.stats(d.socket)["leases"] == 0, EXIT_S, "no lease is left")
        manager.confirm = False
    end(d, manager, proc)


@tap.test
def strangers():
    """memory that no workspace is known for is kept, listed with its reason and not served; it goes when it is removed,
    and alone, whatever name it has in the store"""
    d, manager, proc = begin()
    create_stored(d, manager, "a")
    create_stored(d, manager, "b")
    header = os.pread(manager.fd("w2"), 4096, 0)
    kill(proc)
    loose = memfd(False)
    manager.stored += [("w1", memfd(True, header)), ("stored", memfd(True)), ("w9", loose)]
    before = manager.names()

    proc = manager.start(d)
    lines = "".join(wait_ready(proc))
    tap.eq(lines.count("error quarantined "), 3, f"lines about quarantine in\n{lines}")
    found = listed(d)
    tap.eq([name for name, (bad, _) in sorted(found.items()) if not bad], ["a", "b"], f"served of {found}")
    reasons = sorted(reason for bad, reason in found.values() if bad)
    for reason, says in zip(reasons, ("second memory", "not one of ours", "spec is missing")):
        tap.contains(reason, says)
    tap.contains(reasons[0], f"'b' uuid {header[48:64].hex()}")
    tap.contains(reasons[2], "no header")
    tap.eq(manager.names(), before, "what is kept")
    with wire.Wire(d.socket) as c:
        for name, (bad, _) in found.items():
            stream = c.start("Workspaces", "Open", {1: name})
            if not bad:
                manager.until("BARRIER=1")
            got = c.frame()
            code = c.reply(got).code
            tap.eq((got.stream, code), (stream, wire.FAILED_PRECONDITION if bad else 0), f"opening {name}")

    # the second of a name goes alone: the first, which has data, is stored again in the same moment
    second = next(name for name, (_, reason) in found.items() if "second" in reason)
    delete(d, manager, second)
    tap.eq(sorted(name for name in manager.names() if name != "l"), ["stored", "w1", "w2", "w9"])
    delete(d, manager, next(name for name, (_, reason) in found.items() if "not one of ours" in reason))
    delete(d, manager, "quarantined-9")
    tap.eq(sorted(name for name in manager.names() if name != "l"), ["w1", "w2"])
    kill(proc)
    proc = start(d, manager)
    tap.eq(listed(d), {"a": (0, ""), "b": (0, "")}, "served after a restart")
    end(d, manager, proc)


@tap.test
def found_by_uuid():
    """memory whose name in the store was lost, or taken by other memory, is found by the uuid in its header"""
    d, manager, proc = begin()
    for name in ("a", "b"):
        create_stored(d, manager, name)
    kill(proc)
    first, second = manager.fd("w1"), manager.fd("w2")
    other = memfd(True)
    manager.stored = [("w1", other), ("stored", first), ("w2", second)]
    proc = manager.start(d)
    lines = "".join(wait_ready(proc))
    tap.contains(lines, "warn memory-matched workspace=a id=1 stored_as=")
    found = listed(d)
    tap.eq((found.pop("a"), found.pop("b")), ((0, ""), (0, "")), "what is served")
    ((name, (bad, reason)),) = found.items()
    tap.eq(bad, 1)
    tap.contains(reason, "whose name it has")

    delete(d, manager, "a")
    tap.eq(manager.names(), ["w1", "w2"], "what is kept: the memory that has its name is not its")
    delete(d, manager, name)
    tap.eq(manager.names(), ["w2"])
    end(d, manager, proc)


@tap.test
def other_than_recorded():
    """memory that is not what its spec says in any figure is quarantined under its name, which says in what"""
    for field, at, says in (("magic", 0, "header"), ("layout", 8, "layout"), ("geometry", 16, "geometry"),
                            ("uuid", 48, "uuid"), ("part_max", 104, "dimensions"), ("data_max", 112, "dimensions")):
        d, manager, proc = begin()
        create_stored(d, manager, "w")
        kill(proc)
        fd = manager.fd("w1")
        os.pwrite(fd, bytes([os.pread(fd, 1, at)[0] ^ 1]), at)
        proc = start(d, manager)
        bad, reason = listed(d)["w"]
        tap.eq(bad, 1, f"quarantined with another {field}")
        tap.contains(reason, says)
        tap.eq(manager.names(), ["w1"])
        end(d, manager, proc)


@tap.test
def create_of_another():
    """an unfinished create throws away its own memory only: what has its name in the store and another uuid is kept"""
    d, manager, proc = begin()
    create_stored(d, manager, "w")
    other = os.dup(manager.fd("w1"))
    manager.confirm = False
    with wire.Wire(d.socket) as c:
        c.start("Workspaces", "Create", {1: "x", 2: 1 << 20, 3: 4096})
        manager.until("BARRIER=1")
        tap.eq(spec_state(d, 2), "making")
        kill(proc)
    manager.release()
    manager.confirm = True
    manager.drop("w2")
    manager.stored.append(("w2", other))
    proc = start(d, manager)
    tap.until(lambda: spec_state(d, 2) == "", EXIT_S, "the create is undone")
    found = listed(d)
    tap.eq(found.pop("w"), (0, ""))
    ((_, (bad, reason)),) = found.items()
    tap.eq(bad, 1)
    tap.contains(reason, "never finished")
    tap.eq(manager.names(), ["w1", "w2"])
    end(d, manager, proc)


@tap.test
def removal_is_confirmed():
    """a removal is answered, and its spec goes, once the manager let the memory go; killed before, it is finished"""
    d, manager, proc = begin()
    for name in ("a", "b"):
        create_stored(d, manager, name)
    memory = os.dup(manager.fd("w2"))

    c = wire.Wire(d.socket)
    stream = c.start("Workspaces", "Delete", {1: "a"})
    manager.until("FDSTOREREMOVE=1")
    tap.eq(spec_state(d, 1), "removing", "what the disk says before the manager has confirmed")
    manager.until("BARRIER=1")
    got = c.frame()
    tap.eq((got.stream, c.reply(got).code, spec_state(d, 1)), (stream, 0, ""), "after it has")

    manager.confirm = False
    stream = c.start("Workspaces", "Delete", {1: "b"})
    manager.until("BARRIER=1")
    kill(proc)
    unanswered(c)
    c.close()
    tap.eq(spec_state(d, 2), "removing", "what the disk says")

    # the kill came first: the manager never saw the message
    manager.release()
    manager.confirm = True
    manager.stored = [("w2", memory)]
    proc = manager.start(d)
    lines = "".join(wait_ready(proc))
    tap.contains(lines, "info removal-resumed workspace=b id=2 memory=1")
    manager.until("FDSTOREREMOVE=1")
    manager.until("BARRIER=1")
    tap.until(lambda: spec_state(d, 2) == "", EXIT_S, "the spec is gone")
    tap.eq(manager.stored, [], "memory that is kept")
    held = wire.stats(d.socket)
    tap.eq((held["workspaces"], held["quarantined"], held["bytes"]), (0, 0, 0))
    proc.terminate()
    tap.eq(proc.wait(EXIT_S), 0)
    proc.stderr.close()
    manager.close()
    d.cleanup()


@tap.test
def removal_is_not_confirmed():
    """a manager that never confirms holds up a removal for 10 s and no longer; a restart finishes it quietly"""
    d, manager, proc = begin()
    create_stored(d, manager, "w")
    manager.confirm = False
    with wire.Wire(d.socket) as c:
        began = time.monotonic()
        stream = c.start("Workspaces", "Delete", {1: "w"})
        manager.until("BARRIER=1")
        got = c.frame()
        tap.eq((got.stream, c.reply(got).code), (stream, 0), "removed: it is written down")
        tap.true(time.monotonic() - began > 9, f"answered after {time.monotonic() - began:.1f} s")
        tap.eq(c.call("Workspaces", "Get", {1: "w"}).code, wire.NOT_FOUND)
    tap.eq(spec_state(d, 1), "removing", "what is left, so that a restart goes on")
    proc.kill()
    proc.wait()
    tap.contains(proc.stderr.read(), "the service manager did not confirm that it let the memory go")
    proc.stderr.close()

    manager.release()
    manager.confirm = True
    proc = manager.start(d)
    lines = "".join(wait_ready(proc))
    tap.contains(lines, "info removal-resumed workspace=w id=1 memory=0")
    tap.true(" error " not in lines, f"errors about a removal that only had to be finished:\n{lines}")
    tap.until(lambda: spec_state(d, 1) == "", EXIT_S, "the spec is gone")
    tap.eq(os.listdir(os.path.join(d.state_dir, "specs")), [], "what is left on disk")
    proc.terminate()
    tap.eq(proc.wait(EXIT_S), 0)
    proc.stderr.close()
    manager.close()
    d.cleanup()


tap.run()
