"""What can't matter to anybody but a reader: texts, types, logs, the way objects print."""

import ast

LOGGERS = {"_log", "log", "logger", "logging", "warnings"}
TYPE_MAKERS = {"TypeVar", "NewType", "ParamSpec", "Literal", "Annotated", "Union", "Optional", "cast", "get_logger"}
PLAIN = {"str", "bytes", "int", "float", "bool", "list", "dict", "set", "tuple"}
SILENT = {"strict", "name", "stacklevel", "exc_info", "slots", "kw_only", "frozen", "eq", "gc"}
"""Keywords that no caller of ours can tell: of `zip`, of tasks, of data classes."""


def is_harmless(node: ast.AST) -> bool:
    """Say whether nothing below `node` is worth changing."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Import() | ast.ImportFrom() | ast.Assert() | ast.Pass():
            return True
        case ast.JoinedStr() | ast.FormattedValue() | ast.arg():
            return True
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return name in ("__repr__", "__str__") or _is_overload(node)
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Call():
            return _is_silent_call(node)
        case ast.Expr(value=ast.Call() as call):
            return _is_silent_call(call)
        case ast.keyword(arg=arg):
            return arg in SILENT
        case ast.Subscript(value=ast.Name(id=name)):
            return name in TYPE_MAKERS
        case ast.BinOp():
            return _is_type(node)
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name in ("__all__", "__slots__") or _is_type(value)
    return False


def is_task_name(node: ast.AST, child: ast.AST) -> bool:
    """Say whether `child` names the task that `node` begins: it stands in a line of the log, should that fail."""
    match node:
        case ast.Call(func=ast.Name(id="begin" | "begin_lasting"), args=[_, name]):
            return child is name
    return False


def is_prose(value: str | bytes) -> bool:
    """Say whether a constant is a sentence: two words or more, or what a sentence is put together with."""
    text = value if isinstance(value, str) else value.decode("latin-1")
    return " " in text.strip() or text in (", ", "; ", " ")


def _is_silent_call(call: ast.Call) -> bool:
    match call.func:
        case ast.Attribute(value=ast.Name(id=owner)):
            return owner in LOGGERS
        case ast.Attribute(value=ast.Attribute(attr=owner)):
            return owner in LOGGERS
        case ast.Name(id=name):
            return name in TYPE_MAKERS
    return False


def _is_type(value: ast.expr) -> bool:
    """Say whether an assignment names a type: `Asked = Job | Exception`."""
    match value:
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return all(_is_type(side) or _names_type(side) for side in (left, right))
        case ast.Subscript(value=ast.Name(id=name)):
            return name in TYPE_MAKERS or name[0].isupper()
    return False


def _names_type(node: ast.expr) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in PLAIN or (name[0].isupper() and not name.isupper())
        case ast.Constant(value=value):
            return value is None
    return False


def _is_overload(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(one, ast.Name) and one.id == "overload" for one in node.decorator_list)
