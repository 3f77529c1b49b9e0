from ledger.rates import Rates


def test_a_peer_may_send_so_much_and_then_waits() -> None:
    now = [0.0]
    rates = Rates(lambda: now[0], per_second=10, burst=100)
    assert rates.allow("a", 60) and not rates.allow("a", 60)
    assert rates.allow("b", 60)  # each has its own
    now[0] = 2.0
    assert rates.allow("a", 60)
    now[0] = 1000.0
    assert not rates.allow("a", 101)  # the bucket does not grow beyond the burst
    assert rates.allow("a", 100)
