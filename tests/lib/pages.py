"""pages: where the pages of a workspace lie, by the kernel's own word and without a word of wkspd's.

    with pages.Mapped(inode, size, page_size) as m:
        m.nodes()      # [node of each page], by move_pages
        m.numa_maps()  # {node: pages}, by /proc/self/numa_maps

The memory is found among the descriptors of the processes of this machine, so this wants root.

Refuses to: read or write what the pages hold; they are asked about, after a fault for reading.
"""

import ctypes
import mmap
import os
import re

MOVE_PAGES = 279  # x86-64
LIBC = ctypes.CDLL(None, use_errno=True)


def memfd(name):
    """The path of the memory of the workspace of that name, in somebody's descriptors."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            fds = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for fd in fds:
            path = f"/proc/{pid}/fd/{fd}"
            try:
                if os.readlink(path) == f"/memfd:wksp:{name} (deleted)":
                    return path
            except OSError:
                continue
    raise AssertionError(f"no process has the memory of {name}")


class Mapped:
    """size bytes of a workspace's memory, mapped for reading."""

    def __init__(self, name, size, page_size):
        self.size, self.page_size = size, page_size
        fd = os.open(memfd(name), os.O_RDWR)
        self.map = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        os.close(fd)
        self.at = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.map.madvise(22)  # MADV_POPULATE_READ: Python 3.11 has no name for it

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass  # the buffer that gave the address keeps the mapping until this object goes

    def nodes(self):
        """The node of each page, negative: an errno."""
        cnt = self.size // self.page_size
        where = (ctypes.c_void_p * cnt)(*(self.at + i * self.page_size for i in range(cnt)))
        status = (ctypes.c_int * cnt)()
        if LIBC.syscall(MOVE_PAGES, 0, ctypes.c_ulong(cnt), where, None, status, 0):
            raise OSError(ctypes.get_errno(), "move_pages")
        return list(status)

    def numa_maps(self):
        """{node: pages} of the mapping; of its own pages' size."""
        with open("/proc/self/numa_maps", encoding="ascii") as f:
            for line in f:
                if int(line.split()[0], 16) == self.at:
                    return {int(n): int(c) for n, c in re.findall(r" N(\d+)=(\d+)", line)}
        raise AssertionError("the mapping is not in numa_maps")
