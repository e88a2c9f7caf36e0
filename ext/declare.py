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

from rewrite import (
    FUNCTIONS,
    Rewriter,
    all_arguments,
    constants,
    enums,
    extended,
    fits,
    getter,
    in_place,
    is_property,
    maker,
)

_C_TYPES = {"int": "long long", "float": "double", "bool": "bint", "list": "list", "dict": "dict"}
LAYOUT = "netstack.wire.layout"
_NUMBERS = ("int", "float", "bool")
_UNLIKELY = {"long long": "-1", "double": "-1", "bint": "-1"}
"""What a C function returns that may have raised."""
_SEQUENCES = ("list", "Sequence", "Iterable", "Iterator", "deque")


class Module:
    """One source file: its classes, its functions, and what it imports from where."""

    def __init__(self, name, path, plain=()):
        self.name = name
        with open(path, encoding="utf-8") as file:
            self.text = file.read()
        self._plain = plain
        self._read()

    def _read(self):
        self.tree = ast.parse(self.text)
        self.imports = {}  # name -> module, type checkers' included
        self.runtime = set()  # modules that running it imports
        for node in self.tree.body:
            guarded = isinstance(node, ast.If)
            for each in node.body if guarded else [node]:
                self._note_import(each, guarded)
        self.constants = constants(self.tree)
        self.enums = enums(self.tree)
        self.functions = {
            node.name: node for node in self.tree.body if isinstance(node, FUNCTIONS)
        }
        self.all_classes = [node for node in self.tree.body if isinstance(node, ast.ClassDef)]
        self.classes = {}
        for node in self.all_classes:
            if self._has_slots(node) or f"{self.name}.{node.name}" in self._plain:
                self.classes[node.name] = node

    def _note_import(self, node, guarded):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                self.imports[alias.asname or alias.name] = (node.module, alias.name)
                if not guarded:
                    self.runtime.update((node.module, f"{node.module}.{alias.name}"))

    @staticmethod
    def _has_slots(node):
        """Say whether an extension type can stand for the class: slots, nothing that adds code."""
        if node.decorator_list:
            return False
        return slots_of(node) is not None

    def extend(self):
        """Append what can be called directly for its properties and constructors."""
        kept = set(self.classes)
        self.text = extended(self.text, list(self.classes.values()))
        self._read()
        self.classes = {name: node for name, node in self.classes.items() if name in kept}


def slots_of(node):
    """Return the ``__slots__`` of a class, None if it has none."""
    for each in node.body:
        if (
            isinstance(each, ast.Assign)
            and isinstance(each.targets[0], ast.Name)
            and each.targets[0].id == "__slots__"
        ):
            return list(ast.literal_eval(each.value))
    return None


