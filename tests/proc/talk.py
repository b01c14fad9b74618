"""talk: a client that has the daemon do everything that there is, whatever it is answered; for tests that make it hard.

    failed = talk.whole(d)      # what was refused or cut off
    talk.clean_up(d)
    talk.as_at_first(d, fresh, "after that")
"""

import os

import tap
import wire

WAIT_S = 60
NAMES = ["f", "g"]
REMOTE_CLOSED = 1


class Talk:
    """A client that has everything done that there is, whatever it is answered."""

    def __init__(self, path):
        self.path, self.wire, self.failed = path, None, []

    def close(self):
        if self.wire:
            for fd in self.wire.fds:
                os.close(fd)
            self.wire.close()
            self.wire = None

    def call(self, method, fields, service="Workspaces"):
        """The reply; None: the connection was closed, and the next call has another."""
        try:
            if not self.wire:
                self.wire = wire.Wire(self.path, WAIT_S)
            reply = self.wire.call(service, method, fields)
        except (wire.Broken, OSError) as why:
            self.close()
            self.failed.append(f"{method}: {why}")
            return None
        if reply.code:
            tap.true(reply.message, f"{method} is refused with a sentence: {reply}")
            self.failed.append(f"{method}: {reply.message}")
        return reply

    def follow(self, job):
        """Waits for the end of a job."""
        try:
            stream = self.wire.start("Checkpoints", "WatchJob", {1: job})
            while True:
                got = self.wire.frame()
                if got.stream == stream and (got.type == wire.RESPONSE or got.flags & REMOTE_CLOSED):
                    return
        except wire.Broken as why:
            self.close()
            self.failed.append(f"WatchJob: {why}")

    def all(self):
        name = NAMES[0]
        self.call("Version", {}, "Host")
        self.call("Create", {1: name, 2: 1 << 20, 3: 4096, 7: 4 << 20})
        for mode in (0, 1):
            reply = self.call("Open", {1: name, 2: mode})
            for fd in reply.fds if reply else []:
                os.close(fd)
        self.call("Query", {1: name})
        self.call("Resize", {1: name, 2: 3 << 20})
        self.call("Compact", {1: name})
        self.call("Resize", {1: name, 2: 1 << 20})
        for method in ("Get", "Placement"):
            self.call(method, {1: name})
        self.call("Plan", {1: "h", 2: 1 << 20})
        self.call("List", {})
        for method in ("Stats", "Clients", "Reload"):
            self.call(method, {}, "Host")
        self.call("SetSchedule", {1: name, 3: 3600 * 10**9}, "Checkpoints")
        reply = self.call("Checkpoint", {1: name}, "Checkpoints")
        if reply and reply.fields[1]:
            self.follow(reply.fields[1][0])
        self.call("ListJobs", {}, "Checkpoints")
        self.call("Restore", {1: name, 3: NAMES[1], 8: 1}, "Checkpoints")
        self.call("SetSchedule", {1: name, 2: 1}, "Checkpoints")
        self.call("Delete", {1: name, 2: 1})
        self.close()


def clean_up(d):
    """Takes away what is left of a talk."""
    with wire.Wire(d.socket, WAIT_S) as c:

        def checkpoints():
            listed = c.call("Checkpoints", "ListCheckpoints", {})
            return [wire.decode(raw)[1][0].decode() for raw in listed.fields[1]]

        def gone(name):
            return c.call("Workspaces", "Delete", {1: name, 2: 1}).code in (0, wire.NOT_FOUND)

        tap.until(lambda: not any(not wire.decode(raw)[10] for raw in c.call("Checkpoints", "ListJobs", {}).fields[1]),
                  WAIT_S, "jobs have ended")
        c.call("Checkpoints", "SetSchedule", {1: NAMES[0], 2: 1})
        for name in NAMES:
            tap.until(lambda n=name: gone(n), WAIT_S, f"{name} is removed")
        for ckpt in checkpoints():
            c.call("Checkpoints", "RemoveCheckpoint", {1: ckpt})
        tap.eq(checkpoints(), [], "checkpoints")


def as_at_first(d, fresh, what, before=None):
    """Waits until the daemon holds what it held at first; before: called ahead of each look."""
    seen = {}

    def same():
        if before:
            before()
        seen.update(wire.stats(d.socket))
        return seen == fresh

    try:
        tap.until(same, WAIT_S, "it holds what it held at first")
    except AssertionError as why:
        raise AssertionError(f"{what}: {why}: {seen}, at first {fresh}") from why


def whole(d):
    """What failed in a whole talk."""
    one = Talk(d.socket)
    try:
        one.all()
    finally:
        one.close()
    return one.failed
