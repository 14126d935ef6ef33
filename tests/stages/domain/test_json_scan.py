"""The JSON scanner against Decimal, int and the json module."""

import json
import struct

from hypothesis import example, given
from hypothesis import strategies as st

from shm.kernel import kernel
from stages.domain.codecs import json_scan
from stages.domain.instruments import mantissa
from tests.entered import entered
from tests.stages.domain.guarded import Document


@kernel
def _decimal(at: int, end: int) -> tuple[int, int]:
    return json_scan.read_decimal(at, end)


@kernel
def _integer(at: int, end: int) -> tuple[int, int]:
    return json_scan.read_integer(at, end)


@kernel
def _name(at: int, end: int) -> tuple[int, int, int]:
    return json_scan.read_name(at, end)


@kernel
def _string(at: int, end: int) -> tuple[int, int, int]:
    return json_scan.read_string(at, end)


def _read(function, text: bytes, behind: bytes = b""):  # type: ignore[no-untyped-def]
    """(bytes read or error code, values...) of `text`."""
    document = Document(text, behind)
    cursor, *values = function(document.at, document.end)
    return (cursor - document.at if cursor >= 0 else cursor, *values)


digits = st.text("0123456789", min_size=1, max_size=22)
decimals = st.one_of(digits, st.builds("{}.{}".format, digits, digits))


@given(text=decimals, behind=st.sampled_from([b"", b"0", b'"', b"."]))
@example(text="61685.99000000", behind=b"")
@example(text="9999999.99999999", behind=b"")
@example(text="92233720368.54775807", behind=b"0")
@example(text="92233720368.54775808", behind=b"0")
@example(text="0.123456789", behind=b"")
@example(text="0.1234567800000000", behind=b"")
def test_decimal_is_the_exact_mantissa_or_the_right_error(text: str, behind: bytes) -> None:
    found = _read(_decimal, f'"{text}",'.encode(), behind)
    try:
        assert found == (len(text) + 2, mantissa(text))
    except ValueError as error:
        # Too many decimals and an overflow at once: either may be named.
        allowed = {"decimals": json_scan.TOO_MANY_DECIMALS, "64 bits": json_scan.OVERFLOW}
        expected = [code for words, code in allowed.items() if words in str(error)]
        assert found[0] in expected or found[0] in allowed.values()


@given(text=st.binary(max_size=24))
@example(b'""')
@example(b'".5"')
@example(b'"5."')
@example(b'"-1.00000000"')
@example(b'"1e5"')
@example(b'"1.0000:000"')
@example(b'"1.2.3"')
@example(b'"12345.6789')
def test_what_is_no_decimal_is_an_error(text: bytes) -> None:
    code, value = _read(_decimal, text)
    if code >= 0:
        number = text[1 : code - 1]
        assert text[:1] == b'"'
        assert text[code - 1 : code] == b'"'
        assert value == mantissa(number.decode("ascii"))
    else:
        assert code in (json_scan.SYNTAX, json_scan.OVERFLOW, json_scan.TOO_MANY_DECIMALS)


@given(value=st.integers(-(2**63) + 1, 2**63 - 1), after=st.sampled_from([b",", b"}", b""]))
def test_integers_of_64_bits_are_read(value: int, after: bytes) -> None:
    text = str(value).encode()
    assert _read(_integer, text + after, b"7" if after else b"") == (len(text), value)


@given(value=st.integers(2**63, 2**80))
def test_longer_integers_overflow(value: int) -> None:
    assert _read(_integer, str(value).encode())[0] == json_scan.OVERFLOW


def test_superfluous_zeros_and_missing_digits_are_syntax_errors() -> None:
    for text in (b"01", b"-", b"", b"x", b"-01", b"00"):
        assert _read(_integer, text)[0] == json_scan.SYNTAX


@given(name=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", max_size=24))
def test_a_name_reads_as_its_s16_words(name: str) -> None:
    consumed, low, high = _read(_name, f'"{name}",'.encode(), b'"')
    assert consumed == len(name) + 2
    if len(name) <= 16:
        assert struct.pack("<qq", low, high) == name.encode().ljust(16, b"\0")
    else:
        assert (low, high) == (0, 0)


@given(text=st.text(max_size=40))
def test_a_string_is_read_when_it_is_plain_ascii(text: str) -> None:
    body = text.encode()
    consumed, _, length = _read(_string, b'"' + body + b'"')
    if all(32 <= byte < 128 and byte not in b'"\\' for byte in body):
        assert (consumed, length) == (len(body) + 2, len(body))
    elif '"' not in text:
        assert consumed == json_scan.SYNTAX


plain = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), max_size=8)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), plain),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(plain, inner, max_size=4)),
    max_leaves=20,
)


def _skip(text: bytes) -> int:
    document = Document(text)
    cursor = entered(json_scan.skip_value)(document.at, document.end)
    return cursor - document.at if cursor >= 0 else cursor


@given(value=values)
def test_any_value_is_skipped_to_its_end(value: object) -> None:
    text = json.dumps(value, separators=(",", ":")).encode()
    assert _skip(text + b',"x"') == len(text)


@given(value=values, cut=st.integers(1, 400))
def test_a_value_cut_short_is_never_skipped(value: object, cut: int) -> None:
    text = json.dumps([value], separators=(",", ":")).encode()
    assert _skip(text[: max(0, len(text) - cut)]) == json_scan.SYNTAX


def test_brackets_must_match_and_may_not_nest_without_limit() -> None:
    assert _skip(b'{"a":[1}') == json_scan.SYNTAX
    assert _skip(b"[" * 32 + b"]" * 32) == 64
    assert _skip(b"[" * 33 + b"]" * 33) == json_scan.TOO_DEEP
