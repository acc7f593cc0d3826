"""What is changed in a source: one expression or statement, as text, so that a diff shows nothing else."""

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from tests.mutants.harmless import is_harmless, is_prose, is_task_name

COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "*", ast.Pow: "*",
    ast.BitOr: "&", ast.BitAnd: "|", ast.BitXor: "&", ast.LShift: ">>", ast.RShift: "<<",
}  # fmt: skip
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True, order=True)
class Mutant:
    """One change of one file."""

    file: str
    start: int
    """Offset in the file's UTF-8."""
    end: int
    text: str
    """What stands there instead."""
    first: int
    last: int
    """The lines of the statement around it, which a test must run to notice; both from 1."""

    def apply(self, source: bytes) -> bytes:
        """Return the changed source."""
        return source[: self.start] + self.text.encode() + source[self.end :]


def mutants(file: str, source: bytes) -> list[Mutant]:
    """Return all mutants of a source, in its order."""
    return sorted({one for one in _Walk(file, source).all() if _compiles(one.apply(source))})


def _compiles(source: bytes) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


class _Walk:
    def __init__(self, file: str, source: bytes) -> None:
        self._file, self._source = file, source
        starts, total = [0], 0
        for line in source.splitlines(keepends=True):
            total += len(line)
            starts.append(total)
        self._starts = starts
        self._lines = (0, 0)

    def all(self) -> Iterator[Mutant]:
        yield from self._statements(ast.parse(self._source).body)

    def _statements(self, body: list[ast.stmt]) -> Iterator[Mutant]:
        for statement in body:
            if is_harmless(statement):
                continue
            self._lines = _lines_of(statement)
            yield from self._whole(statement, alone=len(body) == 1)
            for child in _expressions(statement):
                yield from self._expression(child)
            for inner in _bodies(statement):
                yield from self._statements(inner)

    def _expression(self, node: ast.AST) -> Iterator[Mutant]:
        if is_harmless(node):
            return
        yield from self._changed(node)
        for child in ast.iter_child_nodes(node):
            if not is_task_name(node, child):
                yield from self._expression(child)

    def _whole(self, node: ast.stmt, *, alone: bool) -> Iterator[Mutant]:
        match node:
            case ast.Expr(value=ast.Call() | ast.Await()) | ast.Raise() | ast.AugAssign():
                yield self._put(node, "pass")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                yield self._put(node, "pass")
            case ast.Return(value=ast.expr() as value) if not _is_none(value):
                yield self._put(value, "None")
            case ast.Continue():
                yield self._put(node, "break")
            case ast.Break():
                yield self._put(node, "continue")
            case ast.If(test=test) | ast.While(test=test):
                yield from self._negated(test)
        if isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
            yield self._between(node.target, node.value, f" {ARITHMETIC[type(node.op)]}= ")

    def _changed(self, node: ast.AST) -> Iterator[Mutant]:
        match node:
            case ast.Compare(left=left, ops=ops, comparators=others):
                for before, op, after in zip([left, *others], ops, others, strict=False):
                    yield self._between(before, after, f" {COMPARISONS[type(op)]} ")
            case ast.BoolOp(op=op, values=values):
                for before, after in itertools.pairwise(values):
                    yield self._between(before, after, " or " if isinstance(op, ast.And) else " and ")
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
                yield self._between(left, right, f" {ARITHMETIC[type(op)]} ")
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                yield self._put(node, self._text(operand))
            case ast.IfExp(test=test):
                yield from self._negated(test)
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                yield self._put(node.func, CALLS[name])
            case ast.comprehension(ifs=ifs):
                yield from itertools.chain.from_iterable(map(self._negated, ifs))
            case ast.Constant(value=value):
                yield from self._constant(node, value)

    def _negated(self, test: ast.expr) -> Iterator[Mutant]:
        simple = isinstance(test, ast.Compare) and len(test.ops) == 1
        if not simple and not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
            yield self._put(test, f"not ({self._text(test)})")

    def _constant(self, node: ast.Constant, value: object) -> Iterator[Mutant]:
        if isinstance(value, bool):
            yield self._put(node, str(not value))
        elif isinstance(value, int | float):
            yield self._put(node, repr(value + 1))
        elif isinstance(value, str | bytes) and not is_prose(value):
            yield self._put(node, repr("XX" + value if isinstance(value, str) else b"XX" + value))

    def _between(self, before: ast.expr, after: ast.expr, text: str) -> Mutant:
        start, end = (
            self._offset(before.end_lineno, before.end_col_offset),
            self._offset(after.lineno, after.col_offset),
        )
        gap = self._source[start:end].decode()
        # Brackets around the operands belong to the gap and stay.
        left, right = gap[: len(gap) - len(gap.lstrip(") \n"))], gap[len(gap.rstrip("( \n")) :]
        return self._mutant(start, end, left.rstrip() + text + right.lstrip())

    def _put(self, node: ast.expr | ast.stmt, text: str) -> Mutant:
        start = self._offset(node.lineno, node.col_offset)
        return self._mutant(start, self._offset(node.end_lineno, node.end_col_offset), text)

    def _mutant(self, start: int, end: int, text: str) -> Mutant:
        return Mutant(self._file, start, end, text, *self._lines)

    def _text(self, node: ast.expr) -> str:
        start = self._offset(node.lineno, node.col_offset)
        return self._source[start : self._offset(node.end_lineno, node.end_col_offset)].decode()

    def _offset(self, line: int | None, column: int | None) -> int:
        assert line is not None
        assert column is not None
        return self._starts[line - 1] + column


def _expressions(node: ast.stmt) -> list[ast.AST]:
    """What of a statement is evaluated for what it does: no annotations, decorators, handlers or inner statements."""
    match node:
        case ast.FunctionDef(args=args) | ast.AsyncFunctionDef(args=args):
            return [*args.defaults, *(default for default in args.kw_defaults if default is not None)]
        case ast.ClassDef(keywords=keywords):
            return [*keywords]
        case ast.AnnAssign(value=value):
            return [value] if value is not None else []
    inner = (ast.stmt, ast.excepthandler, ast.match_case)
    return [child for child in ast.iter_child_nodes(node) if not isinstance(child, inner)]


def _bodies(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        yield from [body] if isinstance(body := getattr(node, name, None), list) else []
    for case in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
        yield case.body


def _lines_of(node: ast.stmt) -> tuple[int, int]:
    """Of a compound statement its head, else all of it."""
    inner = [body[0].lineno for body in _bodies(node) if body]
    last = node.end_lineno or node.lineno
    return node.lineno, max(node.lineno, min(inner) - 1) if inner else last


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
