# SPDX-License-Identifier: MIT
"""Small repositories to run the lints on: a good one, and the changes that make each lint fail.

BAD maps a lint's name to its cases; a case maps paths to the text that is put there.
"""

SPDX = "/* SPDX-License-Identifier: MIT */\n"
MARK = "TO" "DO"

GOOD = {
    "include/allod/heap.h": SPDX + "#pragma once\nvoid *allod_malloc(unsigned long size);\n",
    "src/base/include/base/atomic.h": SPDX + "#pragma once\n#define a_load_acq(p) (*(p))\n",
    "src/base/base.c": SPDX + "int base_zero(void);\nint base_zero(void)\n{\n\treturn 0;\n}\n",
    "src/os/os.c": SPDX
        + "int base_zero(void);\nint os_zero(void);\nint os_zero(void)\n{\n\treturn base_zero();\n}\n",
    "src/page/page.c": SPDX + "int page_zero(void);\nint page_zero(void)\n{\n\treturn 0;\n}\n",
    "src/block/block.c": SPDX + "int block_zero(void);\nint block_zero(void)\n{\n\treturn 0;\n}\n",
    "src/percpu/percpu.c": SPDX + "int percpu_zero(void);\nint percpu_zero(void)\n{\n\treturn 0;\n}\n",
    "src/heap/heap.c": SPDX
        + "int heap_zero(int *p);\nint heap_zero(int *p)\n{\n"
        + "\t/* [heap.1] acq: sees the link; pairs with heap_one() */\n"
        + "\treturn a_load_acq(p);\n}\n\nint heap_one(int *p)\n{\n"
        + "\t*p = 0;\n\ta_store_rel(p, 1); /* [heap.1] rel: publishes the link */\n\treturn 0;\n}\n",
    "docs/design/memory-orders.md": "- [heap.1] heap_one() publishes the link to heap_zero()\n",
    "docs/man/allod_malloc.3.scd": "allod_malloc(3)\n\n# NAME\n\nallod_malloc - allocate memory\n",
    "docs/man/allod-malloc.7.scd": "allod-malloc(7)\n\n# SYMBOLS\n\n```\nmalloc\n```\n\n# SEE ALSO\n",
    "docs/man/meson.build": "files('allod_malloc.3.scd', 'allod-malloc.7.scd')\n",
    "meson.build": "project('x',\n  version: '1.2.3')\n",
    "include/allod/version.h": SPDX + "#pragma once\n#define ALLOD_VERSION_MAJOR 1\n"
        + "#define ALLOD_VERSION_MINOR 2\n#define ALLOD_VERSION_PATCH 3\n"
        + "#define ALLOD_VERSION_STRING \"1.2.3\"\ntypedef int version_part;\n",
    "CHANGELOG.md": "# Changes\n\n[Below](#123) is [the newest](CHANGELOG.md#123).\n\n## 1.2.3\n",
    "dev": "#!/bin/sh\n# SPDX-License-Identifier: MIT\necho help\n",
    "build/allod": "#!/bin/sh\n# SPDX-License-Identifier: MIT\necho help\n",
}

# Libraries compiled into build/ from C text, with their linker options.
GOOD_LIBRARIES = {
    "liballod.so": "void *allod_malloc(unsigned long n) { return (void *)n; }\n",
    "liballod-malloc.so": "void *malloc(unsigned long n) { return (void *)n; }\n",
}

LONG_FUNCTION = SPDX + "void f(int *p);\nvoid f(int *p)\n{\n" + "\t*p += 1;\n" * 79 + "}\n"


def heap_with(body):
    return {"src/heap/heap.c": SPDX + "int heap_zero(int *p)\n{\n" + body + "\treturn 0;\n}\n"}


