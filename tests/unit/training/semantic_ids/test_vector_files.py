from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specbeam.training.errors import DatasetError
from specbeam.training.semantic_ids.vector_files import read_vectors

IDS = ("p1", "p2", "p3")
VECTORS = np.arange(6, dtype=np.float64).reshape(3, 2)
ORDER = (2, 0, 1)


def test_npy_is_in_item_order(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VECTORS)
    read = read_vectors(tmp_path / "v.npy", IDS)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, VECTORS)


def test_npz_goes_by_id(tmp_path: Path) -> None:
    ids = [IDS[row] for row in ORDER] + ["other"]
    np.savez(tmp_path / "v.npz", ids=ids, vectors=np.vstack([VECTORS[[*ORDER]], [[9, 9]]]))
    np.testing.assert_array_equal(read_vectors(tmp_path / "v.npz", IDS), VECTORS)


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 2)])
def test_parquet_goes_by_id(tmp_path: Path, kind: pa.DataType) -> None:
    rows = pa.array([VECTORS[row].tolist() for row in ORDER], kind)
    table = pa.table({"item_id": [IDS[row] for row in ORDER], "vector": rows})
    pq.write_table(table, tmp_path / "v.parquet")
    np.testing.assert_array_equal(read_vectors(tmp_path / "v.parquet", IDS), VECTORS)


def test_every_problem_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    np.savez(path, ids=["p3", "p3", "p2"], vectors=[[0.0], [1.0], [np.nan]])
    with pytest.raises(DatasetError) as caught:
        read_vectors(path, (*IDS, "p4"))
    assert caught.value.problems == (
        "item id 'p3' appears more than once",
        "no vector for item 'p1'",
        "no vector for item 'p4'",
        "vector of 'p2' is not finite",
    )


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2)), "2 rows, but the dataset has 3 items"),
        (np.zeros(3), r"expected an \(N, d\) array"),
        (np.zeros((3, 0)), r"expected an \(N, d\) array"),
        (np.full((3, 2), "x"), "expected numbers"),
        (np.full((3, 2), np.inf), "3 problems"),
        (np.full((3, 2), 1e300), "3 problems"),
        (np.array([[None]], object), "allow_pickle"),
    ],
)
def test_wrong_arrays(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(DatasetError, match=message):
        read_vectors(tmp_path / "v.npy", IDS)


def test_wrong_files(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("")
    with pytest.raises(DatasetError, match=r"\.npy, \.npz, \.parquet"):
        read_vectors(tmp_path / "v.csv", IDS)
    for name in ("v.npy", "v.npz", "v.parquet"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(DatasetError):
            read_vectors(tmp_path / name, IDS)
    np.savez(tmp_path / "v.npz", a=VECTORS)
    with pytest.raises(DatasetError, match="2 problems"):
        read_vectors(tmp_path / "v.npz", IDS)
    pq.write_table(pa.table({"item_id": ["p1"], "x": [1]}), tmp_path / "v.parquet")
    with pytest.raises(DatasetError, match="found item_id, x"):
        read_vectors(tmp_path / "v.parquet", IDS)
    ragged = pa.table({"item_id": ["p1", "p2"], "vector": [[1.0], [1.0, 2.0]]})
    pq.write_table(ragged, tmp_path / "v.parquet")
    with pytest.raises(DatasetError, match="'p1' has 1 numbers, expected 2"):
        read_vectors(tmp_path / "v.parquet", IDS)
