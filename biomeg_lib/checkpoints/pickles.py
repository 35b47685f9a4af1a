"""Pickles of tensors and plain containers, read as data: nothing in the file can name code that then runs.

`pickletools` decodes the instructions and a small stack machine here carries them out. It imports nothing and calls
nothing but `_BUILDERS`; any other global is either listed in `pickle_names`, and becomes an `Opaque` that holds only
its name, or is refused. It does not hand over to `torch.load`: so there is no second reader that might see another file
in the same bytes, and what `weights_only` cannot read (`defaultdict`, `deque`, protocols above 2) can be read.

Notable: time and memory are bounded by the number of instructions, since what would copy a thing that has been made
before is counted by its length; tensors are views of storages that the caller supplies, and no larger than these.
"""

import io
import itertools
import math
import mmap
import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from biomeg_lib.checkpoints.pickle_names import DTYPES, INERT, PACKAGES, STORAGE_TYPES

# The storage of a name, as one row of that type and number of elements; called again for a storage that is shared.
Storages = Callable[[str, torch.dtype, int], Tensor]

_MOST_STEPS = 500_000  # instructions and copied items; a checkpoint takes some thousands, its random states more
_MOST_VALUES = 10_000_000  # with every repeated container counted each time: what walking the result would visit
_MOST_DEPTH = 100
MOST_DIMENSIONS = 16
_MOST_ARGUMENTS = 16  # of a call, and parts of a key
_LONGEST_NAME = 500  # of a global
_MOST_BITS = 128  # of an integer
_LARGEST_KEY = 2**53  # an integer: PyTorch before 1.6 names an optimizer's parameters by their addresses
_LARGEST_PART = 2**31  # of a key, an integer

_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # torch.save writes protocol 2 with these names

