"""wire: the daemon's protocol spoken by hand, so that a test can break it at any byte.

    c = Wire(daemon.socket)
    reply = c.call("Workspaces", "Create", {1: "w", 2: 8 << 20})
    reply.code, reply.fields[1]

Messages are dicts from field number to an int, a str, bytes, a dict (a message) or a list of these.
Decoded messages map field numbers to lists of ints or bytes.

Refuses to: hide anything; what does not fit the protocol raises Broken.
"""

import array
import collections
import socket
import struct

REQUEST, RESPONSE, DATA = 1, 2, 3

INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS = 3, 4, 5, 6
RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNIMPLEMENTED, INTERNAL = 8, 9, 12, 13
UNAVAILABLE, DATA_LOSS = 14, 15

Frame = collections.namedtuple("Frame", "stream type flags data")
Reply = collections.namedtuple("Reply", "code message fields detail fds")


class Broken(Exception):
    """The peer closed the connection, or sent what is not a frame."""


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(message):
    out = b""
    for number, values in message.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, int):
                out += varint(number << 3) + varint(value)
                continue
            if isinstance(value, dict):
                value = encode(value)
            elif isinstance(value, str):
                value = value.encode()
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def decode(data):
    fields, at = collections.defaultdict(list), 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 0:
            fields[key >> 3].append(number())
        elif key & 7 == 2:
            length = number()
            fields[key >> 3].append(data[at:at + length])
            at += length
        else:
            raise Broken(f"wire type {key & 7}")
    return fields


def frame(stream, payload, kind=REQUEST, flags=0):
    """The bytes of a frame."""
    return struct.pack(">IIBB", len(payload), stream, kind, flags) + payload


def request(stream, service, method, message, timeout_ns=0, flags=0):
    """The bytes of a whole request."""
    envelope = {1: f"wkspd.v1.{service}", 2: method, 3: encode(message)}
    if timeout_ns:
        envelope[4] = timeout_ns
    return frame(stream, encode(envelope), flags=flags)


# What a worker does for a request that does not say how long it has must be done in five seconds, which a machine
# that is busy with other things may not have for it.
WORKER_NS = dict.fromkeys(("Query", "Compact", "Resize"), 60 * 10**9)


class Wire:
    """One connection."""

    def __init__(self, path, timeout_s=60):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout_s)
        self.sock.connect(path)
        self.stream = -1
        self.buffer = b""
        self.fds = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as why:
            raise Broken("the daemon closed the connection") from why

    def more(self):
        """Reads something; Broken at the end."""
        try:
            data, control, _, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(16 * 4))
        except ConnectionResetError as why:
            raise Broken("reset") from why
        for level, kind, raw in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(raw[:len(raw) - len(raw) % fds.itemsize])
                self.fds += fds
        if not data:
            raise Broken("the daemon closed the connection")
        self.buffer += data

    def frame(self):
        """The next frame."""
        while len(self.buffer) < 10:
            self.more()
        length, stream, kind, flags = struct.unpack(">IIBB", self.buffer[:10])
        while len(self.buffer) < 10 + length:
            self.more()
        data, self.buffer = self.buffer[10:10 + length], self.buffer[10 + length:]
        return Frame(stream, kind, flags, data)

    def closed(self):
        """Waits until the daemon has closed the connection; frames before that are returned."""
        frames = []
        try:
            while True:
                frames.append(self.frame())
        except Broken:
            return frames

    def start(self, service, method, message, timeout_ns=0, flags=0):
        """Sends a request; its stream."""
        self.stream += 2
        self.send(request(self.stream, service, method, message, timeout_ns, flags))
        return self.stream

    def reply(self, got):
        """What a Response frame says. Descriptors are the caller's."""
        if got.type != RESPONSE:
            raise Broken(f"a frame of type {got.type} instead of a response")
        response = decode(got.data)
        code, message, detail = 0, "", {}
        for status in response[1]:
            status = decode(status)
            code = (status[1] or [0])[0]
            message = b"".join(status[2]).decode()
            for any_ in status[3]:
                detail = decode(decode(any_)[2][0])
        fields = decode(b"".join(response[2]))
        fds = []
        # Those of an Open, which begins with a workspace: what else is received with them may have such fields, too.
        if not code and fields[6] and fields[2] and self.fds and isinstance((fields[1] or [0])[0], bytes):
            fds, self.fds = self.fds[:fields[6][0]], self.fds[fields[6][0]:]
        return Reply(code, message, fields, detail, fds)

    def call(self, service, method, message, timeout_ns=0):
        """A request and its reply."""
        stream = self.start(service, method, message, timeout_ns or WORKER_NS.get(method, 0))
        got = self.frame()
        if got.stream != stream:
            raise Broken(f"an answer on stream {got.stream} instead of {stream}")
        return self.reply(got)


STATS = {4: "workspaces", 5: "quarantined", 6: "leases", 7: "connections", 8: "jobs", 9: "bytes", 13: "fds",
         42: "damaged"}


def stats(path):
    """What the daemon holds, as seen by a connection of its own."""
    with Wire(path) as c:
        reply = c.call("Host", "Stats", {})
        return {name: (reply.fields[number] or [0])[0] for number, name in STATS.items()}


def violations(path):
    """Connections closed for breaking the protocol."""
    with Wire(path) as c:
        return (c.call("Host", "Stats", {}).fields[12] or [0])[0]
