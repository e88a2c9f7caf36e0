"""Sources as the build reads them: one module's classes, functions, imports and annotations."""

import ast
import os

from rewrite import FUNCTIONS, all_arguments, constants, enums, extended

C_TYPES = {"int": "long long", "float": "double", "bool": "bint", "list": "list", "dict": "dict",
           "set": "set"}  # fmt: skip


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


def package(top):
    """Return every source below the folder ``top``: name -> ``Module``."""
    found = {}
    for folder, _, names in os.walk(top):
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                module = path[:-3].replace(os.sep, ".").removesuffix(".__init__")
                found[module] = Module(module, path)
    return found


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


def plain_annotation(node):
    """Return an annotation without ``| None``, quotes and what stands in brackets."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode="eval").body
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        if not (isinstance(node.right, ast.Constant) and node.right.value is None):
            return None, False
        inner, _ = plain_annotation(node.left)
        return inner, True
    if isinstance(node, ast.Subscript):
        node = node.value
    return node, False


def attributes_of(node):
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
        return ast.Name("float") if value.id in ("inf", "NEVER") else given.get(value.id)
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
        return _guess(value.operand, given)
    if isinstance(value, ast.Constant) and type(value.value).__name__ in C_TYPES:
        return ast.Name(type(value.value).__name__)
    if isinstance(value, (ast.List, ast.Dict)):
        return ast.Name(type(value).__name__.lower())
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return value.func if value.func.id[0].isupper() else None
    return None