BAD = {
    "atomics": [heap_with("\t__atomic_store_n(p, 1, 0);\n"),
                heap_with("\tatomic_load_explicit(p, memory_order_" "acquire);\n")],
    "format": [{"src/base/base.c": SPDX + "int  base_zero(void);\n"}],
    "headers": [{"include/allod/heap.h": SPDX + "#pragma once\nsize_t allod_malloc(size_t size);\n"},
                {"include/allod/heap.h": SPDX + "int allod_x = 1;\n"},
                {"src/base/base.c": "int base_zero(void);\n"},
                {"src/base/include/base/x.h": SPDX + "int base_zero(void);\n"}],
    "help": [{"build/allod": "#!/bin/sh\nexit 1\n"}, {"build/allod": "#!/bin/sh\necho " + "x" * 81}],
    "ifdefs": [{"src/base/base.c": SPDX + "int f(void)\n{\n#ifdef X\n\treturn 1;\n#endif\n}\n"}],
    "layering": [{"src/base/base.c": SPDX + "int os_zero(void);\nint base_zero(void)\n{\n"
                  "\treturn os_zero();\n}\n"},
                 {"src/heap/heap.c": SPDX + "int puts(const char *);\nint heap_zero(void)\n{\n"
                  "\treturn puts(\"\");\n}\n"},
                 {"src/block/block.c": SPDX + "int heap_zero(int *p);\nint block_zero(void)\n{\n"
                  "\treturn heap_zero(0);\n}\n"},
                 {"src/percpu/percpu.c": SPDX + "int page_zero(void);\nint percpu_zero(void)\n{\n"
                  "\treturn page_zero();\n}\n"}],
    "scripts": [{"dev": "#!/bin/sh\n# SPDX-License-Identifier: MIT\nif true; then\n"},
                {"dev": "#!/bin/sh\ntrue\n"},
                {"x.py": "# SPDX-License-Identifier: MIT\ndef f(:\n"}],
    "sizes": [{"src/base/base.c": SPDX + "int x;\n" * 700},
              {"src/base/base.c": LONG_FUNCTION}],
    "tags": [heap_with("\ta_store_rel(p, 1);\n"),
             heap_with("\ta_fence_seq(); /* [heap.1] seq: one side only */\n"),
             {"docs/design/memory-orders.md": "nothing\n"},
             {"docs/design/memory-orders.md": GOOD["docs/design/memory-orders.md"] + "[heap.2]\n"}],
    "links": [{"CHANGELOG.md": "## 1.2.3\n[gone](docs/gone.md)\n"},
              {"CHANGELOG.md": "## 1.2.3\n[here](#124)\n"}],
    "man": [{"docs/man/meson.build": "files('allod_malloc.3.scd')\n"},
            {"docs/man/allod_malloc.3.scd": "# NAME\n\nallod_malloc - no title\n"}],
    "version": [{"CHANGELOG.md": "## 1.2.2\n"}, {"meson.build": "  version: '1.2.4'\n"}],
    "words": [{"README.md": "It works. " + MARK + ": test it.\n"}],
    "exports": [{"include/allod/heap.h": SPDX + "void *allod_calloc(unsigned long size);\n"},
                {"docs/man/allod_malloc.3.scd": "# NAME\n\nallod_calloc - allocate\n"}],
    "overrides": [{"docs/man/allod-malloc.7.scd": "# SYMBOLS\n\n```\nmalloc free\n```\n"},
                  {"docs/man/allod-malloc.7.scd": "# SYMBOLS\n\n```\n```\n"}],
}

# The same for lints of the shared objects: a lint's name to the C text of liballod-malloc.so and
# the options it is linked with.
BAD_LIBRARIES = {
    "tls": [("__thread char big[520]; void *malloc(unsigned long n) { return big + n; }\n", [])],
    "needed": [("double pow(double, double);\n"
                "void *malloc(unsigned long n) { return (void *)(long)pow(n, n); }\n",
                ["-Wl,--no-as-needed", "-lm"]),
               (GOOD_LIBRARIES["liballod-malloc.so"], [])],
}
