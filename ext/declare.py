"""C declarations for the stack's own modules, read off their annotations.

Cython compiles what the interpreter runs; what makes it fast is knowing types, and the
annotations, which mypy checks, say them already. ``write`` turns them into one ``.pxd`` file a
module, under ``build/``, beside the source as ``rewrite`` words it for C: nobody keeps a second
list of attributes or arguments.

A class with ``__slots__`` becomes an extension type, its attributes C fields (``int`` 64 bits,
``float`` double, ``bool`` a flag, our own extension types by name, all else objects; ``X | None``
is an object unless X is a type of ours or a container). Functions and methods whose arguments C
can pass become ``cpdef``: callable from both sides. Not those with variable arguments, closures
or generators, which stay as they are.
"""

import ast
import os

from known import Declarations
from rewrite import FUNCTIONS, Rewriter, all_arguments, fits, in_place, unspelt
from sources import C_TYPES, Module, package, plain_annotation, slots_of

_NUMBERS = ("int", "float", "bool")
_UNLIKELY = {"long long": "-1", "double": "-1", "bint": "-1"}
"""What a C function returns that may have raised."""


_LOCAL = {"long long": "cython.longlong", "double": "cython.double", "bint": "cython.bint"}


class _Writer:
    """The declarations of one module."""

    def __init__(self, all_declared, module):
        self.all = all_declared
        self.module = module
        self.imported = set()

    def c_type(self, annotation):
        """Return the C type of an annotation."""
        node, optional = plain_annotation(annotation)
        if not isinstance(node, ast.Name):
            return "object"
        if node.id in C_TYPES and not (optional and node.id in _NUMBERS):
            return C_TYPES[node.id]
        return self._named(self.all.named(self.module, node))

    def _named(self, owner):
        if owner is None:
            return "object"
        where, name = owner
        if where == self.module.name:
            return name
        self.imported.add(owner)
        return self._alias(owner)

    def _alias(self, owner):
        """Return what another module's type is called here, where its name may mean another."""
        where, name = owner
        if self.all.owner(self.module, ast.Name(name)) == owner:
            return name
        return f"_of_{where.replace('.', '_')}_{name}"

    # ---- classes ---------------------------------------------------------------------------

    def class_lines(self, node):
        owner = (self.module.name, node.name)
        head = f"cdef class {node.name}"
        if node.bases:
            head += f"({self._named(self.all.owner(self.module, node.bases[0]))})"
        types = self.all.attributes(owner)
        names = slots_of(node)
        lines = []
        for name in types if names is None else names:
            if name == "__weakref__":
                lines.append("    cdef object __weakref__")
            elif names is not None or not self._inherited(owner, name):
                lines.append(f"    cdef public {self.c_type(types.get(name))} {name}")
        if names is None:
            lines.append("    cdef object __weakref__")
        for method in node.body:
            if isinstance(method, FUNCTIONS) and self.all.is_c_method(self.module, node, method):
                lines.extend(self.function_lines(method, of_class=True))
        return [head + ":", *(lines or ["    pass"])]

    def _inherited(self, owner, name):
        return any(
            name in self.all.attributes((module.name, node.name))
            for module, node in self.all.lineage(owner)[1:]
        )

    # ---- functions -------------------------------------------------------------------------

    def function_lines(self, node, of_class=False):
        indent = "    " if of_class else ""
        parts, given = [], set()
        for index, (argument, optional) in enumerate(all_arguments(node.args)):
            given.add(argument.arg)
            if of_class and index == 0:
                parts.append("self")
                continue
            default = "=*" if optional else ""
            parts.append(f"{self.c_type(argument.annotation)} {argument.arg}{default}")
        lines = []
        types = self.all.variables(self.module, node)
        named = {name: self._named(owner) for name, owner in types.items() if name not in given}
        named |= {
            name: _LOCAL[c_type] for name, c_type in self.all.numbers(self.module, node).items()
        }
        if named:
            listed = ", ".join(f"{name}={its}" for name, its in sorted(named.items()))
            lines.append(f"{indent}@cython.locals({listed})")
        returns = "object"
        if node.returns is not None and not isinstance(node.returns, ast.Constant):
            returns = self.c_type(node.returns)
        fails = f" except? {_UNLIKELY[returns]}" if returns in _UNLIKELY else ""
        lines.append(f"{indent}cpdef {returns} {node.name}({', '.join(parts)}){fails}")
        return lines

    # ---- all of it -------------------------------------------------------------------------

    def text(self, used):
        """Return the declarations, and what the module alone needs besides.

        ``used``: the makers and getters that its text calls, (module, function).
        """
        body = []
        for node in self.module.tree.body:
            if isinstance(node, ast.ClassDef) and node.name in self.module.classes:
                body.extend(["", *self.class_lines(node)])
        for node in self.module.tree.body:
            if isinstance(node, FUNCTIONS) and fits(node):
                body.extend(self.function_lines(node))
        head = ["cimport cython"]
        # First that they exist: modules name each other's types in circles.
        head.extend(f"cdef class {name}" for name in self.module.classes if not self._based(name))
        for module, name in sorted(self.imported):
            head.append(f"from {module} cimport {name} as {self._alias((module, name))}")
        return "\n".join(head + body) + "\n", "\n".join(self._function_imports(used)) + "\n"

    def _based(self, name):
        return bool(self.module.classes[name].bases)

    def _function_imports(self, used):
        """Functions of other modules are called as C ones, by name or through their module."""
        lines = []
        for name, (where, its) in sorted(self.module.imports.items()):
            inner = f"{where}.{its}"
            if self.all.in_place(self.module, name):
                lines.append(f"from layout cimport {its} as {in_place(name)}")
                continue
            if self.all.c_function(self.module, name) is not None:
                owner = where
            elif inner in self.all.modules and inner in self.module.runtime:
                owner = inner
            else:
                continue
            if self.all.may_name(self.module.name, owner):
                lines.append(f"from {where} cimport {its} as {name}")
        for name, (where, its) in sorted(self.module.imports.items()):
            owner = self.all.owner(self.module, ast.Name(name))
            if owner and self.all.in_circle(self.module, where) and owner not in self.imported:
                lines.append(f"from {where} cimport {its} as {name}")
        for where, name in sorted(used):
            if where != self.module.name:
                lines.append(f"from {where} cimport {name}")
        return lines


