#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of allod's help, version, info and completions. Usage: see cli_harness.py."""
import json
import os
import re
import shutil
import subprocess
import sys

import cli_harness
from cli_harness import ROOT, Skip, check_width, golden, same

VERBS = ("run", "info", "stat", "help", "version")


# Help, version and mistakes

def test_help_texts(cli):
    for args, name in ((("help",), "help.txt"),) + tuple(
            (("help", v), "help-%s.txt" % v) for v in VERBS):
        code, out, err = cli.run(*args)
        same((code, err), (0, ""))
        check_width(out)
        golden(name, out)


def test_help_has_several_spellings(cli):
    same(cli.run("--help"), cli.run("help"))
    same(cli.run("-h"), cli.run("help"))
    for verb in VERBS:
        same(cli.run(verb, "--help"), cli.run("help", verb))


def test_man_pages_name_every_command_and_option(cli):
    pages = {"help": "allod.1.scd", "version": "allod.1.scd"}
    with open(os.path.join(ROOT, "docs/man/allod.1.scd"), encoding="utf-8") as page:
        main_page = page.read()
    for verb in VERBS:
        assert "*%s*" % verb in main_page, "allod.1 does not name %s" % verb
        page = pages.get(verb, "allod-%s.1.scd" % verb)
        with open(os.path.join(ROOT, "docs/man", page), encoding="utf-8") as source:
            text = source.read()
        for option in re.findall(r"^  (--[a-z]+)", cli.run("help", verb)[1], re.MULTILINE):
            assert "*%s*" % option in text, "%s does not name %s" % (page, option)


def test_version(cli):
    code, out, err = cli.run("version")
    same((code, err), (0, ""))
    version = re.fullmatch(r"allod (\d+\.\d+\.\d+)\n", out).group(1)
    same(cli.run("--version"), (0, out, ""))
    same(json.loads(cli.run("version", "--json")[1]),
         {"schema": "allod.version/1", "version": version})


def test_mistakes_are_one_line_with_a_hint_and_exit_2(cli):
    for args, message in (
            ((), "allod: no command given (see 'allod help')"),
            (("rum",), "allod: unknown command 'rum' (did you mean 'run'?)"),
            (("frobnicate",), "allod: unknown command 'frobnicate' (see 'allod help')"),
            (("--frob",), "allod: unknown option '--frob' (see 'allod help')"),
            (("help", "xyzzy"), "allod: unknown command 'xyzzy' (see 'allod help')"),
            (("help", "run", "info"),
             "allod help: unexpected argument 'info' (see 'allod help help')"),
            (("info", "--jsn"), "allod info: unknown option '--jsn' (did you mean '--json'?)"),
            (("info", "-j"), "allod info: unknown option '-j' (see 'allod help info')"),
            (("info", "now"), "allod info: unexpected argument 'now' (see 'allod help info')"),
            (("version", "--json=1"),
             "allod version: option '--json' takes no value (see 'allod help version')"),
            (("run",), "allod run: no program given (see 'allod help run')"),
            (("run", "--"), "allod run: no program given (see 'allod help run')"),
            (("run", "--frob", "true"),
             "allod run: unknown option '--frob' (see 'allod help run')"),
            (("run", "--conf"), "allod run: option '--conf' needs a value: KEY:VALUE,... "
             "(see 'allod help run')"),
            (("run", "--stats=xml", "true"), "allod run: option '--stats': 'xml' is not one of "
             "text|json (see 'allod help run')"),
            (("run", "--conf", "frob:1", "true"),
             "allod run: --conf: unknown option 'frob' (see 'allod help run')"),
            (("run", "--conf", "decay_ms:soon", "true"), "allod run: --conf: option 'decay_ms': "
             "'soon' is not a number (see 'allod help run')")):
        same(cli.run(*args), (2, "", message + "\n"))


def test_output_that_cannot_be_written_is_an_error(cli):
    for args in (("help",), ("version",), ("info",), ("info", "--json"), ("help", "run")):
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run([cli.allod] + list(args), stdout=full, stderr=subprocess.PIPE,
                                  universal_newlines=True, check=False)
        same((done.returncode, done.stderr),
             (1, "allod: cannot write to standard output: No space left on device\n"))


# allod info

