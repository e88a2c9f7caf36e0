"""The compiled parts: kernels, and the stack's own modules of the path that a segment takes.

A kernel is ``ext/<name>.pyx`` and becomes ``netstack/_ext/<name>``; it has a readable twin. The
modules of ``COMPILED`` are compiled from the sources that lie in the package, with C types read
off their annotations (``ext/declare.py``), into ``netstack/_ext/compiled/``; which of the two
runs is decided in ``netstack/_ext/choose.py``.

All are optional: without Cython, a compiler or Python.h the package installs without them.
``NETSTACK_REQUIRE_EXT=1`` makes one that can't be built an error; ``NETSTACK_PURE=1`` builds none,
``NETSTACK_PURE=stack`` the kernels only.
"""

import glob
import os
import sys
from binascii import crc32

from setuptools import Extension, setup

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "ext"))

COMPILED = """
core.buffer core.context core.seqnum core.timers
wire.tcp
device.base device.burst device.bursts device.impair device.middleware device.offload device.pool
device.tap device.vnet
link.ethernet link.interface link.neighbour link.output link.raw_ip
internet.addresses internet.identification internet.internet internet.ipv4 internet.packet
internet.path internet.pathfinder
transport.events
transport.tcp.arrival transport.tcp.autotuning transport.tcp.bare transport.tcp.connection
transport.tcp.congestion.base transport.tcp.congestion.cubic transport.tcp.delivery_rate
transport.tcp.ecn transport.tcp.fast_open transport.tcp.limits transport.tcp.listener
transport.tcp.memory transport.tcp.output transport.tcp.protocol
transport.tcp.prr transport.tcp.rack transport.tcp.reassembly transport.tcp.receiver
transport.tcp.recovery transport.tcp.rtt transport.tcp.scoreboard transport.tcp.sender
transport.tcp.tail_probe transport.tcp.time_wait transport.tcp.timeouts
transport.tcp.transmission transport.tcp.urgent transport.tcp.user_timeout
stack
driver.repair driver.section driver.turns driver.waiter driver.watch
socket.base socket.stream
"""

# One of each a stack, so that they have no __slots__; extension types all the same.
SINGLE = (
    "netstack.device.base.Device",
    "netstack.device.impair.ImpairDevice",
    "netstack.device.middleware.Middleware",
    "netstack.device.tap.TapDevice",
    "netstack.driver.repair.Repairs",
    "netstack.driver.section.Sections",
    "netstack.driver.turns.Turns",
    "netstack.driver.watch.Watch",
    "netstack.internet.addresses.LocalAddresses",
    "netstack.internet.internet.Internet",
    "netstack.internet.ipv4.Ipv4",
    "netstack.internet.pathfinder.Pathfinder",
    "netstack.link.ethernet.EthernetInterface",
    "netstack.link.interface.Interface",
    "netstack.link.neighbour.NeighbourCache",
    "netstack.link.raw_ip.RawIpInterface",
    "netstack.link.output.OutputQueue",
    "netstack.stack.Stack",
    "netstack.transport.tcp.protocol.Tcp",
)

# In the first, modules name each other's types in circles: then the second is always loaded first.
CIRCLE, FIRST = "netstack.transport.tcp.", "netstack.transport.tcp.protocol"

DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,  # the types are in what ``declare`` writes
    "infer_types": True,
    "nonecheck": True,  # an error in Python is no crash in C
    "overflowcheck": True,
}


def asked(variable):
    return os.environ.get(variable, "") not in ("", "0")


def flags(*optimization):
    return [] if sys.platform == "win32" else [*optimization, "-fno-strict-aliasing"]


def kernels(cythonize):
    extensions = [
        Extension(
            "netstack._ext." + os.path.splitext(os.path.basename(source))[0],
            [source],
            include_dirs=["ext"],
            depends=glob.glob("ext/*.h"),
            extra_compile_args=flags("-O3"),
        )
        for source in sorted(glob.glob("ext/*.pyx"))
    ]
    return cythonize(
        extensions, include_path=["ext"], build_dir="build/cython", show_all_warnings=False
    )


def fingerprint(path):
    """As ``netstack._ext.choose.fingerprint``."""
    with open(path, "rb") as file:
        source = file.read()
    return len(source), crc32(source)


def folder_fingerprint(folder):
    """Return what tells the contents of one folder from those of another."""
    found = []
    for at, _, names in sorted(os.walk(folder)):
        found += [(at, name, fingerprint(os.path.join(at, name))) for name in sorted(names)]
    return found


def translated(cythonize, name, source, folders):
    """Return the extension of a module, translated to C unless that was done before."""
    result = "build/cython/" + source[:-3] + ".c"
    seen = [fingerprint(source), fingerprint("ext/layout.pxd"), *map(folder_fingerprint, folders)]
    asked_for = repr((DIRECTIVES, seen))
    stamp = result + ".from"
    options = {"extra_compile_args": flags("-O2", "-g0")}
    if os.path.exists(result) and os.path.exists(stamp):
        with open(stamp, encoding="utf-8") as file:
            if file.read() == asked_for:
                return Extension(name, [result], **options)
    (extension,) = cythonize(
        [Extension(name, [source], **options)],
        build_dir="build/cython",
        include_path=[*folders, "ext"],
        compiler_directives=DIRECTIVES,
        show_all_warnings=False,
        force=True,  # what depends on which declarations is not followed for .py files
        quiet=True,
    )
    with open(stamp, "w", encoding="utf-8") as file:
        file.write(asked_for)
    return extension


def modules(cythonize):
    import declare

    names = ["netstack." + name for name in COMPILED.split()]
    sources = {name: name.replace(".", "/") + ".py" for name in names}
    worded = declare.write(sources, "build/declared", SINGLE, CIRCLE)
    manifest = "build/declared/manifest.py"
    with open(manifest, "w", encoding="utf-8") as file:
        file.write(f"SOURCES = { {name: fingerprint(sources[name]) for name in names} }\n")
        file.write(f"CIRCLE, FIRST = {CIRCLE!r}, {FIRST!r}\n")
    worded["netstack._ext.compiled.manifest"] = manifest, []
    built = []
    for name, (source, folders) in worded.items():
        built.append(translated(cythonize, name, source, folders))
    for extension in built:
        if extension.name in names:
            extension.name = extension.name.replace("netstack.", "netstack._ext.compiled.", 1)
        # Building in place copies, and makes no folder for it.
        os.makedirs(os.path.dirname(extension.name.replace(".", "/")), exist_ok=True)
    return built


def extensions():
    pure = os.environ.get("NETSTACK_PURE", "")
    if pure not in ("", "0", "stack"):
        return []
    required = asked("NETSTACK_REQUIRE_EXT")
    try:
        from Cython.Build import cythonize
        from Cython.Compiler.Errors import CompileError
    except ImportError:
        if required:
            raise
        return []
    built = kernels(cythonize)
    if pure != "stack":
        try:
            built += modules(cythonize)
        except CompileError as error:  # a Cython that knows these sources less well
            if required:
                raise
            sys.stderr.write(f"netstack: its modules are not compiled: {error}\n")
    for extension in built:
        extension.optional = not required  # cythonize() drops the flag if it was set before
    return built


setup(ext_modules=extensions(), options={"build_ext": {"parallel": os.cpu_count() or 1}})
