"""What the compiler is told in other words: sources of compiled modules, rewritten line by line.

C sees through neither a name that another module defines, nor a property, nor a bound method, nor
the call of a class. ``extended`` appends to a source what can be called directly: a function for
each property and for each constructor. ``rewritten`` uses them, puts numbers in the place of
constants and module variables in that of enum members, and lets keyword-only arguments be passed
by position. Lines keep their numbers. What runs is what the source says, only sooner; a constant
of a compiled module can't be changed at run time.
"""

import ast
from math import inf

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_INLINE = (ast.JoinedStr, ast.FormattedValue)  # CPython 3.11 tells wrong columns inside
_NOT_IN_C = (ast.Lambda, ast.GeneratorExp, ast.Yield, ast.YieldFrom, ast.Await)


def maker(name):
    """Return the name of the function that makes a ``name``."""
    return f"_make_{name}"


def getter(cls, name):
    """Return the name of the function that reads a property."""
    return f"_get_{cls}_{name}"


def in_place(name):
    """Return the name of the inline function that stands for one of ``wire.layout``."""
    return f"_layout_{name}"


def unspelt(number):
    """Return (name, declaration) of a number that no literal says to C, (None, "") for others.

    Integers beyond 31 bits would be objects, and so all that is computed with them.
    """
    if number == inf:
        return "_infinite", 'const double _infinite "((double)INFINITY)"'
    if type(number) is int and 0x7FFFFFFF < number < 1 << 63:
        return f"_large_{number}", f'const long long _large_{number} "{number}LL"'
    return None, ""


def is_property(node):
    """Say whether a method is a property that only reads."""
    return (
        isinstance(node, ast.FunctionDef)
        and len(node.decorator_list) == 1
        and isinstance(node.decorator_list[0], ast.Name)
        and node.decorator_list[0].id == "property"
    )


def fits(node, decorated=False):
    """Say whether C can call it: no variable arguments, closures, generators, ``super()``.

    Keyword-only arguments are no hindrance if they could follow the others.
    """
    arguments = node.args
    if (
        isinstance(node, ast.AsyncFunctionDef)
        or (node.decorator_list and not decorated)
        or arguments.vararg
        or arguments.kwarg
        or arguments.posonlyargs
    ):
        return False
    if arguments.kwonlyargs and not may_follow(arguments):
        return False
    return not any(
        isinstance(each, _NOT_IN_C + FUNCTIONS)
        or (isinstance(each, ast.Name) and each.id == "super")
        for each in ast.walk(node)
        if each is not node
    )


def may_follow(arguments):
    """Say whether keyword-only arguments can stand behind the others: none needed after one that
    may be left out."""
    optional = [False] * (len(arguments.args) - len(arguments.defaults))
    optional += [True] * len(arguments.defaults)
    optional += [default is not None for default in arguments.kw_defaults]
    return optional == sorted(optional)


def all_arguments(arguments):
    """Return pairs of argument and whether it may be left out, keyword-only ones behind."""
    needed = len(arguments.args) - len(arguments.defaults)
    pairs = [(each, index >= needed) for index, each in enumerate(arguments.args)]
    pairs += [
        (each, default is not None)
        for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    return pairs


def constants(tree):
    """Return the numbers that a module names once, at its top: name -> value."""
    found, seen = {}, set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "math":
            found.update((each.name, inf) for each in node.names if each.name == "inf")
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        elif isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        else:
            continue
        for target in targets:
            for name, its in _pairs(target, value):
                if name in seen:
                    found.pop(name, None)
                    continue
                seen.add(name)
                number = _number(its, found)
                if number is not None:
                    found[name] = number
    assigned = {
        name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names
    }
    return {name: value for name, value in found.items() if name not in assigned}


def _pairs(target, value):
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its in zip(target.elts, value.elts, strict=False):
            if isinstance(one, ast.Name):
                yield one.id, its


_OPERATIONS = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.LShift: lambda a, b: a << b,
    ast.BitOr: lambda a, b: a | b,
    ast.BitAnd: lambda a, b: a & b,
}


