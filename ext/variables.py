"""Which variables of a function always hold the same extension type, or a number."""

import ast

from rewrite import all_arguments

_NUMBERS = {"int": "long long", "float": "double", "bool": "bint"}


class Types(dict):
    """Variables and their extension types; ``annotations``: what is known of their contents."""

    def __init__(self):
        super().__init__()
        self.annotations = {}


class Variables:
    """The variables of one function whose extension type is the same wherever they are set."""

    def __init__(self, declared, module, function):
        self._declared = declared
        self._module = module
        self._doubtful = set()
        self.types = Types()
        self._annotations = self.types.annotations
        self.numbers = {}  # those annotated as such: name -> C type
        self._note_arguments(function)
        nodes = list(ast.walk(function))
        for node in nodes:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                self._note_annotated(node.target.id, node.annotation)
                if isinstance(node.annotation, ast.Name) and node.annotation.id in _NUMBERS:
                    self.numbers[node.target.id] = _NUMBERS[node.annotation.id]
        self._note_copies(nodes)
        for node in nodes:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    self._note_assigned(target, node.value)
            elif isinstance(node, ast.For) and isinstance(node.target, ast.Name):
                sequence = declared.annotation(module, node.iter, self.types)
                self._note(node.target.id, declared.element(module, sequence))
            elif isinstance(node, (ast.For, ast.comprehension, ast.NamedExpr)):
                self._doubt(node.target)
            elif isinstance(node, ast.withitem) and node.optional_vars is not None:
                self._doubt(node.optional_vars)

    def _note_copies(self, nodes):
        """What a variable holds that is another name of an annotated attribute."""
        found = {}
        for node in nodes:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                known = self._declared.annotation(self._module, node.value, self.types)
                found.setdefault(node.targets[0].id, []).append(known)
        for name, known in found.items():
            if len(known) == 1 and known[0] is not None and known[0][1] is not None:
                self._annotations.setdefault(name, known[0])

    def _note_arguments(self, function):
        for each, _ in all_arguments(function.args):
            self._annotations[each.arg] = self._module, each.annotation
            if each.annotation is not None:
                self._note_annotated(each.arg, each.annotation)
        if function.args.args and function.args.args[0].arg == "self":
            for name, node in self._module.classes.items():
                if function in node.body:
                    self.types["self"] = (self._module.name, name)

    def _note_annotated(self, name, annotation):
        self._annotations[name] = self._module, annotation
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
