"""Reads annotation pickles without running anything that they ask for.

A pickle is a program: loading one may call any function of any module. Annotation files need containers, numbers,
strings and numeric arrays, so only the names that those are stored under are known here. NumPy's own rebuilding
functions are replaced by stand-ins, because an array whose type is forged in the file can point NumPy at memory that is
not its own.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training.errors import DataError, ForbiddenPickleError

_NUMERIC_KINDS: Final = "biufSU"


class PickledArray:
    """A numeric array of a pickle: `np.asarray(it)` gives the array. `len(it)` is its first dimension."""

    __slots__ = ("_array",)

    _array: npt.NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # (version, shape, dtype, whether in Fortran order, bytes); Python 2 left out the version
        shape, dtype, fortran, data = state[-4:]
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError(f"an array has the type {dtype!r}")
        # Python 2 stored bytes as text in latin-1.
        stored = np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype=dtype.dtype)
        self._array = stored.reshape(shape, order="F" if fortran else "C")

    def __len__(self) -> int:
        return len(self._array)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self._array, dtype=dtype)


class _Dtype:
    """Stand-in for a pickled `numpy.dtype`: a numeric type and its byte order."""

    __slots__ = ("dtype",)

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        dtype = np.dtype(str(code))
        if dtype.kind not in _NUMERIC_KINDS:
            raise pickle.UnpicklingError(f"an array holds {dtype}, not numbers")
        self.dtype = dtype

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # (version, byte order, …): what follows describes records, which numeric arrays are not.
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def _reconstruct(array_type: object, shape: object, code: object) -> PickledArray:
    """`numpy.core.multiarray._reconstruct`: returns an empty array, whose state follows in the file."""
    return PickledArray()


def _from_buffer(data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str = "C") -> PickledArray:
    """`numpy.core.numeric._frombuffer`: returns an array of pickle protocol 5."""
    array = PickledArray()
    array.__setstate__((shape, dtype, order == "F", data))
    return array


def _scalar(dtype: _Dtype, data: bytes | str) -> Any:
    """`numpy.core.multiarray.scalar`: returns one number."""
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype=dtype.dtype)[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """`_codecs.encode`, with which Python 3 stores bytes for Python 2; other codecs can unpack a bomb."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes are stored in {encoding!r}, not in latin1")
    return text.encode("latin1")


_BUILTINS: Final[dict[str, Callable[..., Any]]] = {
    kind.__name__: kind
    for kind in (bool, bytearray, bytes, complex, dict, float, frozenset, int, list, set, str, tuple)
}
_NUMPY: Final[dict[str, Callable[..., Any]]] = {
    "multiarray._reconstruct": _reconstruct,
    "multiarray.scalar": _scalar,
    "numeric._frombuffer": _from_buffer,
}
_KNOWN: Final[dict[str, Callable[..., Any]]] = {
    **{f"{module}.{name}": kind for module in ("builtins", "__builtin__") for name, kind in _BUILTINS.items()},
    # numpy.core became numpy._core in NumPy 2.
    **{f"numpy.{core}.{name}": stand_in for core in ("core", "_core") for name, stand_in in _NUMPY.items()},
    "numpy.ndarray": PickledArray,
    "numpy.dtype": _Dtype,
    "_codecs.encode": _encode,
}

_BROKEN: Final = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    OverflowError,
    TypeError,
    ValueError,
)
"""Errors of unpickling a file that is cut, forged or no pickle at all (the list of Python's documentation)."""


class _AnnotationUnpickler(pickle.Unpickler):
    def __init__(self, file: Any, path: Path) -> None:
        # Strings of Python 2 are bytes; latin-1 reads them all.
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}"
        if name not in _KNOWN:
            raise ForbiddenPickleError(
                f"{self._path} asks for {name}, which annotations never need; nothing was run. Do not open this file "
                "with pickle.load; take it again from where Action Genome is published"
            )
        return _KNOWN[name]


def load_pickle(path: Path) -> Any:
    """Loads an annotation pickle; its arrays are `PickledArray`.

    Raises ForbiddenPickleError where the file asks for any function or class but those of containers, numbers and
    numeric arrays; DataError where it is missing or no complete pickle.
    """
    try:
        with path.open("rb") as file:
            return _AnnotationUnpickler(file, path).load()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}; `vsg data check` finds everything that is wrong"
        ) from error
    except _BROKEN as error:
        raise DataError(f"{path} is not a complete pickle of annotations ({error}); copy it here again") from error