# Not those of protocols 0 and 1, in which there are no storages.
_PUSHED = {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING"}
_PUSHED |= {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class Problem(Exception):
    """What was expected and what was found instead; who opened the file adds its path."""

    def __init__(self, found: str, expected: str = "tensors and plain containers"):
        super().__init__(f"expected {expected}, found {found}")


@dataclass(frozen=True, eq=False)
class Opaque:
    """Stands for an object that is not read, an enum of Megatron or a NumPy array; `name` is that of what makes it."""

    name: str


def read(stream: io.BytesIO | mmap.mmap, storages: Storages) -> Any:
    """Carry out one pickle; the stream is left behind its end.

    Args:
        stream: something in memory, so that a length in the file is cut to what is there before memory is taken.
        storages: supplies what tensors are views of; raises Problem where there is not as much as is asked for.
    Returns:
        dict, list, tuple, str, bytes, numbers, booleans, None, dtypes, tensors and `Opaque`. OrderedDict, defaultdict
        and Counter become dict, as do argument namespaces; deque becomes list.
    Raises:
        Problem: a pickle that is damaged, asks for any other global or is absurd.
    """
    try:
        result = _Machine(storages).run(stream)
        _measure(result, {}, 0)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, TypeError, ValueError) as error:
        raise Problem(f"a damaged pickle ({brief(error)})", "an intact file of PyTorch") from error
    return result


def brief(value: object) -> str:
    """A value from the file or an error about it, short, printable and on one line; of a container the type alone."""
    if not isinstance(value, str | int | float | BaseException | None):
        return type(value).__name__  # one of a few bytes can have a text without end
    try:
        text = " ".join(str(value)[:_LONGEST_NAME].split())
    except ValueError:
        text = "a number of thousands of digits"
    return ascii((text or type(value).__name__)[:80])[1:-1]


def shown(value: object) -> str:
    """As `brief`, and text in quotes."""
    return f"'{brief(value)}'" if isinstance(value, str) else brief(value)


class _Machine:
    """The stack machine of a pickle. What is wrong with its instructions may raise any of the errors in `read`."""

    def __init__(self, storages: Storages):
        self.storages = storages
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []  # the stacks below each mark
        self._memo: dict[int, Any] = {}  # not a list: a pickle may name any number first
        self._namespaces: dict[int, dict[Any, Any]] = {}  # id -> the dictionary whose attributes are its items
        self._steps = 0

    def run(self, stream: io.BytesIO | mmap.mmap) -> Any:
        for instruction, argument, _ in pickletools.genops(stream):
            self.spend(1)
            self._step(instruction.name, argument)
        return self._stack.pop()

    def spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MOST_STEPS:
            raise Problem(f"a pickle of more than {_MOST_STEPS:,} instructions")

    def _step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            if isinstance(argument, int) and argument.bit_length() > _MOST_BITS:
                raise Problem(f"an integer of {argument.bit_length():,} bits")
            self._stack.append(argument)
            return
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
            return
        match name:
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case "BINGET" | "LONG_BINGET":
                self._stack.append(self._memo[argument])
            case "MARK":
                self._marked.append(self._stack)
                self._stack = []
            case "TUPLE":
                items = self._pop_marked()
                self._stack.append(tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                if len(self._stack) < count:
                    raise IndexError("a tuple of more than there is")
                self._stack[-count:] = [tuple(self._stack[-count:])]
            case "GLOBAL":
                self._stack.append(_find(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute = self._stack.pop()
                self._stack.append(_find(self._stack.pop(), attribute))
            case "REDUCE" | "NEWOBJ":
                arguments = self._stack.pop()
                self._stack.append(self._build(self._stack.pop(), arguments))
            case "NEWOBJ_EX":
                arguments = self._stack[-2]
                del self._stack[-2:]
                self._stack.append(self._build(self._stack.pop(), arguments))
            case "BINPERSID":
                self._stack.append(self._storage(self._stack.pop()))
            case "EMPTY_DICT":
                self._stack.append({})
            case "EMPTY_LIST":
                self._stack.append([])
            case "EMPTY_SET":
                self._stack.append(Opaque("builtins.set"))
            case "FROZENSET":
                self._pop_marked()
                self._stack.append(Opaque("builtins.frozenset"))
            case "APPEND":
                self._extend([self._stack.pop()])
            case "APPENDS" | "ADDITEMS":
                self._extend(self._pop_marked())
            case "SETITEM":
                value = self._stack.pop()
                self._update([(self._stack.pop(), value)])
            case "SETITEMS":
                self._update(_pairs(self._pop_marked()))
            case "BUILD":
                self._set_state(self._stack.pop())
            case "POP":
                self._stack.pop()
            case "POP_MARK":
                self._pop_marked()
            case "DUP":
                self._stack.append(self._stack[-1])
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _:
                raise Problem(f"the pickle instruction {name}")

    def _pop_marked(self) -> list[Any]:
        items = self._stack
        self._stack = self._marked.pop()
        return items

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise TypeError("items for what is no list")

    def _update(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        target = self._stack[-1]
        if isinstance(target, dict):
            target.update(_mapping(pairs))
        elif not isinstance(target, Opaque):
            raise TypeError("items for what is no dictionary")

    def _set_state(self, state: Any) -> None:
        """The attributes of an object: all there is in a namespace, and nothing that is kept in anything else."""
        target = self._stack[-1]
        if id(target) in self._namespaces:
            self.spend(len(state))
            target.update(_mapping(state.items()))
        elif not isinstance(target, dict | list | Opaque | Tensor):
            raise TypeError("a state for what has none")

    def _build(self, maker: Any, arguments: Any) -> Any:
        if not isinstance(maker, Opaque) or not isinstance(arguments, tuple):
            raise TypeError("a call of what is no global")
        if maker.name not in _BUILDERS:
            return Opaque(maker.name)
        if len(arguments) > _MOST_ARGUMENTS:
            raise TypeError("a call with too many arguments")
        return _BUILDERS[maker.name](self, *arguments)

    def _storage(self, identity: Any) -> Tensor:
        if not isinstance(identity, tuple) or len(identity) > 6:
            raise TypeError("something else in place of a storage")
        kind, storage_type, key, _, count, *view = identity
        if kind != "storage" or not isinstance(key, str) or not isinstance(storage_type, Opaque) or not _is_size(count):
            raise TypeError("something else in place of a storage")
        if storage_type.name not in STORAGE_TYPES:
            raise Problem(f"numbers of the type {brief(storage_type.name)}")
        if any(view):
            raise Problem("a view of a storage, which only PyTorch before 0.4 wrote")
        return self.storages(key, STORAGE_TYPES[storage_type.name], count)

    def namespace(self, *_: Any) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        self._namespaces[id(made)] = made
        return made

    def reconstructed(self, maker: Any, *_: Any) -> Any:
        return self._build(maker, ())

    def tensor_with_attributes(self, maker: Any, _type: Any, arguments: Any, _state: Any) -> Any:
        if not isinstance(maker, Opaque) or maker.name not in _TENSOR_BUILDERS:
            raise Problem("a tensor that is made in another way")
        return self._build(maker, arguments)


def _find(module: Any, attribute: Any) -> Any:
    if not isinstance(module, str) or not isinstance(attribute, str) or len(module + attribute) > _LONGEST_NAME:
        raise TypeError("a global whose name is none")
    name = f"{_PYTHON_2.get(module, module)}.{attribute}"
    if name in DTYPES:
        return DTYPES[name]
    known = name in _BUILDERS or name in INERT or name in STORAGE_TYPES
    if not known and module.split(".")[0] not in PACKAGES:
        raise Problem(f"{brief(name)}, which could run code")
    return Opaque(name)


def _pairs(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


def _mapping(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dictionary with keys that hash at once: a tuple of tuples of ... can take as good as for ever.

    Nor do they all hash alike, which takes time that grows with the square of their number, as integers do that differ
    by multiples of 2**61 - 1, and tuples of such, of -1 and -2, of integers and floats, or of None and its hash.
    """
    made = {}
    for key, value in pairs:
        if isinstance(key, tuple) and len(key) > _MOST_ARGUMENTS:
            raise Problem(f"a dictionary key of {len(key):,} parts")
        for part in key if isinstance(key, tuple) else (key,):
            if not isinstance(part, str | bytes | int | float | Opaque | torch.dtype | None):
                raise Problem(f"a dictionary key of {type(part).__name__}")
            if isinstance(part, int) and abs(part) > _LARGEST_KEY:
                raise Problem("a dictionary key that is a huge number")
            is_plain = not isinstance(part, int | float) or (isinstance(part, int) and 0 <= part <= _LARGEST_PART)
            if isinstance(key, tuple) and not is_plain:
                raise Problem("a dictionary key with a number in it that counts nothing")
        made[key] = value
    return made


def _dictionary(machine: _Machine, items: Any = ()) -> dict[Any, Any]:
    machine.spend(len(items))
    return _mapping(items.items() if isinstance(items, dict) else items)


def _default_dictionary(machine: _Machine, _factory: Any = None, items: Any = ()) -> dict[Any, Any]:
    return _dictionary(machine, items)


def _deque(machine: _Machine, items: Any = (), _length: Any = None) -> list[Any]:
    machine.spend(len(items))
    return list(items)


def _size(machine: _Machine, items: Any = ()) -> tuple[Any, ...]:
    return tuple(_deque(machine, items))


def _attribute(_: _Machine, target: Any, name: Any) -> Opaque:
    """An enum's member, as some releases of Python 3.11 and 3.12 write it; never anything of another object."""
    if not isinstance(target, Opaque) or target.name.split(".")[0] not in PACKAGES:
        raise Problem("builtins.getattr, which could run code")
    return Opaque(target.name)


def _tensor(_: _Machine, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    """A view of a storage; `rest` is requires_grad, hooks and flags, of which only the last change the numbers."""
    if not isinstance(storage, Tensor) or storage.dim() != 1:
        raise TypeError("a tensor without a storage")
    if len(size) > MOST_DIMENSIONS:
        raise Problem(f"a tensor of {len(size):,} dimensions")
    if len(size) != len(stride) or not all(map(_is_size, (offset, *size, *stride))):
        raise TypeError("a tensor of no shape")
    if len(rest) > 2 and rest[2]:
        raise Problem("a tensor that is yet to be conjugated or negated")
    count = math.prod(size)
    end = offset + 1 + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) if count else 0
    if max(count, end) > storage.numel():
        claim = max(count, end)
        raise Problem(f"a tensor that claims {claim:,} elements of a storage of {storage.numel():,}")
    return storage.as_strided(tuple(size), tuple(stride), offset if count else 0)


def _typed_tensor(machine: _Machine, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    _requires_grad, _hooks, dtype, *flags = rest
    if not isinstance(storage, Tensor) or not isinstance(dtype, torch.dtype):
        raise TypeError("a tensor without a storage")
    whole = storage[: storage.numel() - storage.numel() % dtype.itemsize].view(dtype)
    return _tensor(machine, whole, offset, size, stride, _requires_grad, _hooks, *flags)


def _parameter(_: _Machine, data: Any, *_rest: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise TypeError("a parameter that is no tensor")
    return data


_TENSOR_BUILDERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
_BUILDERS: dict[str, Callable[..., Any]] = _TENSOR_BUILDERS | {
    "torch._tensor._rebuild_from_type_v2": _Machine.tensor_with_attributes,
    "torch.Size": _size,
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,
    "collections.defaultdict": _default_dictionary,
    "collections.deque": _deque,
    "argparse.Namespace": _Machine.namespace,
    "types.SimpleNamespace": _Machine.namespace,
    "copyreg._reconstructor": _Machine.reconstructed,
    "builtins.getattr": _attribute,
}


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 0


def _measure(value: Any, known: dict[int, tuple[int, int]], depth: int) -> tuple[int, int]:
    """How many values a walk through the containers would visit, and how deep it would go.

    Containers that hold each other or themselves over and over would hold up every reader of the result.
    """
    if not isinstance(value, dict | list | tuple):
        return 1, 0
    if id(value) in known:
        return known[id(value)]
    visits = height = 0
    for item in itertools.chain(value, value.values()) if isinstance(value, dict) else value:
        item_visits, item_height = _measure(item, known, depth + 1) if depth < _MOST_DEPTH else (1, _MOST_DEPTH)
        visits, height = visits + item_visits, max(height, item_height)
    if visits >= _MOST_VALUES or height >= _MOST_DEPTH:
        raise Problem("containers within containers without end")
    known[id(value)] = visits + 1, height + 1
    return known[id(value)]
