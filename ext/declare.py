"""C declarations for the stack's own modules, read off their annotations.

Cython compiles the same ``.py`` files that the interpreter runs; what makes them fast is knowing
types, and the annotations, which mypy checks, say them already. ``write`` turns them into one
``.pxd`` file a module, under ``build/``: nobody keeps a second list of attributes or arguments.

A class with ``__slots__`` becomes an extension type, its attributes C fields (``int`` 64 bits,
``float`` double, ``bool`` a flag, our own extension types by name, all else objects; ``X | None``
is an object unless X is a type of ours). Functions and methods whose arguments C can pass become
``cpdef``: callable from both sides. Not those with keyword-only or variable arguments, closures
or generators, which stay as they are.
"""

import ast
import os

_C_TYPES = {"int": "long long", "float": "double", "bool": "bint", "list": "list", "dict": "dict"}
_SEQUENCES = ("list", "Sequence", "Iterable", "Iterator", "deque")
_NOT_IN_C = (ast.Lambda, ast.GeneratorExp, ast.Yield, ast.YieldFrom, ast.Await)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Module:
    """One source file: its classes, its functions, and what it imports from where."""

    def __init__(self, name, path, plain):
        self.name = name
        with open(path, encoding="utf-8") as file:
            self.tree = ast.parse(file.read())
        self.imports = {}  # name -> module, type checkers' included
        self.runtime = set()  # modules that running it imports
        for node in self.tree.body:
            guarded = isinstance(node, ast.If)
            for each in node.body if guarded else [node]:
                self._note_import(each, guarded)
        classes = [node for node in self.tree.body if isinstance(node, ast.ClassDef)]
        self.classes = {}
        for node in classes:
            if self._has_slots(node) or f"{name}.{node.name}" in plain:
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


def _uncalled(tree):
    """Return the expressions that are read, or called with starred arguments: no call for C."""
    called = {
        id(each.func)
        for each in ast.walk(tree)
        if isinstance(each, ast.Call)
        and not any(isinstance(given, ast.Starred) for given in each.args)
        and all(given.arg for given in each.keywords)
    }
    return [
        each
        for each in ast.walk(tree)
        if isinstance(each, (ast.Attribute, ast.Name))
        and isinstance(each.ctx, ast.Load)
        and id(each) not in called
    ]


def _fits(node):
    """Say whether C can call it: plain arguments, no closures, no ``super()``."""
    arguments = node.args
    return not (
        isinstance(node, ast.AsyncFunctionDef)
        or node.decorator_list
        or arguments.vararg
        or arguments.kwarg
        or arguments.kwonlyargs
        or arguments.posonlyargs
        or any(
            isinstance(each, _NOT_IN_C + _FUNCTIONS)
            or (isinstance(each, ast.Name) and each.id == "super")
            for each in ast.walk(node)
            if each is not node
        )
    )


class Declarations:
    """What all modules declare, and in which of them which type may be named."""

    def __init__(self, modules, seams, circle):
        self.modules = modules
        self.seams = seams
        self.circle = circle
        self.runtime = _runtime_imports("netstack")
        self._leave_out_foreign_bases()
        self._unfit = None
        self.values = set()  # names of methods that are handed around: C has no bound ones
        self._handed_around = set()  # functions, as (module, name)
        for module in modules.values():
            for each in _uncalled(module.tree):
                self._note_value(module, each)

    def _leave_out_foreign_bases(self):
        """A class whose base is no extension type of ours stays an ordinary one."""
        changed = True
        while changed:
            changed = False
            for module in self.modules.values():
                for node in list(module.classes.values()):
                    if any(self._owner(module, base) is None for base in node.bases):
                        del module.classes[node.name]
                        changed = True

    def _root(self, module, node):
        while node.bases:
            where, name = self._owner(module, node.bases[0])
            module = self.modules[where]
            node = module.classes[name]
        return module.name, node.name

    def unfit(self, module, node, method):
        """Say whether a relative's method of that name can't be called from C: then none is."""
        if self._unfit is None:
            self._unfit = {
                (self._root(its_module, its_node), each.name)
                for its_module in self.modules.values()
                for its_node in its_module.classes.values()
                for each in its_node.body
                if isinstance(each, _FUNCTIONS) and not _fits(each)
            }
        return (self._root(module, node), method) in self._unfit

    def _owner(self, module, node):
        """Return (module, class) of an extension type that ``node`` names in ``module``."""
        if not isinstance(node, ast.Name):
            return None
        if node.id in module.classes:
            return module.name, node.id
        where, name = module.imports.get(node.id, (None, None))
        if where in self.modules and name in self.modules[where].classes:
            return where, name
        return None

    def _note_value(self, module, node):
        if isinstance(node, ast.Name):
            self._handed_around.add((module.name, node.id))
            self._handed_around.add(module.imports.get(node.id))
            return
        self.values.add(node.attr)
        if isinstance(node.value, ast.Name) and node.value.id in module.imports:
            self._handed_around.add((".".join(module.imports[node.value.id]), node.attr))

    def callable_function(self, module, node):
        """Say whether a function is one of C's too."""
        return _fits(node) and (module.name, node.name) not in self._handed_around

    def function(self, module, name):
        """Return (module, function) of a C function that ``name`` is an import of, or None."""
        where, its = module.imports.get(name, (None, None))
        if where in self.modules:
            for node in self.modules[where].tree.body:
                if isinstance(node, _FUNCTIONS) and node.name == its:
                    if not self.callable_function(self.modules[where], node):
                        return None
                    return where, its
        return None

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

    def text(self, module):
        """Return the module's ``.pxd``."""
        writer = _Writer(self, module)
        return writer.text()


