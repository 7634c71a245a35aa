"""Every wrong version of a module that differs from it in one place. Pure: source in, mutants out.

Only the bodies of functions are changed. What stands at the top of a module or a class is tuned values and tables; a
test of them would say the same thing twice. The same goes for the wording of messages (f-strings).
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from types import CodeType
from typing import Any, NamedTuple, TypeAlias

Edit: TypeAlias = tuple[Any, str, int | None, ast.AST]
"""Put this node into a field of a parent, at an index if the field is a list."""

COMPARISONS: dict[type[ast.cmpop], list[type[ast.cmpop]]] = {
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
SKIPPED = {"args", "annotation", "returns", "decorator_list", "type_params", "format_spec"}


class Mutant(NamedTuple):
    """A module with one fault. `place`: the function; `change`: its line before and after. Both outlive other edits."""

    place: str
    change: str
    code: CodeType


def mutants(source: str, filename: str) -> Iterator[Mutant]:
    """The mutants of a module, in the order of its lines."""
    tree = ast.parse(source)
    before = ast.unparse(tree).splitlines()
    seen: Counter[tuple[str, str]] = Counter()
    for place, edit in list(_edits(tree, "", False)):
        old = _put(edit)
        after = ast.unparse(tree).splitlines()
        code = compile(ast.fix_missing_locations(tree), filename, "exec")
        _put((*edit[:3], old))
        change = next(f"{a.strip()} -> {b.strip()}" for a, b in zip(before, after, strict=False) if a != b)
        seen[place, change] += 1
        again = seen[place, change]
        yield Mutant(place, change if again == 1 else f"{change} ({again})", code)


def _put(edit: Edit) -> ast.AST:
    """Make a change; returns what was there before."""
    parent, field, index, node = edit
    old: ast.AST
    if index is None:
        old = getattr(parent, field)
        setattr(parent, field, node)
    else:
        old = getattr(parent, field)[index]
        getattr(parent, field)[index] = node
    return old


def _edits(node: ast.AST, place: str, is_function: bool) -> Iterator[tuple[str, Edit]]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        place = f"{place}.{node.name}".removeprefix(".")
        is_function = not isinstance(node, ast.ClassDef)
    for field, value in ast.iter_fields(node):
        if field in SKIPPED:
            continue
        many = isinstance(value, list)
        for index, child in enumerate(value if many else [value]):
            if not isinstance(child, ast.AST) or _is_text(node, child):
                continue
            if is_function:
                yield from ((place, (node, field, index if many else None, new)) for new in _alternatives(child))
            yield from _edits(child, place, is_function)


def _is_text(parent: ast.AST, node: ast.AST) -> bool:
    """Whether it is a docstring or a literal part of an f-string."""
    is_constant = isinstance(node, ast.Constant)
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_docstring or (is_constant and isinstance(parent, ast.JoinedStr))


def _alternatives(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=ops):
            for index, comparison in enumerate(ops):
                for opposite in COMPARISONS[type(comparison)]:
                    yield _with(node, ops=[*ops[:index], opposite(), *ops[index + 1 :]])
        case ast.BoolOp(op=operator):
            yield _with(node, op=ast.Or() if isinstance(operator, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.BinOp(op=operator) if type(operator) in OPERATORS:
            yield _with(node, op=OPERATORS[type(operator)]())
        case ast.Constant(value=value):
            if (other := _constant(value)) is not None:
                yield _with(node, value=other)
        case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
            yield _with(node, func=ast.Name(FUNCTIONS[name], ast.Load()))
        case ast.Return(value=value) if value is not None and not _is_nothing(value):
            yield _with(node, value=ast.Constant(None))
        case ast.Continue():
            yield ast.copy_location(ast.Break(), node)
        case ast.Break():
            yield ast.copy_location(ast.Continue(), node)
        case ast.AugAssign(op=operator):
            if type(operator) in OPERATORS:
                yield _with(node, op=OPERATORS[type(operator)]())
            yield ast.copy_location(ast.Pass(), node)
        case ast.Expr() | ast.Raise() | ast.Delete():
            yield ast.copy_location(ast.Pass(), node)
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript() | ast.Tuple(elts=[ast.Attribute(), *_]), *_]):
            yield ast.copy_location(ast.Pass(), node)
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) if _is_plain(test):
            yield _with(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.comprehension(ifs=[test, *others]) if _is_plain(test):
            yield _with(node, ifs=[ast.UnaryOp(ast.Not(), test), *others])


def _is_plain(test: ast.expr) -> bool:
    """Whether no other mutant negates this condition."""
    return not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp)


def _is_nothing(node: ast.expr) -> bool:
    """Whether it is None, or False, which a condition takes for the same."""
    return isinstance(node, ast.Constant) and (node.value is None or node.value is False)


def _constant(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}~"
    return value + b"~" if isinstance(value, bytes) else None


def _with(node: ast.AST, **fields: object) -> ast.AST:
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other
