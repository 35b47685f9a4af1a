"""Params files: YAML in, one validated object out, and every mistake as one line that names the file and the line.

The schema itself is in `study.py`. This module knows YAML and pydantic's error objects, and nothing of the study: it
turns the place of an error (a path of keys) into a line number by walking the YAML node tree.
"""

import difflib
import reprlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from biomeg_lib.errors import BiomegError, InputError

Schema = TypeVar("Schema", bound=BaseModel)
Location = Sequence[str | int]
MERGED_KEYS = 10_000  # a study of hundreds of runs has a tenth
_MERGE = "tag:yaml.org,2002:merge"
TAG = "kind"  # the key by which entries of several kinds are told apart; pydantic puts its value into an error's path

_short = reprlib.Repr()  # a list of aliases of lists of aliases has no end when it is spelt out
_short.maxstring = _short.maxother = 60


class _Loader(yaml.SafeLoader):
    """SafeLoader, with a place for a value that looks like a date or a number and is none, and an end to merging.

    Mappings that merge (<<) others that merge others grow tenfold with each line that names the one before ten times.
    """

    merged = 0  # keys, in the whole file

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, ArithmeticError, AttributeError, LookupError) as error:  # as PyYAML's own code raises them
            problem = f"a value of the type {node.tag.rpartition(':')[2]}, found {_short.repr(node.value)}"
            problem = str(error) if isinstance(error, ValueError) else problem
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, value in node.value:
            if key.tag == _MERGE:
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(source, yaml.MappingNode):
                        self.flatten_mapping(source)
                        self.merged += len(source.value)
                    if self.merged > MERGED_KEYS:
                        problem = f"at most {MERGED_KEYS:,} keys that are merged (<<), found more"
                        raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        super().flatten_mapping(node)


