"""The compiled kernels: every ``ext/<name>.pyx`` becomes ``netstack/_ext/<name>``.

They are optional: without Cython, a compiler or Python.h the package installs without them and
runs on their readable twins. ``NETSTACK_REQUIRE_EXT=1`` makes a kernel that can't be built an
error; ``NETSTACK_PURE=1`` builds none.
"""

import glob
import os
import sys

from setuptools import Extension, setup


def asked(variable):
    return os.environ.get(variable, "") not in ("", "0")


def kernels():
    if asked("NETSTACK_PURE"):
        return []
    required = asked("NETSTACK_REQUIRE_EXT")
    try:
        from Cython.Build import cythonize
    except ImportError:
        if required:
            raise
        return []
    flags = [] if sys.platform == "win32" else ["-O3", "-fno-strict-aliasing"]
    extensions = [
        Extension(
            "netstack._ext." + os.path.splitext(os.path.basename(source))[0],
            [source],
            include_dirs=["ext"],
            depends=glob.glob("ext/*.h"),
            extra_compile_args=flags,
        )
        for source in sorted(glob.glob("ext/*.pyx"))
    ]
    built = cythonize(
        extensions, include_path=["ext"], build_dir="build/cython", show_all_warnings=False
    )
    for extension in built:
        extension.optional = not required  # cythonize() drops the flag if it was set before
    return built


setup(ext_modules=kernels())
