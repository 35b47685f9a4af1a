"""The JSON and YAML files beside weights, which nobody vouches for: a config, an index, a tokeniser."""

from pathlib import Path
from typing import Any

import yaml

from biomeg_lib.checkpoints.pickles import brief
from biomeg_lib.errors import InputError
from biomeg_lib.files import read_json

_LONGEST = 8 << 20  # bytes; real ones have some thousand, an index a hundred for each weight
_LONGEST_CONFIG = 1 << 20  # bytes of YAML; real ones have some thousand
_LONGEST_NUMBER, _LARGEST_NUMBER = 40, 2**63  # characters; of an integer


def read_side_file(path: Path, longest: int = _LONGEST) -> Any:
    """The values of a JSON file.

    Args:
        longest: bytes that it may have: in memory a value takes up to twenty times as many.

    Raises:
        InputError: absent, damaged, or longer.
    """
    if path.is_file() and (size := path.stat().st_size) > longest:
        raise InputError(path, f"expected at most {longest:,} bytes of JSON, found {size:,}")
    return read_json(path)


class _Loader(yaml.SafeLoader):
    """YAML without what takes long: aliases, by which a few bytes stand for many, and numbers of any length in base 16
    or 60, many of which may also hash alike."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(problem="found an alias, which NeMo never writes")
        return super().compose_node(parent, index)

    def number(self, node: yaml.ScalarNode) -> Any:
        if len(node.value) > _LONGEST_NUMBER:
            raise yaml.constructor.ConstructorError(problem=f"found a number of {len(node.value):,} characters")
        if node.tag != "tag:yaml.org,2002:int":
            return self.construct_yaml_float(node)
        if abs(value := self.construct_yaml_int(node)) >= _LARGEST_NUMBER:
            raise yaml.constructor.ConstructorError(problem="found a huge number")
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.number)


def read_yaml_file(path: Path) -> Any:
    """The values of a YAML file that a program has written.

    Raises:
        InputError: absent, longer than `_LONGEST_CONFIG`, no YAML, or with what takes long.
    """
    if not path.is_file():
        raise InputError(path, "expected the configuration of a NeMo model, found none")
    if (size := path.stat().st_size) > _LONGEST_CONFIG:
        raise InputError(path, f"expected at most {_LONGEST_CONFIG:,} bytes of configuration, found {size:,}")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    # PyYAML itself fails at `!!int ""`, `!!bool x` and `!!timestamp x`.
    except (
        yaml.YAMLError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        reason = brief(getattr(error, "problem", None) or type(error).__name__)
        raise InputError(path, f"expected YAML, found another thing ({reason})") from None
    return values
