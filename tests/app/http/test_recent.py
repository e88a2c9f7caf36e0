"""What is remembered is bounded, whatever the keys."""

from __future__ import annotations

from netstack.app.http.recent import Recent


def test_one_entry_too_many_forgets_the_others():
    recent = Recent(3)
    for key in "abc":
        recent.put(key, key.upper())
    assert dict(recent) == {"a": "A", "b": "B", "c": "C"}
    recent.put("d", "D")
    assert dict(recent) == {"d": "D"}


def test_it_never_holds_more():
    recent = Recent(5)
    for key in range(100):
        recent.put(key, None)
        assert len(recent) <= 5
        assert key in recent
