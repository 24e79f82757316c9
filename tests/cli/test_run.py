#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of allod run. Usage: see cli_harness.py."""
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile

import cli_cases
import cli_harness
from cli_harness import Skip, same

NOBODY = 65534


# allod run: what the program gets

def test_run_becomes_the_program(cli):
    child = subprocess.Popen([cli.allod, "run", "--", "sh", "-c", "echo $$; exit 7"],
                             stdout=subprocess.PIPE, universal_newlines=True)
    out, _ = child.communicate(timeout=60)
    same((child.returncode, int(out)), (7, child.pid))


def test_run_passes_signals_on(cli):
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1):
        same(cli.run("run", "sh", "-c", "kill -%d $$" % number)[0], -number)


def test_run_leaves_arguments_alone(cli):
    arguments = ["--conf", "--", "", "a b", "--stats", "-h"]
    same(cli.run("run", "--", "printf", "<%s>", *arguments),
         (0, "".join("<%s>" % a for a in arguments), ""))
    same(cli.run("run", "printf", "%s", "--help"), (0, "--help", ""))


def test_run_sets_and_keeps_the_environment(cli):
    script = 'printf "%s\\n" "$LD_PRELOAD" "$ALLOD_CONF"'
    same(cli.run("run", "sh", "-c", script), (0, cli.library + "\n\n", ""))
    same(cli.run("run", "--conf", "decay_ms:1", "--conf=page:mmap", "sh", "-c", script,
                 env={"LD_PRELOAD": "libm.so.6", "ALLOD_CONF": "decay_ms:9"}),
         (0, cli.library + ":libm.so.6\ndecay_ms:9,decay_ms:1,page:mmap\n", ""))
    same(cli.run("run", "--conf", "decay_ms:1", "sh", "-c", script,
                 env={"ALLOD_CONF": "decay_ms:9 # a comment"}),
         (0, cli.library + "\ndecay_ms:9 # a comment\ndecay_ms:1\n", ""))


def test_run_preloads_the_library(cli):
    code, out, err = cli.run("run", "grep", "-c", "liballod-malloc", "/proc/self/maps")
    same((code, err), (0, ""))
    assert int(out) > 0, out


# allod run: where the library lies

def test_run_finds_the_library_of_a_moved_installation(cli):
    root = tempfile.mkdtemp(dir=cli.directory)
    libdir = os.path.join(root, cli.libdir)
    os.makedirs(libdir)
    os.makedirs(os.path.join(root, "bin"))
    moved = shutil.copy(cli.allod, os.path.join(root, "bin"))
    library = shutil.copy(cli.library, libdir)
    same(cli.run("run", "sh", "-c", "echo $LD_PRELOAD", allod=moved), (0, library + "\n", ""))
    os.unlink(library)
    code, out, err = cli.run("run", "true", allod=moved)
    same((code, out), (125, ""))
    assert re.fullmatch(r"allod run: liballod-malloc.so is neither beside this command nor in "
                        r"/.*\n", err), err


def test_run_refuses_a_directory_that_ld_preload_cannot_name(cli):
    for name in ("with blank", "with:colon"):
        directory = os.path.join(cli.directory, name)
        os.makedirs(directory, exist_ok=True)
        moved = shutil.copy(cli.allod, directory)
        library = shutil.copy(cli.library, directory)
        same(cli.run("run", "true", allod=moved), (
            125, "", "allod run: cannot preload '%s': blanks and colons separate names in "
            "LD_PRELOAD\n" % library))


# allod run: what it refuses

def test_run_not_found(cli):
    same(cli.run("run", "no-such-program"), (
        127, "", "allod run: cannot run 'no-such-program': there is no such program in PATH\n"))
    same(cli.run("run", "./no/such"), (
        127, "", "allod run: cannot run './no/such': No such file or directory\n"))
    same(cli.run("run", ""), (
        127, "", "allod run: cannot run '': No such file or directory\n"))


def test_run_not_executable(cli):
    plain = cli.make("plain", "echo hello\n", 0o644)
    same(cli.run("run", plain), (
        126, "", "allod run: cannot run '%s': Permission denied\n" % plain))
    same(cli.run("run", "/tmp"), (126, "", "allod run: cannot run '/tmp': Is a directory\n"))
    same(cli.run("run", "plain", env={"PATH": cli.directory + ":/usr/bin:/bin"}), (
        126, "", "allod run: cannot run 'plain': Permission denied\n"))


def test_run_refuses_what_cannot_be_preloaded_or_executed(cli):
    for name, contents, code, message in cli_cases.REFUSED:
        path = cli.make(name, contents)
        same(cli.run("run", path), (code, "", "allod run: cannot run '%s'%s\n" % (path, message)))


def test_run_follows_script_interpreters(cli):
    static = cli.make("static-interpreter", cli_cases.elf(loader=None))
    inner = cli.make("inner", "#! %s -x\n" % static)
    outer = cli.make("outer", "#!%s\n" % inner)
    same(cli.run("run", outer), (
        125, "", "allod run: cannot run '%s' on allod: it is statically linked: nothing can be "
        "preloaded into it\n" % outer))
    loop = os.path.join(cli.directory, "loop")
    cli.make("loop", "#!%s\n" % loop)
    same(cli.run("run", loop), (
        126, "", "allod run: cannot run '%s': Too many levels of symbolic links\n" % loop))


def test_run_runs_scripts(cli):
    script = cli.make("script", "#!/bin/sh\necho \"$1\"\nexit 3\n")
    same(cli.run("run", script, "one"), (3, "one\n", ""))
    bare = cli.make("bare", "echo \"$1\"\nexit 4\n")
    same(cli.run("run", bare, "two"), (4, "two\n", ""))


def privileged_copy(cli, name, owner, group, mode):
    """A copy of a program with a set-id bit, on a file system that heeds it."""
    if os.getuid() != 0:
        raise Skip("needs root to make set-user-id programs")
    if os.statvfs(cli.directory).f_flag & os.ST_NOSUID:
        raise Skip("the temporary directory is mounted nosuid")
    path = shutil.copy(shutil.which("true"), os.path.join(cli.directory, name))
    os.chown(path, owner, group)
    os.chmod(path, mode)
    return path


def refused_as(how, path):
    return (125, "", "allod run: cannot run '%s' on allod: it is %s: the loader ignores what is "
            "preloaded into such programs\n" % (path, how))


def test_run_refuses_set_id_programs(cli):
    path = privileged_copy(cli, "setuid", 1, 0, 0o4755)
    same(cli.run("run", path), refused_as("set-user-id", path))
    path = privileged_copy(cli, "setgid", 0, 1, 0o2755)
    same(cli.run("run", path), refused_as("set-group-id", path))


def test_run_accepts_set_id_programs_that_raise_nothing(cli):
    path = privileged_copy(cli, "own-setuid", 0, 0, 0o6755)
    same(cli.run("run", path), (0, "", ""))
    path = privileged_copy(cli, "setgid-no-exec", 0, 1, 0o2745)
    same(cli.run("run", path), (0, "", ""))


def test_run_refuses_file_capabilities(cli):
    path = privileged_copy(cli, "capable", 0, 0, 0o755)
    # struct vfs_cap_data, revision 2, effective: CAP_NET_RAW
    os.setxattr(path, "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))
    same(cli.run("run", path), (0, "", ""))
    same(cli.run("run", path, preexec_fn=lambda: os.setuid(NOBODY)),
         refused_as("privileged by file capabilities", path))


sys.exit(cli_harness.main(sys.modules[__name__]))
