"""Modules that may be compiled: each of their tests runs with what is written in Python, and with what is imported."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def is_compiled(module: ModuleType) -> bool:
    """Whether an extension was imported in place of the module's Python."""
    return str(module.__file__).endswith(".so")


def in_python(module: ModuleType) -> ModuleType:
    """The module as it is written in Python."""
    name = module.__name__.rpartition(".")[2]
    path = Path(str(module.__file__)).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"{module.__name__}_in_python", path)
    assert spec is not None
    assert spec.loader is not None
    original = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(original)
    return original


def both(module: ModuleType) -> list[Any]:
    """The module as it is written in Python, and, where it is compiled, in C: as pytest's parameters."""
    original = in_python(module)
    return [pytest.param(original, id="python"), *([pytest.param(module, id="c")] if is_compiled(module) else [])]
