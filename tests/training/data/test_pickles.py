"""What is read of a pickle, and what is refused."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from training.data.pickles import load_pickle
from training.errors import DataError, ForbiddenPickleError


@pytest.mark.parametrize("name", ["builtins eval", "builtins getattr", "numpy.testing measure", "numpy load"])
def test_only_globals_that_annotations_need_are_unpickled(tmp_path: Path, name: str) -> None:
    module, _, attribute = name.partition(" ")
    (tmp_path / "a.pkl").write_bytes(f"c{module}\n{attribute}\n.".encode())
    with pytest.raises(ForbiddenPickleError, match=f"{module}.{attribute}"):
        load_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_survive_every_protocol(tmp_path: Path, protocol: int) -> None:
    stored = {
        "box": np.array([[1, 2, 3, 4.5]], dtype=np.float32),
        "empty": np.zeros((0, 4)),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "foreign": np.arange(3, dtype=">i4"),
    }
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({**stored, "score": np.float32(2.5), "names": {"a"}}, protocol))
    loaded = load_pickle(path)
    assert (loaded["score"], loaded["names"]) == (2.5, {"a"})
    for name, array in stored.items():
        np.testing.assert_array_equal(np.asarray(loaded[name]), array)
        assert np.asarray(loaded[name], dtype=np.float64).dtype == np.float64


def test_arrays_of_python_2_are_read(tmp_path: Path) -> None:
    # What Python 2.7 with NumPy 1 writes at protocol 0 for array([[1.]], dtype=float32)
    pickled = (
        b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nS'b'\np3\ntp4\nRp5\n"
        b"(I1\n(I1\nI1\ntp6\ncnumpy\ndtype\np7\n(S'f4'\np8\nI0\nI1\ntp9\nRp10\n"
        b"(I3\nS'<'\np11\nNNNI-1\nI-1\nI0\ntp12\nbI00\nS'\\x00\\x00\\x80?'\np13\ntp14\nb."
    )
    (tmp_path / "a.pkl").write_bytes(pickled)
    assert np.asarray(load_pickle(tmp_path / "a.pkl")).tolist() == [[1.0]]


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(np.array([{}], dtype=object)))
    with pytest.raises(DataError, match="an array holds object, not numbers"):
        load_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize("encoding", ["zip", "rot13"])
def test_bytes_are_only_decoded_as_latin_1(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.pkl").write_bytes(f"c_codecs\nencode\n(Va\nV{encoding}\ntR.".encode())
    with pytest.raises(DataError, match=f"bytes are stored in '{encoding}', not in latin1"):
        load_pickle(tmp_path / "a.pkl")


def test_an_array_must_have_the_bytes_of_its_shape(tmp_path: Path) -> None:
    honest = pickle.dumps(np.arange(3, dtype=np.uint8), 0)
    assert b"(I3\n" in honest
    (tmp_path / "a.pkl").write_bytes(honest.replace(b"(I3\n", b"(I9\n"))
    with pytest.raises(DataError, match="is not a complete pickle of annotations"):
        load_pickle(tmp_path / "a.pkl")
