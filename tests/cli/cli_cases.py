# SPDX-License-Identifier: MIT
"""Programs that `allod run` must accept or refuse, made in a temporary directory: ELF files written
by hand (nothing has to be compiled, and other architectures cost nothing) and scripts."""
import os
import platform
import struct

OWN_MACHINE = {"x86_64": 62, "aarch64": 183}[platform.machine()]
OTHER_MACHINE = 243  # RISC-V
LOADER = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}[
    platform.machine()]

ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
PT_LOAD, PT_INTERP = 1, 3
EHDR_BYTES, PHDR_BYTES = 64, 56


def elf(machine=OWN_MACHINE, bits=64, kind=ET_DYN, loader=LOADER):
    """The headers of an ELF file; with a loader, a program that wants it."""
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1, 1]) + bytes(9)
    phnum = 2 if loader else 1
    header = struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, EHDR_BYTES, 0, 0, EHDR_BYTES,
                         PHDR_BYTES, phnum, 64, 0, 0)
    text_at = EHDR_BYTES + phnum * PHDR_BYTES
    text = (loader or "").encode() + b"\0"
    segments = struct.pack("<IIQQQQQQ", PT_LOAD, 5, 0, 0, 0, 4096, 4096, 4096)
    if loader:
        segments += struct.pack("<IIQQQQQQ", PT_INTERP, 4, text_at, 0, 0, len(text), len(text), 1)
    return ident + header + segments + text


def write(path, contents, mode=0o755):
    with open(path, "wb") as out:
        out.write(contents if isinstance(contents, bytes) else contents.encode())
    os.chmod(path, mode)
    return path


# name, contents, exit code, message after "allod run: cannot run 'NAME'"
REFUSED = (
    ("static", elf(kind=ET_EXEC, loader=None), 125,
     " on allod: it is statically linked: nothing can be preloaded into it"),
    ("static-pie", elf(loader=None), 125,
     " on allod: it is statically linked: nothing can be preloaded into it"),
    ("elf32", elf(bits=32), 125,
     " on allod: it is not a 64-bit program, so this library does not fit it"),
    ("foreign", elf(machine=OTHER_MACHINE), 125,
     " on allod: it is for another processor architecture than this library"),
    ("musl", elf(loader="/lib/ld-musl-x86_64.so.1"), 125,
     " on allod: it is linked against musl; liballod-malloc.so serves glibc programs"),
    ("no-loader", elf(loader="/nowhere/ld.so"), 126,
     ": its dynamic loader is missing: /nowhere/ld.so"),
    ("object", elf(kind=ET_REL, loader=None), 126, ": it is an object file or a core dump"),
    ("cut-off", elf()[:30], 126, ": its ELF header is cut off"),
    ("damaged", elf()[:EHDR_BYTES + 10], 126, ": its ELF program headers are damaged"),
    ("lost", "#!/nowhere/interpreter\n", 126,
     ": its interpreter '/nowhere/interpreter': No such file or directory"),
    ("nameless", "#!\n", 126, ": its first line names no interpreter"),
)
