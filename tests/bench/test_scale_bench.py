"""``netstack bench scale``: many idle connections of one host."""

import json

import pytest

from netstack.bench import scale
from netstack.bench.result import BenchError


@pytest.mark.slow
def test_figures_of_few_and_of_many_connections():
    told = []
    result = scale.run(1, told.append, few=300, many=900)
    assert len(told) == 1
    works = {work.name: work for work in result.works}
    assert list(works) == list(scale._FIGURES)
    assert all(len(work.subject) == len(work.baseline) == 1 for work in result.works)
    assert 1_000 < works["memory"].subject[0] < 4_000
    assert works["segment"].subject[0] > 0
    assert works["open"].ratio.median < 3
    document = result.as_json()
    assert (document["subject"], document["baseline"]) == ("900", "300")
    json.dumps(document)


@pytest.fixture
def crowd():
    crowd = scale.Crowd(60)
    yield crowd
    crowd.close()


def test_every_connection_is_open_and_has_its_socket(crowd):
    crowd.open(60)
    assert len(crowd.sockets) == len(crowd.stack.tcp.connections) == 60
    assert all(each.state.name == "ESTABLISHED" for each in crowd.stack.tcp.connections.values())


def test_octet_that_is_not_the_connections_own_is_an_error(crowd):
    crowd.open(60)
    crowd._by_peer.reverse()
    for sock in crowd.sockets:
        sock.settimeout(0)
    crowd._dice.sample = lambda population, count: [0]
    with pytest.raises((BenchError, BlockingIOError)):
        crowd.exchange()


def test_system_that_does_not_tell_memory_is_an_error(monkeypatch):
    def missing(*args, **kwargs):
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", missing)
    with pytest.raises(BenchError, match="needs Linux"):
        scale.run(1, lambda line: None)


def test_process_that_fails_is_an_error(monkeypatch):
    monkeypatch.setattr(scale.sys, "executable", "/bin/false")
    with pytest.raises(BenchError, match="ended with status 1"):
        scale.run(1, lambda line: None)


def test_error_of_the_process_is_told(monkeypatch, capsys):
    def fails(few, many):
        raise BenchError("3 connections did not open")

    monkeypatch.setattr(scale, "measure", fails)
    assert scale.main(["1", "2"]) == 0
    assert json.loads(capsys.readouterr().out) == {"error": "3 connections did not open"}
