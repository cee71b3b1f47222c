"""A file, or ``module:Model`` of pydantic → the document of a JSON Schema."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import orjson

from pipeline.errors import SchemaError
from pipeline.typed.schema import AnswerSchema

_MODEL: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def read_schema(told: str) -> AnswerSchema:
    """The schema that a person names: the path of a JSON file, or ``module:Model``.

    A model is imported, from the current directory too; any object with pydantic's ``model_json_schema`` or
    ``json_schema`` will do. Its own Python validators do not run.

    Raises:
        SchemaError: there is no such file or model, or it is no JSON Schema.
    """
    path = Path(told)
    is_model = _MODEL.fullmatch(told) is not None and not path.exists()
    try:
        return AnswerSchema.of(_of_model(told) if is_model else _of_file(path))
    except SchemaError as error:
        raise SchemaError(f"--schema {told}: {error}") from None


def _of_file(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        raise SchemaError(f"cannot be read ({error.strerror}); it is a JSON file, or module:Model") from None
    except orjson.JSONDecodeError as error:
        raise SchemaError(f"is no JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None


def _of_model(told: str) -> Any:
    module_name, _, name = told.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found: Any = import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if error.name == "pydantic":
            raise SchemaError("pydantic is not installed: pip install 'mediabatch[pydantic]'") from None
        raise SchemaError(f"there is no module {error.name!r}, here or installed") from None
    except AttributeError:
        raise SchemaError(f"the module {module_name} has no {name}") from None
    except Exception as error:  # noqa: BLE001 - somebody's module may raise anything while it is imported
        raise SchemaError(f"cannot be imported ({type(error).__name__}: {error})") from None
    finally:
        sys.path.remove(here)
    for method in ("model_json_schema", "json_schema"):
        make = getattr(found, method, None)
        if callable(make):
            try:
                return make()
            except Exception as error:  # noqa: BLE001 - pydantic's own errors, which we do not import
                raise SchemaError(f"makes no JSON Schema ({type(error).__name__}: {error})") from None
    raise SchemaError("is no pydantic model: it has no model_json_schema")
