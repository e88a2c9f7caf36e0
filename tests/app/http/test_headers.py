from __future__ import annotations

from netstack.app.http.headers import Headers


def test_names_are_compared_without_case_and_order_is_kept():
    headers = Headers([("B", "1"), ("a", "2"), ("b", "3")])
    assert headers["b"] == "1, 3"
    assert headers.get_all("B") == ["1", "3"]
    assert list(headers) == ["B", "a"]
    assert headers.fields == (("B", "1"), ("a", "2"), ("b", "3"))
    assert "A" in headers
    assert 1 not in headers
    assert len(headers) == 2
    assert headers.get("c") is None
    assert dict(headers) == {"B": "1, 3", "a": "2"}


def test_equality_ignores_the_case_of_names():
    assert Headers({"A": "1"}) == Headers({"a": "1"})
    assert hash(Headers({"A": "1"})) == hash(Headers({"a": "1"}))
    assert Headers({"A": "1"}) != Headers({"A": "2"})
    assert Headers() != {}


def test_tokens_are_lower_case_without_empty_elements():
    headers = Headers([("Connection", "Keep-Alive, ,"), ("connection", " X ")])
    assert headers.tokens("CONNECTION") == ["keep-alive", "x"]
    assert headers.tokens("te") == []


def test_without_and_with_field_leave_the_original_alone():
    headers = Headers({"A": "1", "B": "2"})
    assert headers.without(["a"]) == Headers({"B": "2"})
    assert headers.with_field("A", "3").get_all("a") == ["1", "3"]
    assert Headers(headers) == headers
    assert "Headers" in repr(headers)
