#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of what allod prints for the options stats and help. Usage: see cli_harness.py."""
import json
import os
import re
import sys

import cli_harness
from cli_harness import ROOT, same


def test_stats_text(cli):
    code, out, err = cli.run("run", "--stats", "--", "perl", "-e", "print 1")
    same((code, out), (0, "1"))
    first, *rest = err.splitlines()
    assert re.fullmatch(r"allod [0-9.]+: statistics of process \d+ \(perl\)", first), first
    with open(os.path.join(ROOT, "docs/man/allod-run.1.scd"), encoding="utf-8") as page:
        text = page.read()
    for line in rest:
        name = re.fullmatch(r"  ([a-z,]+( [a-z,]+)*)  +\d.*", line).group(1)
        assert "*%s*" % name in text, "allod-run.1 does not explain %r" % name
    assert len(rest) >= 8, rest


def test_stats_json_also_when_the_program_closes_stderr(cli):
    code, out, err = cli.run("run", "--stats=json", "--", "perl", "-e",
                             "close(STDOUT); POSIX::close(2); @x = map { $_ x 500 } 1 .. 1000;",
                             env={"PERL5OPT": "-MPOSIX"})
    same((code, out), (0, ""))
    document = json.loads(err)
    same((document["schema"], document["program"], document["enabled"]),
         ("allod.stats/1", "perl", True))
    assert document["heap"]["used_bytes"] > 500000, document["heap"]
    blocks = sum(c["block_bytes"] * c["used_blocks"] for c in document["heap"]["classes"])
    same(blocks + document["heap"]["large_bytes"], document["heap"]["used_bytes"])


def test_the_helper_task_lives_from_the_start(cli):
    """With background:on it starts before the first allocation is done; it must bear that."""
    states = ("select(undef, undef, undef, 0.05); for (glob '/proc/[0-9]*/stat') {"
              " open(my $f, '<', $_) or next; <$f> =~ /\\) (\\S) (\\d+)/ or next;"
              " print $1 if $2 == $$ }")
    seen = set()
    for _ in range(16):
        code, out, _ = cli.run("run", "--conf", "background:on", "--", "perl", "-e", states)
        same(code, 0)
        seen.add(out)
    assert not any("Z" in out for out in seen), seen


def test_stats_when_libc_serves(cli):
    code, _, err = cli.run("run", "--stats=json", "--conf", "enabled:false", "perl", "-e", "1")
    same((code, json.loads(err)["enabled"]), (0, False))
    err = cli.run("run", "--stats", "--conf", "enabled:false", "perl", "-e", "1")[2]
    assert re.fullmatch(r"allod .* \(perl\): served by libc, enabled:false\n", err), err


def test_option_help(cli):
    code, _, err = cli.run("run", "--conf", "help:true,decay_ms:17", "true")
    same(code, 0)
    assert re.search(r"^  decay_ms:17 ", err, re.MULTILINE), err


sys.exit(cli_harness.main(sys.modules[__name__]))
