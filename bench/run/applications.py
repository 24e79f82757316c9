# SPDX-License-Identifier: MIT
"""Whole programs on allod's malloc and on glibc's, unmodified: what the pages below malloc bring
them. How the rounds compare is for figures.improvement() to say."""
import hashlib
import os
import re
import shutil
import subprocess
import tempfile

import real
from launch import Failed
from real import PROGRAMS, programs
from subjects import AGAIN

SUITE = "app"


class Document(programs.Case):
    """A document, from its text to PDF."""
    name = "document-to-PDF"
    commands = ("groff", "gs")

    def prepare(self):
        with open(self.file("document"), "wb") as out:
            subprocess.run([programs.python3(), os.path.join(PROGRAMS, "make_document.py")],
                           stdout=out, check=True, env=programs.clean_environment(self.directory))

    def run(self, subject):
        result = self.file("document.pdf." + subject.name)
        convert = ("export SOURCE_DATE_EPOCH=1; cd %s && groff -Tps document >document.ps && gs -q "
                   "-dNOPAUSE -dBATCH -sDEVICE=pdfwrite -sOutputFile=%s document.ps"
                   % (self.directory, result))
        return self.finish(subject, self.start(subject, ["sh", "-c", convert]), result)

    def finish(self, subject, job, result=None):
        """Each PDF gets a number of its own, which is no difference."""
        sample, digests = super().finish(subject, job)
        with open(result, "rb") as pdf:
            text = re.sub(rb"/ID\s*\[.*?\]\n", b"", pdf.read(), flags=re.DOTALL)
        digests["document.pdf"] = hashlib.sha256(text).hexdigest()
        return sample, digests


class Script(programs.Case):
    commands = ("python3",)
    arguments = ()

    def run(self, subject):
        script, *more = self.arguments
        job = self.start(subject, [programs.python3(), os.path.join(PROGRAMS, script), *more])
        return self.finish(subject, job)


class Trees(Script):
    name = "python-binary-trees"
    arguments = ("binary_trees.py", "16")


class Nucleotides(Script):
    name = "python-k-nucleotide"
    arguments = ("k_nucleotide.py", "800000")


CASES = (real.Compiler, Document, Trees, Nucleotides)
KEYS = [(SUITE, kind.name) for kind in CASES]


def measure(benchmark, subjects, rounds):
    """All programs in rounds, then the system calls of each, once."""
    for kind in CASES:
        key = SUITE, kind.name
        if not benchmark.wanted(key):
            continue
        with tempfile.TemporaryDirectory(prefix="allod-bench-") as directory:
            program = real.Program(kind, directory, benchmark.runner, SUITE)
            try:
                program.prepare()
            except Failed as failure:
                benchmark.figures.failures[key, "all"] = str(failure)
                continue
            benchmark.run_rounds(key, program.run, subjects, rounds)
            for subject in subjects:
                if subject.name != AGAIN and shutil.which("strace"):
                    benchmark.attempt(key, subject, 1, lambda s=subject: {
                        "syscalls": program.system_calls(s)})
    benchmark.save()