def _plain_annotation(node):
    """Return an annotation without ``| None``, quotes and what stands in brackets."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode="eval").body
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        if not (isinstance(node.right, ast.Constant) and node.right.value is None):
            return None, False
        inner, _ = _plain_annotation(node.left)
        return inner, True
    if isinstance(node, ast.Subscript):
        node = node.value
    return node, False


def _is_name(node):
    return isinstance(node, ast.Name)


class Declarations:
    """What all modules declare, and in which of them which type may be named."""

    def __init__(self, modules, others, seams, circle):
        self.modules = modules
        self.others = others  # the package's sources that are not compiled
        self.seams = seams
        self.circle = circle
        self.runtime = {name: each.runtime for name, each in {**others, **modules}.items()}
        known = set(self.runtime)
        self.runtime = {name: imported & known for name, imported in self.runtime.items()}
        self._leave_out_foreign_bases()
        for module in modules.values():
            module.extend()
        self._attributes = {}
        self._children = self._find_children()
        self._unfit = {
            (self._root(module, node), each.name)
            for module, node in self._classes()
            for each in node.body
            if isinstance(each, FUNCTIONS) and not fits(each)
        }
        self._methods = {
            each.name
            for module, node in self._classes()
            for each in node.body
            if isinstance(each, FUNCTIONS) and self.is_c_method(module, node, each)
        }

    def _classes(self):
        return [(module, node) for module in self.modules.values()
                for node in module.classes.values()]  # fmt: skip

    def _leave_out_foreign_bases(self):
        """A class whose base is no extension type of ours stays an ordinary one."""
        changed = True
        while changed:
            changed = False
            for module in self.modules.values():
                for node in list(module.classes.values()):
                    if any(self.owner(module, base) is None for base in node.bases):
                        del module.classes[node.name]
                        changed = True

    def _find_children(self):
        """Return (module, class) -> all classes of the package that are derived from it."""
        found = {}
        for module in (*self.modules.values(), *self.others.values()):
            for node in module.all_classes:
                for base in node.bases:
                    name = base.value if isinstance(base, ast.Subscript) else base
                    owner = self.owner(module, name)
                    while owner is not None:
                        found.setdefault(owner, []).append(node)
                        its_module = self.modules[owner[0]]
                        bases = its_module.classes[owner[1]].bases
                        owner = self.owner(its_module, bases[0]) if bases else None
        return found

    def _root(self, module, node):
        while node.bases:
            where, name = self.owner(module, node.bases[0])
            module = self.modules[where]
            node = module.classes[name]
        return module.name, node.name

    def children(self, owner):
        """Return the classes derived from ``owner``, (module, class)."""
        return self._children.get(owner, [])

    def owner(self, module, node):
        """Return (module, class) of an extension type that ``node`` names in ``module``."""
        if not isinstance(node, ast.Name):
            return None
        if node.id in module.classes:
            return module.name, node.id
        where, name = module.imports.get(node.id, (None, None))
        if where in self.modules and name in self.modules[where].classes:
            return where, name
        return None

    def lineage(self, owner):
        """Return ``owner`` and its bases as pairs of module and syntax tree."""
        found = []
        while owner is not None:
            module = self.modules[owner[0]]
            node = module.classes[owner[1]]
            found.append((module, node))
            owner = self.owner(module, node.bases[0]) if node.bases else None
        return found

    # ---- functions and methods --------------------------------------------------------------

    def is_c_method(self, module, node, method):
        """Say whether a method is C's too: no relative's of that name may be unfit."""
        return (
            not method.name.startswith("__")
            and fits(method)
            and (self._root(module, node), method.name) not in self._unfit
        )

    def is_method(self, owner, name):
        """Say whether a type, if ``owner`` is known any at all, has a C method of that name."""
        if owner is not None:
            return self._method(owner, name) is not None
        return name in self._methods

    def c_function(self, module, name, attribute=None):
        """Return (module, function) of the C function that a name means, or None.

        ``attribute``: the name is that of a module, the function in it.
        """
        if attribute is not None:
            where, its = ".".join(module.imports.get(name, ("", ""))), attribute
        elif name in module.functions:
            where, its = module.name, name
        else:
            where, its = module.imports.get(name, (None, None))
        owner = self.modules.get(where)
        if owner is None or its not in owner.functions or not fits(owner.functions[its]):
            return None
        return where, its

    def signature(self, module, function, type_of):
        """Return the arguments of a C function, method or constructor, None if not known.

        ``type_of`` returns the extension type of an expression.
        """
        found = None
        if isinstance(function, ast.Name):
            owner = self.owner(module, function)
            if owner is not None:
                found = self._method(owner, "__init__")
            elif self.c_function(module, function.id) is not None:
                where, name = self.c_function(module, function.id)
                return self.modules[where].functions[name].args
        elif isinstance(function, ast.Attribute):
            base = function.value
            inner = self.c_function(module, base.id, function.attr) if _is_name(base) else None
            if inner is not None:
                return self.modules[inner[0]].functions[inner[1]].args
            owner = type_of(base)
            found = self._method(owner, function.attr) if owner is not None else None
        if found is None or not fits(found):
            return None
        arguments = ast.arguments(**{**dict(ast.iter_fields(found.args))})
        arguments.args = arguments.args[1:]
        return arguments

    def _method(self, owner, name):
        for _, node in self.lineage(owner):
            for method in node.body:
                if isinstance(method, FUNCTIONS) and method.name == name:
                    return None if is_property(method) else method
        return None

    def is_c_function(self, module, name, attribute=None):
        """Say whether a name is that of a C function."""
        return self.c_function(module, name, attribute) is not None

    def is_module(self, module, name):
        """Say whether a name was imported as a module of the package."""
        return ".".join(module.imports.get(name, ("", ""))) in self.runtime

    def maker(self, module, name):
        """Return (module, function) that makes the extension type ``name``, or None."""
        owner = self.owner(module, ast.Name(name))
        return self._offered(module, owner, maker(name)) if owner is not None else None

    def getter(self, module, owner, name):
        """Return (module, function) that reads a property of type ``owner``, or None."""
        if owner is None:
            return None
        for its_module, node in self.lineage(owner):
            for method in node.body:
                if isinstance(method, FUNCTIONS) and method.name == name:
                    overridden = any(
                        isinstance(each, FUNCTIONS) and each.name == name
                        for child in self.children((its_module.name, node.name))
                        for each in child.body
                    )
                    if not is_property(method) or overridden:
                        return None
                    where = (its_module.name, node.name)
                    return self._offered(module, where, getter(node.name, name))
        return None

    def _offered(self, module, owner, function):
        if function not in self.modules[owner[0]].functions:
            return None
        return (owner[0], function) if self.may_name(module.name, owner[0]) else None

    @staticmethod
    def in_place(module, name):
        """Say whether C has the function ``name`` in ``ext/layout.pxd``, to be done in place."""
        return module.imports.get(name, ("", ""))[0] == LAYOUT

    def in_circle(self, module, other):
        """Say whether both are compiled modules of the circle."""
        circle = module.name.startswith(self.circle) and (other or "").startswith(self.circle)
        return circle and other in self.modules

    def links(self, module, name):
        """Say whether C finds what ``name`` was imported as: a function, an extension type."""
        if self.owner(module, ast.Name(name)) is not None:
            return True
        found = self.c_function(module, name)
        return found is not None and self.may_name(module.name, found[0])

    # ---- names ------------------------------------------------------------------------------

    def _origin(self, module, name):
        """Return the module, compiled or not, and the name there that ``name`` was first."""
        while True:
            where, its = module.imports.get(name, (None, None))
            other = self.modules.get(where) or self.others.get(where)
            if other is None:
                return module, name
            module, name = other, its

    def constant(self, module, name):
        """Return the number that a name always means, or None."""
        origin, its = self._origin(module, name)
        return origin.constants.get(its)

    def is_member(self, module, name, member):
        """Say whether ``name.member`` is that of an enumeration, known when ``module`` runs."""
        where, its = module.imports.get(name, (module.name, name))
        if where != module.name and f"{where}.{its}" not in module.runtime:
            return False
        origin, its = self._origin(module, name)
        return member in origin.enums.get(its, ())

    def may_name(self, module, owner):
        """Say whether ``module`` may use C names of ``owner``, which it then loads before it runs.

        Not if ``owner`` imports it in turn: its first lines would find it empty. Within
        ``circle`` they may, where one module is always the first to be loaded.
        """
        if owner == module or (module.startswith(self.circle) and owner.startswith(self.circle)):
            return True
        seen, waiting = set(), [owner]
        while waiting:
            each = waiting.pop()
            if each == module:
                return False
            if each not in seen:
                seen.add(each)
                waiting.extend(self.runtime.get(each, ()))
        return True

    # ---- types ------------------------------------------------------------------------------

    def named(self, module, annotation):
        """Return (module, class) of the extension type that an annotation names, or None."""
        node, _ = _plain_annotation(annotation)
        return self._usable(module, self.owner(module, node)) if node is not None else None

    def _usable(self, module, owner):
        if owner is None or ".".join(owner) in self.seams:
            return None
        return owner if self.may_name(module.name, owner[0]) else None

    def attributes(self, owner):
        """Return what each attribute of a class itself is annotated with, or looks like."""
        if owner not in self._attributes:
            node = self.modules[owner[0]].classes[owner[1]]
            self._attributes[owner] = _attributes_of(node)
        return self._attributes[owner]

    def element(self, module, annotation):
        """Return the extension type that a sequence holds, or None."""
        if isinstance(annotation, ast.BinOp):
            annotation = annotation.left
        if (
            isinstance(annotation, ast.Subscript)
            and isinstance(annotation.value, ast.Name)
            and annotation.value.id in _SEQUENCES
        ):
            return self.named(module, annotation.slice)
        return None

    def variables(self, module, function):
        """Return the extension types of a function's variables: name -> (module, class)."""
        return Variables(self, module, function).types

    def annotation(self, module, node, annotations, types):
        """Return the annotation of a variable or attribute, None if there is none."""
        if isinstance(node, ast.Name):
            return annotations.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.type_of(module, node.value, types)
            for its_module, cls in self.lineage(owner) if owner else ():
                found = self.attributes((its_module.name, cls.name))
                if node.attr in found:
                    return found[node.attr] if its_module is module else None
        return None

    def type_of(self, module, node, types):
        """Return (module, class) of the extension type of an expression, None if not known."""
        if isinstance(node, ast.Name):
            return types.get(node.id)
        if isinstance(node, ast.Attribute):
            return self._member_type(module, self.type_of(module, node.value, types), node.attr)
        if isinstance(node, ast.Call):
            return self._returned(module, node.func, types)
        if isinstance(node, ast.IfExp):
            one = self.type_of(module, node.body, types)
            return one if one == self.type_of(module, node.orelse, types) else None
        return None

    def _member_type(self, module, owner, name):
        for its_module, node in self.lineage(owner) if owner else ():
            found = self.attributes((its_module.name, node.name))
            if name in found:
                return self._usable(module, self.named(its_module, found[name]))
            for method in node.body:
                if is_property(method) and method.name == name and method.returns is not None:
                    return self._usable(module, self.named(its_module, method.returns))
        return None

    def _returned(self, module, function, types):
        if isinstance(function, ast.Name):
            own = self._usable(module, self.owner(module, function))
            if own is not None:
                return own
            found = self.c_function(module, function.id)
            if found is None:
                return None
            its = self.modules[found[0]]
            returns = its.functions[found[1]].returns
            return self._usable(module, self.named(its, returns)) if returns else None
        if isinstance(function, ast.Attribute):
            owner = self.type_of(module, function.value, types)
            for its_module, node in self.lineage(owner) if owner else ():
                for method in node.body:
                    if isinstance(method, FUNCTIONS) and method.name == function.attr:
                        named = self.named(its_module, method.returns) if method.returns else None
                        return self._usable(module, named)
        return None


