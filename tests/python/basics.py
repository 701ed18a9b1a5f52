"""Everything once, in both forms, against the master given as argument."""
import math
import sys

from glint_client import Client, GlintError

client = Client(sys.argv[1], deadline=20)
vector = client.create("from-python", {"vector": {"keys": 10}}, "f64", partitions={"exactly": 3})
vector.push([0, 9, 0], [1.0, 2.0, 0.25])
vector.push([9, 0], [0.5, 0.25], as_json=True)
assert vector.pull([9, 0, 5, 9]) == [2.5, 1.5, 0.0, 2.5]
assert vector.pull([9, 0], as_json=True) == [2.5, 1.5]
assert vector.pull([]) == []
vector.push([5], [math.nan])
assert math.isnan(vector.pull([5])[0]) and vector.pull([5], as_json=True) == ["NaN"]

for partitioning in ("range", "cyclic", {"boundaries": {"starts": [0, 2, 2, 5]}}):
    name = partitioning if isinstance(partitioning, str) else "boundaries"
    matrix = client.create(name, {"matrix": {"rows": 7, "cols": 3}}, "i64", partitioning=partitioning,
                           **({} if name == "boundaries" else {"partitions": {"exactly": 4}}))
    rows = list(range(7))
    for as_json in (False, True):
        matrix.push(rows[::-1], [-(2**40) - v for v in range(21)], as_json)
    expected = [2 * (-(2**40) - ((6 - row) * 3 + col)) for row in rows for col in range(3)]
    assert matrix.pull(rows) == expected, (name, matrix.pull(rows))
    assert matrix.pull(rows, as_json=True) == expected
    assert client.open(name).pull([6]) == expected[18:]

largest = client.create("largest", {"vector": {"keys": 300_000}}, "f32", rule="max", initial=-1)
largest.push(list(range(300_000)), [float(v) for v in range(300_000)])
assert largest.pull([0, 299_999, 70_000]) == [0.0, 299_999.0, 70_000.0]

for mistake, code in (
    (lambda: client.open("nothing"), "unknown_model"),
    (lambda: client.create("range", {"vector": {"keys": 1}}, "i64"), "already_exists"),
    (lambda: client.create("range", {"vector": {"keys": 1}}, "i64", or_open=True), "spec_mismatch"),
    (lambda: client.create("a/b", {"vector": {"keys": 1}}, "i64"), "invalid_spec"),
):
    try:
        mistake()
        raise AssertionError(f"no {code}")
    except GlintError as error:
        assert error.code == code, error
try:
    vector.pull([10])
    raise AssertionError("key 10 of 10")
except IndexError as error:
    assert "10" in str(error)