class _Writer:
    def __init__(self, all_declared, module):
        self.all = all_declared
        self.module = module
        self.imported = set()
        self.attributes = {}  # of each class: name -> annotation

    # ---- types -----------------------------------------------------------------------------

    def own_type(self, node, base=False):
        owner = self.all._owner(self.module, node)
        if owner is None or (".".join(owner) in self.all.seams and not base):
            return None
        if not self.all.may_name(self.module.name, owner[0]):
            return None
        if owner[0] != self.module.name:
            self.imported.add((owner[0], owner[1], node.id))
        return node.id

    def c_type(self, node, optional=False):
        """Return the C type of an annotation."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node = ast.parse(node.value, mode="eval").body
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            if isinstance(node.right, ast.Constant) and node.right.value is None:
                return self.c_type(node.left, optional=True)
            return "object"
        if isinstance(node, ast.Subscript):
            node = node.value
        if not isinstance(node, ast.Name):
            return "object"
        if node.id in _C_TYPES and not (optional and node.id in ("int", "float", "bool")):
            return _C_TYPES[node.id]
        return self.own_type(node) or "object"

    def element(self, annotation):
        """Return the extension type that a sequence holds, or None."""
        if isinstance(annotation, ast.BinOp):
            annotation = annotation.left
        if (
            isinstance(annotation, ast.Subscript)
            and isinstance(annotation.value, ast.Name)
            and annotation.value.id in _SEQUENCES
            and isinstance(annotation.slice, ast.Name)
        ):
            return self.own_type(annotation.slice)
        return None

    # ---- classes ---------------------------------------------------------------------------

    def annotations(self, node):
        """Return what each attribute that ``__init__`` sets is annotated with, or looks like."""
        found = {}
        for method in node.body:
            if not isinstance(method, _FUNCTIONS) or method.name != "__init__":
                continue
            arguments = method.args.args + method.args.kwonlyargs
            given = {each.arg: each.annotation for each in arguments}
            for each in ast.walk(method):
                if isinstance(each, ast.AnnAssign):
                    self._attribute(found, each.target, each.annotation)
                elif isinstance(each, ast.Assign):
                    for target in each.targets:
                        self._assigned(found, target, each.value, given)
        return found

    def _assigned(self, found, target, value, given):
        if isinstance(target, ast.Tuple):
            values = value.elts if isinstance(value, ast.Tuple) else [None] * len(target.elts)
            for one, its in zip(target.elts, values, strict=False):
                self._assigned(found, one, its, given)
            return
        self._attribute(found, target, self._guess(value, given))

    @staticmethod
    def _attribute(found, target, annotation):
        if (
            isinstance(target, ast.Attribute)
            and isinstance(target.value, ast.Name)
            and target.value.id == "self"
        ):
            # A second assignment, of None say, tells nothing against the first.
            found.setdefault(target.attr, annotation)

    @staticmethod
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

    def class_lines(self, node):
        bases = [self.own_type(base, base=True) for base in node.bases]
        head = f"cdef class {node.name}" + (f"({bases[0]})" if bases else "")
        types = self.attributes[node.name] = self.annotations(node)
        names = slots_of(node)
        lines = []
        for name in types if names is None else names:
            if name == "__weakref__":
                lines.append("    cdef object __weakref__")
            elif names is not None or not self._inherited(node, name):
                lines.append(f"    cdef public {self.c_type(types.get(name))} {name}")
        if names is None:
            lines.append("    cdef dict __dict__")
            lines.append("    cdef object __weakref__")
        for method in node.body:
            if isinstance(method, _FUNCTIONS) and not method.name.startswith("__"):
                lines.extend(self.function_lines(method, node))
        return [head + ":", *(lines or ["    pass"])]

    def _inherited(self, node, name):
        for base in node.bases:
            where, its = self.all._owner(self.module, base)
            of_base = self.all.modules[where].classes[its]
            if name in self.annotations(of_base):
                return True
        return False

    # ---- functions -------------------------------------------------------------------------

    def function_lines(self, node, of_class=None):
        arguments = node.args
        if of_class is None:
            if not self.all.callable_function(self.module, node):
                return []
        elif (
            not _fits(node)
            or node.name in self.all.values
            or self.all.unfit(self.module, of_class, node.name)
        ):
            return []
        indent = "    " if of_class else ""
        without_default = len(arguments.args) - len(arguments.defaults)
        parts = []
        known = {}
        for index, argument in enumerate(arguments.args):
            if of_class and index == 0:
                parts.append("self")
                continue
            known[argument.arg] = argument.annotation
            default = "=*" if index >= without_default else ""
            parts.append(f"{self.c_type(argument.annotation)} {argument.arg}{default}")
        lines = []
        types = self._locals(node, known, of_class)
        if types:
            listed = ", ".join(f"{name}={kind}" for name, kind in sorted(types.items()))
            lines.append(f"{indent}@cython.locals({listed})")
        returns = "object"
        if node.returns is not None and not isinstance(node.returns, ast.Constant):
            returns = self.c_type(node.returns)
        fails = " except? -1" if returns in ("long long", "double", "bint") else ""
        lines.append(f"{indent}cpdef {returns} {node.name}({', '.join(parts)}){fails}")
        return lines

    def _locals(self, node, known, of_class):
        """Return the extension types of loop variables and of items taken out of sequences."""
        known = dict(known)
        own = self.attributes[of_class.name] if of_class else {}
        for each in ast.walk(node):
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                known[each.target.id] = each.annotation
            elif isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name):
                known.setdefault(each.targets[0].id, self._sequence(each.value, known, own))
        found = {}
        for each in ast.walk(node):
            if isinstance(each, ast.For) and isinstance(each.target, ast.Name):
                kind = self.element(self._sequence(each.iter, known, own))
                if kind:
                    found[each.target.id] = kind
        return found

    @staticmethod
    def _sequence(node, known, own):
        if isinstance(node, ast.Name):
            return known.get(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return own.get(node.attr) if node.value.id == "self" else None
        return None

    # ---- all of it -------------------------------------------------------------------------

    def text(self):
        """Return the declarations, and what the module alone needs besides."""
        body = []
        for node in self.module.tree.body:
            if isinstance(node, ast.ClassDef) and node.name in self.module.classes:
                body.extend(["", *self.class_lines(node)])
        for node in self.module.tree.body:
            if isinstance(node, _FUNCTIONS):
                body.extend(self.function_lines(node))
        head = ["cimport cython"]
        # First that they exist: modules name each other's types in circles.
        head.extend(f"cdef class {name}" for name in self.module.classes if not self._based(name))
        for module, name, alias in sorted(self.imported):
            head.append(f"from {module} cimport {name} as {alias}")
        return "\n".join(head + body) + "\n", "\n".join(self._function_imports()) + "\n"

    def _based(self, name):
        return bool(self.module.classes[name].bases)

    def _function_imports(self):
        """Functions of other modules are called as C ones, by name or through their module."""
        lines = []
        for name, (where, its) in sorted(self.module.imports.items()):
            inner = f"{where}.{its}"
            if self.all.function(self.module, name) is not None:
                owner = where
            elif inner in self.all.modules and inner in self.module.runtime:
                owner = inner
            else:
                continue
            if self.all.may_name(self.module.name, owner):
                lines.append(f"from {where} cimport {its} as {name}")
        return lines


def write(sources, directory, plain, seams, circle):
    """Write declarations for ``sources`` (module name -> path) below ``directory``.

    ``plain``: classes without ``__slots__`` ("package.module.Class") that are extension types too.
    ``seams``: classes that others may stand in for, so that arguments of theirs are any objects.
    ``circle``: the package in which modules may name each other's types in circles.
    Returns the folders to search for declarations when compiling each module.
    """
    modules = {name: Module(name, path, plain) for name, path in sources.items()}
    declared = Declarations(modules, seams, circle)
    common = os.path.join(directory, "common")
    folders = {}
    for name in sorted(modules):
        types, functions = declared.text(modules[name])
        _write(common, name, types)
        own = os.path.join(directory, name)
        _write(own, name, types + functions)
        folders[name] = [own, common]
    return folders


def _write(directory, name, text):
    path = os.path.join(directory, *name.split(".")) + ".pxd"
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    while folder != directory:
        open(os.path.join(folder, "__init__.pxd"), "a").close()
        folder = os.path.dirname(folder)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _runtime_imports(package):
    """Return module -> modules that running it imports, for all of ``package``."""
    found = {}
    for folder, _, names in os.walk(package):
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                module = path[:-3].replace(os.sep, ".").removesuffix(".__init__")
                found[module] = Module(module, path, ()).runtime
    return {module: imported & set(found) for module, imported in found.items()}