def write(sources, directory, plain, circle):
    """Write declarations and rewritten sources of ``sources`` (name -> path) below ``directory``.

    ``plain``: classes without ``__slots__`` ("package.module.Class") that are extension types too.
    ``circle``: the package in which modules may name each other's types in circles.
    Returns the source to compile and the folders to search for declarations for each module.
    """
    modules = {name: Module(name, path, plain) for name, path in sources.items()}
    others = {name: each for name, each in package("netstack").items() if name not in modules}
    declared = Declarations(modules, others, circle)
    common = os.path.join(directory, "common")
    found = {}
    for name in sorted(modules):
        rewriter = Rewriter(declared, modules[name])
        text = rewriter.text()
        types, functions = _Writer(declared, modules[name]).text(rewriter.imported)
        functions = _numbers(rewriter.unspelt) + functions
        # Variables are nobody else's business: who edits a function need not translate the rest.
        others = [line for line in types.split("\n") if "@cython.locals" not in line]
        _write_declarations(common, name, "\n".join(others))
        own = os.path.join(directory, "of", name)
        _write_declarations(own, name, types + functions)
        path = os.path.join(directory, "sources", *name.split(".")) + ".py"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _write(path, text)
        found[name] = path, [own, common]
    return found


def _numbers(numbers):
    lines = [f"    {unspelt(each)[1]}\n" for each in sorted(numbers)]
    return "".join(['cdef extern from "math.h":\n', *lines]) if lines else ""


def _write_declarations(directory, name, text):
    path = os.path.join(directory, *name.split(".")) + ".pxd"
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    while folder != directory:
        _write(os.path.join(folder, "__init__.pxd"), "")
        folder = os.path.dirname(folder)
    _write(path, text)


def _write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
