from netstack.core.config import Config, Ipv4Config
from netstack.core.context import Context
from netstack.internet.pmtu import MIN_PMTU, PmtuCache, next_plateau


def test_plateaus_step_down_to_the_floor():
    assert next_plateau(65536) == 65535
    assert next_plateau(1500) == 1492
    assert next_plateau(1492) == 1006
    assert next_plateau(552) == next_plateau(60) == MIN_PMTU


def test_least_recently_used_entry_makes_room():
    context = Context(seed=1, config=Config(ipv4=Ipv4Config(pmtu_max_entries=2)))
    changes = []
    cache = PmtuCache(context, lambda: changes.append(context.now))
    cache.update(b"a", 1400)
    cache.update(b"b", 1300)
    assert cache.get(b"a").mtu == 1400
    cache.update(b"c", 1200)
    assert cache.get(b"b") is None
    assert cache.get(b"a").mtu == 1400
    assert len(changes) == 3


def test_entries_expire_one_by_one():
    context = Context(seed=1)
    changes = []
    cache = PmtuCache(context, lambda: changes.append(context.now))
    cache.update(b"a", 1400)
    context.now = 100.0
    cache.update(b"b", 1300)
    context.now = 600.0
    context.timers.run_due(600.0)
    assert len(cache) == 1
    assert context.timers.next_deadline() == 700.0
    assert changes == [0.0, 100.0, 600.0]
    context.now = 700.0
    assert cache.get(b"b") is None


def test_expiry_alone_does_not_keep_a_simulation_alive():
    context = Context(seed=1)
    PmtuCache(context, lambda: None).update(b"a", 1400)
    assert context.timers.only_housekeeping()