class ParamsFile:
    """A parsed YAML mapping that remembers where each key stands.

    Raises:
        InputError: the file is absent, not YAML, not a mapping, or has a key twice or one that is not text.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            text = self.path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            others = sorted(p.name for p in self.path.parent.glob("*.yaml"))
            known = f"; there are {', '.join(others)}" if others else ""
            raise InputError(self.path, f"expected a params file, found none{known}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(self.path, f"expected a readable UTF-8 file: {error}") from None
        try:
            self.root = yaml.compose(text, Loader=yaml.SafeLoader)
            self._check_keys(self.root, (), set())
            values = yaml.load(text, Loader=_Loader)  # the nodes anew: merging keys (<<) changes them
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or "not readable"
            raise InputError(self.path, f"expected YAML: {problem}", mark.line + 1 if mark else None) from None
        except RecursionError:
            raise InputError(self.path, "expected YAML: nested too deeply") from None
        if not isinstance(values, dict):
            raise InputError(self.path, "expected a mapping of keys to values")
        self.values: dict[str, Any] = values

    def _check_keys(self, node: yaml.Node, ancestors: tuple[yaml.Node, ...], done: set[yaml.Node]) -> None:
        if any(node is ancestor for ancestor in ancestors):
            raise InputError(self.path, "expected a finite structure, found an anchor that contains itself")
        if node in done:  # reached by another alias
            return
        done.add(node)
        children: Iterable[yaml.Node] = ()
        if isinstance(node, yaml.MappingNode):
            seen: dict[str, int] = {}
            for key, _ in node.value:
                line = key.start_mark.line + 1
                if key.tag not in ("tag:yaml.org,2002:str", _MERGE):
                    raise InputError(self.path, f"expected text as a key, found {key.value!r}; put it in quotes", line)
                if key.value in seen:
                    raise InputError(
                        self.path, f"expected each key once, found {key.value!r} also in line {seen[key.value]}", line
                    )
                seen[key.value] = line
            children = [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        for child in children:
            self._check_keys(child, (*ancestors, node), done)

    def line(self, location: Location) -> int:
        """The 1-based line of a key path; of its nearest ancestor, if the key itself is not in the file."""
        node, line = self.root, self.root.start_mark.line + 1
        for part in location:
            if isinstance(node, yaml.MappingNode):
                found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
                if found is None:
                    break
                line, node = found[0].start_mark.line + 1, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
        return line

    def error(self, location: Location, expected: str) -> InputError:
        """An error at a key path of this file."""
        return InputError(self.path, f"{dotted(location)}: {expected}", self.line(location))


class Injected:
    """Values without a file (a notebook's parameters cell): errors name the parameter instead of a line."""

    def __init__(self, values: dict[str, Any]):
        self.values = values

    def error(self, location: Location, expected: str) -> BiomegError:
        """An error at a key path of the parameters."""
        return BiomegError(f"parameters: {dotted(location)}: {expected}")


def dotted(location: Location) -> str:
    """`('seeds', 0)` -> `seeds[0]`; always one line."""
    text = ""
    for part in location:
        shown = part if isinstance(part, int) or part.isprintable() else repr(part)
        text += f"[{part}]" if isinstance(part, int) else f".{shown}" if text else f"{shown}"
    return text


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to say about a name nobody knows: the nearest known one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are {', '.join(names)}" if names else "none is defined"


def validate(schema: type[Schema], source: ParamsFile | Injected) -> Schema:
    """`source.values` as a `schema` object.

    Raises:
        BiomegError: one line for the first mistake, with the number of further ones.
    """
    try:
        return schema.model_validate(source.values)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        first = min(mistakes, key=lambda m: m["type"] != "extra_forbidden")  # of a misspelt key, not "expected"
        location = _place(source.values, first)
        more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
        raise source.error(location, _expected(schema, first, location) + more) from None


def _place(values: Any, mistake: Any) -> list[str | int]:
    """Where a mistake is, as a path of keys of the file: without what pydantic adds to it."""
    location: list[str | int] = []
    parts = [part for part in mistake["loc"] if part != "[key]"]
    for i, part in enumerate(parts):
        if isinstance(values, dict) and part == values.get(TAG) and i + 1 < len(parts):
            continue
        location.append(part)
        if isinstance(values, dict):
            values = values.get(part)
        elif isinstance(values, list) and isinstance(part, int):
            values = values[part]
    return [*location, TAG] if mistake["type"].startswith("union_tag") else location


def _expected(schema: type[BaseModel], mistake: Any, location: list[str | int]) -> str:
    """pydantic's message in this project's words."""
    if mistake["type"] == "extra_forbidden":
        fields = _fields_at(schema, location[:-1])
        return f"unknown key; {suggestion(str(location[-1]), fields)}" if fields else "unknown key"
    if mistake["type"] in ("missing", "union_tag_not_found"):
        return "expected this key, found none"
    if mistake["type"] == "union_tag_invalid":
        return f"expected {mistake['ctx']['expected_tags'].replace(', ', ' or ')}, found {mistake['ctx']['tag']!r}"
    if mistake["type"] == "string_pattern_mismatch":
        return f"expected a name that matches {mistake['ctx']['pattern']}, found {_short.repr(mistake['input'])}"
    if mistake["type"] == "credentials":
        return mistake["msg"]  # what was found is secret
    found = _short.repr(mistake["input"])
    message = mistake["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"expected {message}, found {found if len(found) < 60 else found[:57] + '...'}"


def _fields_at(schema: type[BaseModel], location: list[str | int]) -> list[str]:
    """The keys that are allowed at a path, looking through the schema's dictionaries, lists and unions."""
    candidates: list[Any] = [schema]
    for part in location:
        following: list[Any] = []
        for candidate in candidates:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                field = candidate.model_fields.get(str(part))
                following += [field.annotation] if field else []
            else:
                following += [a for a in getattr(candidate, "__args__", ()) if a is not str]
        candidates = following
    fields: list[str] = []
    queue = candidates
    while queue:
        candidate = queue.pop()
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            fields += candidate.model_fields
        else:
            queue += [a for a in getattr(candidate, "__args__", ()) if not isinstance(a, str)]
    return fields