class Variables:
    """The variables of one function whose extension type is the same wherever they are set."""

    def __init__(self, declared, module, function):
        self._declared = declared
        self._module = module
        self._annotations = {}
        self._doubtful = set()
        self.types = {}
        self._note_arguments(function)
        nodes = list(ast.walk(function))
        for node in nodes:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                self._note_annotated(node.target.id, node.annotation)
        for node in nodes:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    self._note_assigned(target, node.value)
            elif isinstance(node, ast.For) and isinstance(node.target, ast.Name):
                sequence = declared.annotation(module, node.iter, self._annotations, self.types)
                self._note(node.target.id, declared.element(module, sequence))
            elif isinstance(node, (ast.For, ast.comprehension, ast.NamedExpr)):
                self._doubt(node.target)
            elif isinstance(node, ast.withitem) and node.optional_vars is not None:
                self._doubt(node.optional_vars)

    def _note_arguments(self, function):
        for each, _ in all_arguments(function.args):
            self._annotations[each.arg] = each.annotation
            if each.annotation is not None:
                self._note_annotated(each.arg, each.annotation)
        if function.args.args and function.args.args[0].arg == "self":
            for name, node in self._module.classes.items():
                if function in node.body:
                    self.types["self"] = (self._module.name, name)

    def _note_annotated(self, name, annotation):
        self._annotations[name] = annotation
        self._note(name, self._declared.named(self._module, annotation))

    def _note_assigned(self, target, value):
        if isinstance(target, ast.Tuple):
            values = value.elts if isinstance(value, ast.Tuple) else [None] * len(target.elts)
            for one, its in zip(target.elts, values, strict=False):
                self._note_assigned(one, its)
        elif isinstance(target, ast.Name):
            if isinstance(value, ast.Constant) and value.value is None:
                return  # as good as any object of the type
            known = value and self._declared.type_of(self._module, value, self.types)
            self._note(target.id, known)

    def _note(self, name, kind):
        if name in self._doubtful:
            return
        if kind is None or self.types.get(name, kind) != kind:
            self._doubtful.add(name)
            self.types.pop(name, None)
        else:
            self.types[name] = kind

    def _doubt(self, target):
        for each in ast.walk(target):
            if isinstance(each, ast.Name):
                self._note(each.id, None)


