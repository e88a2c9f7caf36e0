"""What the names of compiled modules mean: whose type, which C function, which constant.

A name means something for C only in a module that may load its owner first, and where no
ordinary class or function can stand in its place.
"""

import ast

from rewrite import FUNCTIONS, fits, getter, is_property, maker
from sources import attributes_of, plain_annotation
from variables import Variables

LAYOUT = "netstack.wire.layout"
_SEQUENCES = ("list", "tuple", "Sequence", "Iterable", "Iterator", "deque")


def _is_of_one(held):
    """Say whether a tuple is of one type and any length."""
    last = held.elts[-1] if isinstance(held, ast.Tuple) else None
    return isinstance(last, ast.Constant) and last.value is ...


class Declarations:
    """What all modules declare, and in which of them which type may be named."""

    def __init__(self, modules, others, circle):
        self.modules = modules
        self.others = others  # the package's sources that are not compiled
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
            named = isinstance(base, ast.Name)
            inner = self.c_function(module, base.id, function.attr) if named else None
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
        node, _ = plain_annotation(annotation)
        return self._usable(module, self.owner(module, node)) if node is not None else None

    def _usable(self, module, owner):
        usable = owner is not None and self.may_name(module.name, owner[0])
        return owner if usable else None

    def attributes(self, owner):
        """Return what each attribute of a class itself is annotated with, or looks like."""
        if owner not in self._attributes:
            node = self.modules[owner[0]].classes[owner[1]]
            self._attributes[owner] = attributes_of(node)
        return self._attributes[owner]

    def element(self, module, known):
        """Return the extension type that a sequence holds, or None; see ``annotation``."""
        if known is None:
            return None
        where, annotation = known
        if isinstance(annotation, ast.BinOp):
            annotation = annotation.left
        if (
            isinstance(annotation, ast.Subscript)
            and isinstance(annotation.value, ast.Name)
            and annotation.value.id in _SEQUENCES
        ):
            held = annotation.slice
            held, _ = plain_annotation(held.elts[0] if _is_of_one(held) else held)
            return self._usable(module, self.owner(where, held))
        return None

    def variables(self, module, function):
        """Return the extension types of a function's variables: name -> (module, class)."""
        return Variables(self, module, function).types

    def numbers(self, module, function):
        """Return the C types of a function's variables that are annotated as numbers."""
        return Variables(self, module, function).numbers

    def annotation(self, module, node, types):
        """Return the annotation of a variable or attribute and the module that it stands in.

        None if there is none.
        """
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            return self.annotation(module, node.value, types)
        if isinstance(node, ast.Name):
            return getattr(types, "annotations", {}).get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.type_of(module, node.value, types)
            for its_module, cls in self.lineage(owner) if owner else ():
                found = self.attributes((its_module.name, cls.name))
                if node.attr in found:
                    return its_module, found[node.attr]
        return None

    def type_of(self, module, node, types):
        """Return (module, class) of the extension type of an expression, None if not known."""
        if isinstance(node, ast.Name):
            return types.get(node.id)
        if isinstance(node, ast.Attribute):
            return self._member_type(module, self.type_of(module, node.value, types), node.attr)
        if isinstance(node, ast.Call):
            return self._returned(module, node.func, types)
        if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice):
            return self.element(module, self.annotation(module, node.value, types))
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
