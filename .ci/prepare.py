"""Make .venv ready: ``python .ci/prepare.py [--dev] DIR``.

Without ``--dev`` (`make fetch`) everything is optional: what is missing is named in one line and
the pure stack runs from the folder. With ``--dev`` (`make test`) it must succeed. This file keeps
to a syntax that old interpreters can read, since it is the one that names them.
"""

import glob
import os
import shutil
import subprocess
import sys
import sysconfig

NEEDED = (3, 11)


def say(text):
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def newer_python():
    for minor in range(20, NEEDED[1] - 1, -1):
        name = "python3.%d" % minor
        path = getattr(shutil, "which", lambda name: None)(name)
        if path and subprocess.call([path, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            return name
    return "python3.12"


def check_version():
    if sys.version_info < NEEDED:
        found = "%d.%d" % sys.version_info[:2]
        say("netstack needs Python 3.11 or newer, and %s is %s: make PYTHON=%s"
            % (os.path.basename(sys.executable), found, newer_python()))
        sys.exit(2)


def why_no_venv():
    try:
        import ensurepip  # Debian keeps it in python3-venv
        import venv
    except ImportError as error:
        return "no %s (Debian: python3-venv)" % error.name
    return "" if ensurepip and venv else "no venv"


def why_no_kernels():
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if not any(map(shutil.which, (compiler, "gcc", "cc"))):
        return "no C compiler (gcc)"
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        return "no Python.h (Debian: python3-dev)"
    return ""


def run(command, quiet, **environment):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=dict(os.environ, **environment))
    if done.returncode and not quiet:
        say(done.stdout.decode(errors="replace"))
    return done.returncode == 0


def install(directory, extra, quiet, **environment):
    python = os.path.join(directory, "bin", "python")
    if not os.path.exists(python):
        if not run([sys.executable, "-m", "venv", directory], quiet):
            shutil.rmtree(directory, ignore_errors=True)
            return "python -m venv failed"
    # A kernel that can't be built doesn't fail the installation (see setup.py).
    if not run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check",
                "--retries", "1", "--timeout", "10", "-e", ".[%s]" % extra], quiet,
               **environment):
        return "PyPI not reached"
    return ""


def for_development(directory):
    problem = why_no_venv()
    if not problem:
        say("installing into %s ..." % directory)
        problem = install(directory, "dev", quiet=False)
    if problem:
        say("make: %s can't be made: %s" % (directory, problem))
        sys.exit(1)


def for_fetch(directory):
    stamp = os.path.join(directory, ".fetch")
    if os.path.exists(os.path.join(directory, ".stamp")):
        return
    if os.path.exists(stamp):
        with open(stamp) as file:
            problem = file.read().strip()
    else:
        problem = why_no_venv()
        if not problem:
            say("making %s and building the kernels, once ..." % directory)
            # A page needs no compiled modules, which take a minute to build.
            pure = os.environ.get("NETSTACK_PURE", "stack")
            problem = install(directory, "cli", quiet=True, NETSTACK_PURE=pure)
            problem = why_no_kernels() or problem
            if os.path.isdir(directory):
                with open(stamp, "w") as file:
                    file.write(problem)
    built = glob.glob("netstack/_ext/*" + (sysconfig.get_config_var("EXT_SUFFIX") or ".so"))
    if problem and not built:
        say("running the pure stack from this folder: %s" % problem)


def main():
    check_version()
    arguments = sys.argv[1:]
    if "--dev" in arguments:
        arguments.remove("--dev")
        for_development(arguments[0])
    else:
        for_fetch(arguments[0])


main()