def _number(node, known):
    """Return what a constant expression is worth, None if it isn't one."""
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) in (int, float) else None
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        left, right = _number(node.left, known), _number(node.right, known)
        if left is None or right is None:
            return None
        return _OPERATIONS[type(node.op)](left, right)
    return None


def enums(tree):
    """Return the names of a module's enumerations, each with its members."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(
            isinstance(base, ast.Name) and base.id in ("Enum", "IntEnum") for base in node.bases
        ):
            found[node.name] = {
                each.targets[0].id
                for each in node.body
                if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name)
            }
    return found


def extended(text, classes):
    """Return a source with a maker for each class of ``classes``, and a getter for each property.

    ``classes``: the extension types, in the module's syntax tree.
    """
    added = []
    for node in classes:
        for method in node.body:
            if is_property(method) and fits(method, decorated=True):
                added.append(_getter_source(node, method))
            elif isinstance(method, FUNCTIONS) and method.name == "__init__" and fits(method):
                added.append(_maker_source(node, method))
    return text + "\n" + "\n\n".join(added) + "\n" if added else text


def _copied(node):
    return ast.parse(ast.unparse(node)).body[0]


def _without_docstring(body):
    first = body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if documented else body


def _getter_source(cls, method):
    function = _copied(method)
    function.name = getter(cls.name, method.name)
    function.decorator_list = []
    function.args.args[0].annotation = ast.Name(cls.name)
    function.body = _without_docstring(function.body) or [ast.Pass()]
    return ast.unparse(function)


def _maker_source(cls, method):
    function = _copied(method)
    function.name = maker(cls.name)
    this = function.args.args.pop(0).arg
    begin = ast.parse(f"{this}: {cls.name} = {cls.name}.__new__({cls.name})").body
    end = ast.parse(f"return {this}", mode="exec").body
    function.body = [*begin, *_without_docstring(function.body), *end]
    function.returns = ast.Name(cls.name)
    return ast.unparse(function)


class Edits:
    """Replacements in a text, none of which spans lines."""

    def __init__(self, text):
        self._lines = [line.encode() for line in text.split("\n")]
        self._found = []  # (line, column, end, text, order)

    def replace(self, line, column, end, text):
        """Put ``text`` in the place of columns ``column .. end`` of a line."""
        self._found.append((line, column, end, text.encode(), len(self._found)))

    def insert(self, line, column, text):
        """Put ``text`` in front of what stands there."""
        self.replace(line, column, column, text)

    def replace_lines(self, first, last, text):
        """Put one line of text in the place of several; their number stays."""
        self._lines[first - 1] = text.encode()
        for line in range(first, last):
            self._lines[line] = b""

    def text(self):
        """Return the text with all replacements made."""
        # From the end of each line; of several insertions at one place the outermost, which
        # was noted first, stands first.
        for line, column, end, text, _ in sorted(
            self._found, key=lambda each: (each[0], each[1], each[2], each[4]), reverse=True
        ):
            octets = self._lines[line - 1]
            self._lines[line - 1] = octets[:column] + text + octets[end:]
        return b"\n".join(self._lines).decode()


class Rewriter(ast.NodeVisitor):
    """Rewrites one module; ``world`` answers what its names mean (``declare.Declarations``)."""

    def __init__(self, world, module):
        self._world = world
        self._module = module
        self._edits = Edits(module.text)
        self._local = []  # names that functions around assign
        self._types = []  # of their variables
        self._members = {}
        self._inside = 0
        self.imported = set()  # (module, function): what is called of others
        self.unspelt = set()  # numbers

    def text(self):
        """Return the rewritten source."""
        for node in self._module.tree.body:
            if isinstance(node, ast.ImportFrom):
                self._thin_out(node)
            else:
                self.visit(node)
        aliases = "".join(
            f"{alias} = {enum}.{member}\n" for alias, (enum, member) in self._members.items()
        )
        return self._edits.text() + "\n" + aliases

    def _thin_out(self, node):
        """Leave out of an import within the circle what C links by itself.

        Modules of the circle are loaded while others of it wait for them, and have run nothing
        yet: what their own lines would define must not be asked for.
        """
        if not self._world.in_circle(self._module, node.module):
            return
        kept, numbers = [], []
        for alias in node.names:
            name = alias.asname or alias.name
            number = self._world.constant(self._module, name)
            if number is not None:
                numbers.append(f"{name} = {number!r}")
            elif not self._world.links(self._module, name):
                kept.append(alias.name if alias.asname is None else f"{alias.name} as {name}")
        statements = numbers
        if kept:
            statements = [*numbers, f"from {node.module} import {', '.join(kept)}"]
        self._edits.replace_lines(node.lineno, node.end_lineno, "; ".join(statements))

    # ---- where names mean something --------------------------------------------------------

    def visit_FunctionDef(self, node):
        self._drop_star(node)
        self._inside += 1
        self._local.append(_bound_names(node))
        self._types.append(self._world.variables(self._module, node))
        for each in node.body:
            self.visit(each)
        self._types.pop()
        self._local.pop()
        self._inside -= 1

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node):
        for each in node.body:
            if isinstance(each, FUNCTIONS):
                self.visit(each)
            elif isinstance(each, ast.AnnAssign) and node.name in self._module.classes:
                self._drop_annotation(each)

    def _drop_annotation(self, node):
        """Of a class variable: C would take it for a field."""
        value = node.value
        if value is None:
            self._edits.replace_lines(node.lineno, node.end_lineno, " " * node.col_offset + "pass")
        elif node.target.lineno == value.lineno:
            line, end = node.target.lineno, node.target.end_col_offset
            self._edits.replace(line, end, value.col_offset, " = ")

    def visit_Lambda(self, node):
        self._local.append({each.arg for each in node.args.args})
        self.visit(node.body)
        self._local.pop()

    def visit_AnnAssign(self, node):
        if node.value is not None:
            self.visit(node.value)

    def visit_JoinedStr(self, node):
        pass  # its columns can't be trusted

    def _drop_star(self, node):
        arguments = node.args
        if not arguments.kwonlyargs or not fits(node) or not may_follow(arguments):
            return
        first = arguments.kwonlyargs[0]
        for line in range(first.lineno, node.lineno - 1, -1):
            octets = self._module.text.split("\n")[line - 1].encode()
            end = first.col_offset if line == first.lineno else len(octets)
            at = octets.rfind(b"*,", 0, end)
            if at >= 0:
                self._edits.replace(line, at, at + 2, "")
                return

    # ---- what is rewritten -----------------------------------------------------------------

    def _is_local(self, name):
        return any(name in names for names in self._local)

    def visit_Name(self, node):
        if not self._inside or not isinstance(node.ctx, ast.Load) or self._is_local(node.id):
            return
        number = self._world.constant(self._module, node.id)
        if number is not None:
            self._replace_whole(node, self._number(number))
        elif self._world.is_c_function(self._module, node.id):
            text = f'globals()["{node.id}"]'  # handed around: C functions are no objects
            self._edits.replace(node.lineno, node.col_offset, node.end_col_offset, text)

    def visit_Constant(self, node):
        if self._inside and type(node.value) is int and unspelt(node.value)[0]:
            self._replace_whole(node, self._number(node.value))

    def _number(self, number):
        name, _ = unspelt(number)
        if name is None:
            return repr(number) if number >= 0 else f"({number!r})"
        self.unspelt.add(number)
        return name

    def visit_Call(self, node):
        function = node.func
        plain = not any(isinstance(each, ast.Starred) for each in node.args) and all(
            each.arg for each in node.keywords
        )
        if plain and isinstance(function, ast.Attribute):
            self.visit(function.value)
        elif plain and isinstance(function, ast.Name):
            self._visit_called(function)
        else:
            self.visit(function)
        if plain and node.keywords:
            self._fill_gaps(node)
        for each in (*node.args, *(keyword.value for keyword in node.keywords)):
            self.visit(each)

    def _fill_gaps(self, node):
        """Name what a call leaves out in front of what it names: C takes arguments in order."""
        arguments = self._world.signature(self._module, node.func, self._type)
        if arguments is None:
            return
        given = {each.arg for each in node.keywords}
        pairs = all_arguments(arguments)
        defaults = [*arguments.defaults, *(each for each in arguments.kw_defaults if each)]
        missing = []
        for (argument, optional), default in zip(
            pairs, [None] * (len(pairs) - len(defaults)) + defaults, strict=True
        ):
            if argument.arg in given:
                given.discard(argument.arg)
            elif pairs.index((argument, optional)) >= len(node.args) and given and optional:
                missing.append(f"{argument.arg}={ast.unparse(default)}")
        last = node.keywords[-1].value
        if missing and not isinstance(last, _INLINE):
            self._edits.insert(last.end_lineno, last.end_col_offset, ", " + ", ".join(missing))

    def _visit_called(self, function):
        if not self._inside or self._is_local(function.id):
            return
        line, column, end = function.lineno, function.col_offset, function.end_col_offset
        made = self._world.maker(self._module, function.id)
        if made is not None:
            self.imported.add(made)
            self._edits.replace(line, column, end, made[1])
        elif self._world.in_place(self._module, function.id):
            self._edits.replace(line, column, end, in_place(function.id))

    def visit_Attribute(self, node):
        if not isinstance(node.ctx, ast.Load) or not self._inside:
            self.visit(node.value)
            return
        base = node.value
        if isinstance(base, ast.Name) and not self._is_local(base.id):
            if self._world.is_member(self._module, base.id, node.attr):
                alias = f"_{base.id}_{node.attr}"
                self._members[alias] = (base.id, node.attr)
                self._replace_whole(node, alias)
                return
            if self._world.is_c_function(self._module, base.id, node.attr):
                self._as_value(node)
                return
        if node.end_lineno != base.end_lineno:
            self.visit(base)
            return
        owner = self._type(base)
        read = self._world.getter(self._module, owner, node.attr)
        if read is not None:
            self.imported.add(read)
            self._edits.insert(base.lineno, base.col_offset, f"{read[1]}(")
            self._edits.replace(node.end_lineno, base.end_col_offset, node.end_col_offset, ")")
        elif self._world.is_method(owner, node.attr) and not self._is_module(base):
            self._as_value(node)
        self.visit(base)

    def _is_module(self, base):
        return isinstance(base, ast.Name) and self._world.is_module(self._module, base.id)

    def _as_value(self, node):
        """A bound method, or a module's function, as a value: C knows none."""
        base = node.value
        if node.end_lineno == base.end_lineno:
            self._edits.insert(base.lineno, base.col_offset, "getattr(")
            text = f', "{node.attr}")'
            self._edits.replace(node.end_lineno, base.end_col_offset, node.end_col_offset, text)

    def _replace_whole(self, node, text):
        if node.lineno == node.end_lineno:
            self._edits.replace(node.lineno, node.col_offset, node.end_col_offset, text)

    def _type(self, node):
        return self._world.type_of(self._module, node, self._types[-1] if self._types else {})


def _bound_names(function):
    """Return the names that a function binds; those of functions inside it are their own."""
    found = {each.arg for each, _ in all_arguments(function.args)}
    found |= {each.arg for each in (function.args.vararg, function.args.kwarg) if each}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, (*FUNCTIONS, ast.ExceptHandler)) and node is not function:
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return found