def _attributes_of(node):
    """Return what each attribute that ``__init__`` sets is annotated with, or looks like."""
    found = {}
    for method in node.body:
        if isinstance(method, FUNCTIONS) and method.name == "__init__":
            given = {each.arg: each.annotation for each, _ in all_arguments(method.args)}
            for each in ast.walk(method):
                if isinstance(each, ast.AnnAssign):
                    _note_attribute(found, each.target, each.annotation)
                elif isinstance(each, ast.Assign):
                    for target in each.targets:
                        _note_assigned(found, target, each.value, given)
    return found


def _note_assigned(found, target, value, given):
    if isinstance(target, ast.Tuple):
        values = value.elts if isinstance(value, ast.Tuple) else [None] * len(target.elts)
        for one, its in zip(target.elts, values, strict=False):
            _note_assigned(found, one, its, given)
        return
    _note_attribute(found, target, _guess(value, given))


def _note_attribute(found, target, annotation):
    if (
        isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    ):
        # A second assignment, of None say, tells nothing against the first.
        found.setdefault(target.attr, annotation)


def _guess(value, given):
    if isinstance(value, ast.Name):
        return given.get(value.id)
    if isinstance(value, ast.Constant) and type(value.value).__name__ in _C_TYPES:
        return ast.Name(type(value.value).__name__)
    if isinstance(value, (ast.List, ast.Dict)):
        return ast.Name(type(value).__name__.lower())
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return value.func if value.func.id[0].isupper() else None
    return None