def test_info_json(cli):
    code, out, err = cli.run("info", "--json")
    same((code, err), (0, ""))
    document = json.loads(out)
    same(sorted(document), ["probes", "schema", "version"])
    same(document["schema"], "allod.info/1")
    assert len(document["probes"]) >= 10, document["probes"]
    for probe in document["probes"]:
        same(sorted(probe), ["available", "enables", "group", "lost", "name", "value"])
        assert probe["group"] in ("host", "limits", "features"), probe
        assert isinstance(probe["available"], bool) and probe["name"], probe
        assert probe["available"] or probe["lost"], "does not say what is lost: %r" % probe
        later = [text.startswith("later: ") for text in (probe["enables"], probe["lost"]) if text]
        assert len(set(later)) <= 1, "used, or to be used later? %r" % probe
    names = [p["name"] for p in document["probes"]]
    same(len(set(names)), len(names))


def test_info_text_shows_every_probe(cli):
    code, out, err = cli.run("info")
    same((code, err), (0, ""))
    check_width(out)
    probes = json.loads(cli.run("info", "--json")[1])["probes"]
    shown = re.findall(r"^  ([a-z0-9_-]+)", out, re.MULTILINE)
    same(shown, [p["name"] for p in probes])
    words = " ".join(out.split())
    for probe in probes:
        for text in (probe["enables"], probe["lost"]):
            assert " ".join(text.split()) in words, "not shown: %r" % text


# allod stat

def test_stat_mistakes(cli):
    for args in (("stat",), ("stat", "x"), ("stat", "0")):
        same(cli.run(*args), (2, "", "allod stat: one process number is wanted "
                                     "(see 'allod help stat')\n"))
    own = os.getpid()
    same(cli.run("stat", str(own)),
         (1, "", "allod stat: process %d has no per-CPU pools of this version of allod\n" % own))
    code, out, err = cli.run("stat", "--json", "999999999")
    same((code, out), (1, ""))
    assert err.startswith("allod stat: cannot read process 999999999: "), err


# Completions

def test_bash_completion(cli):
    made = os.path.join(os.environ["ALLOD_BUILD_ROOT"], "tools/allod/allod")
    driver = ("source %s; t() { COMP_LINE=$1; COMP_POINT=${#1}; COMPREPLY=(); _allod; "
              "echo \"${COMPREPLY[*]}\"; }; for l; do t \"$l\"; done" % made)
    lines = {
        "allod ": "run info stat help version --help --version",
        "allod r": "run",
        "allod help i": "info",
        "allod info --": "--json --help",
        "allod run --s": "--stats --stats=text --stats=json",
        "allod run --stats=": "text json",
        "allod run --conf ar": "arena_bytes:",
        "allod run --conf pa": "page: page_cache_bytes:",
        "allod run --conf page:": "arena mmap",
        "allod run --conf page:mmap,deca": "mmap,decay_ms:",
        "allod run --conf=stats:j": "json",
    }
    done = subprocess.run(["bash", "-c", driver, "bash"] + list(lines), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True, check=False)
    same(done.stdout.splitlines(), list(lines.values()))


def syntax_of_completion(shell, path):
    if not shutil.which(shell):
        raise Skip("%s is not installed" % shell)
    made = os.path.join(os.environ["ALLOD_BUILD_ROOT"], "tools/allod", path)
    done = subprocess.run([shell, "-n", made], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True, check=False)
    same((done.returncode, done.stdout), (0, ""))


def test_zsh_completion_is_well_formed(cli):
    syntax_of_completion("zsh", "_allod")


def test_fish_completion(cli):
    syntax_of_completion("fish", "allod.fish")
    made = os.path.join(os.environ["ALLOD_BUILD_ROOT"], "tools/allod/allod.fish")
    for line, words in (("allod run --conf ar", ["arena_bytes:"]), ("allod he", ["help"]),
                        ("allod run --conf page:mmap,page:a", ["page:mmap,page:arena"])):
        done = subprocess.run(["fish", "-c", "source %s; complete -C '%s'" % (made, line)],
                              stdout=subprocess.PIPE, universal_newlines=True, check=False,
                              env=dict(os.environ, HOME=cli.directory))
        same([w.split("\t")[0] for w in done.stdout.splitlines()], words)


sys.exit(cli_harness.main(sys.modules[__name__]))
