import tomllib

from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.toml_text import to_toml

keys = st.text(min_size=1, max_size=6)
scalars = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.booleans(), st.text(), st.floats(allow_nan=False, allow_infinity=True)
)
trees = st.recursive(
    st.dictionaries(keys, scalars | st.lists(scalars, max_size=3), max_size=4),
    lambda inner: st.dictionaries(keys, scalars | inner | st.lists(inner, min_size=1, max_size=2), max_size=4),
    max_leaves=10,
)


@given(trees)
def test_what_is_written_as_toml_reads_back_as_itself(tree: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(tree)) == tree