class _Writer:
    """The declarations of one module."""

    def __init__(self, all_declared, module):
        self.all = all_declared
        self.module = module
        self.imported = set()

    def c_type(self, annotation):
        """Return the C type of an annotation."""
        node, optional = _plain_annotation(annotation)
        if not isinstance(node, ast.Name):
            return "object"
        if node.id in _C_TYPES and not (optional and node.id in _NUMBERS):
            return _C_TYPES[node.id]
        return self._named(self.all.named(self.module, node))

    def _named(self, owner):
        if owner is None:
            return "object"
        where, name = owner
        if where == self.module.name:
            return name
        self.imported.add(owner)
        return name

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
        listed = ", ".join(
            f"{name}={self._named(owner)}"
            for name, owner in sorted(types.items())
            if name not in given
        )
        if listed:
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
            head.append(f"from {module} cimport {name} as {name}")
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


def write(sources, directory, plain, seams, circle):
    """Write declarations and rewritten sources of ``sources`` (name -> path) below ``directory``.

    ``plain``: classes without ``__slots__`` ("package.module.Class") that are extension types too.
    ``seams``: classes that others may stand in for, so that arguments of theirs are any objects.
    ``circle``: the package in which modules may name each other's types in circles.
    Returns the source to compile and the folders to search for declarations for each module.
    """
    modules = {name: Module(name, path, plain) for name, path in sources.items()}
    others = {
        name: each for name, each in _package(sources, "netstack").items() if name not in modules
    }
    declared = Declarations(modules, others, seams, circle)
    common = os.path.join(directory, "common")
    found = {}
    for name in sorted(modules):
        rewriter = Rewriter(declared, modules[name])
        text = rewriter.text()
        types, functions = _Writer(declared, modules[name]).text(rewriter.imported)
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


def _package(known, package):
    found = {}
    for folder, _, names in os.walk(package):
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                module = path[:-3].replace(os.sep, ".").removesuffix(".__init__")
                found[module] = Module(module, path)
    return found


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
