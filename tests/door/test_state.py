"""The door's state machine under random schedules, and its rules one by one."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nexus_orch.door.core.orders import Arrival, Break, DoorLimits, Order, PassOn, Recall, Refuse, Send
from nexus_orch.door.core.state import DoorState

LIMITS = DoorLimits(waiting=6, kept_bytes=100, unmeasured_start_seconds=20, least_wait_seconds=5, queue_seconds=60)
SLOTS = 3


@dataclass
class Client:
    """One request as the edge sees it."""

    arrival: Arrival
    is_out: bool = False
    """It is with the engine: sent, and neither recalled nor failed."""
    has_error: bool = False
    sends: int = 0
    begins: int = 0
    outcome: Order | str | None = None


@dataclass
class Edge:
    """Obeys the orders of a door, and objects to those that break a promise."""

    door: DoorState
    now: float = 0.0
    clients: dict[int, Client] = field(default_factory=dict)

    def obey(self, orders: list[Order]) -> None:
        for order in orders:
            client = self.clients[order.id]
            assert client.outcome is None, "an order for a request that has ended"
            match order:
                case Send():
                    assert not client.is_out, "sent twice at the same time"
                    assert not client.begins or client.arrival.can_continue, "sent again after it began to answer"
                    client.is_out = True
                    client.sends += 1
                case Recall():
                    assert client.is_out
                    client.is_out = False
                case PassOn():
                    assert client.has_error
                    client.outcome, client.is_out = order, False
                case Break():
                    assert client.begins, "broken off before it began"
                    client.outcome, client.is_out = order, False
                case Refuse():
                    assert not client.begins, "an answer that had begun cannot be refused"
                    client.outcome, client.is_out = order, False

    def arrive(self, number: int, arrival: Arrival) -> None:
        self.clients[number] = Client(arrival)
        self.obey(self.door.arrive(self.now, number, arrival))

    def open_ids(self) -> list[int]:
        return [number for number, client in self.clients.items() if client.outcome is None]

    def out_ids(self) -> list[int]:
        return [number for number in self.open_ids() if self.clients[number].is_out]

    def pass_time(self, seconds: float) -> None:
        """As the edge's timer does: tick whenever it is due."""
        end = self.now + seconds
        while (due := self.door.next_time()) <= end:
            self.now = max(self.now, due)
            self.obey(self.door.tick(self.now))
            assert self.door.next_time() > self.now, "a timer that is due again at once"
        self.now = end


class DoorMachine(RuleBasedStateMachine):
    """Anything may happen at any time, as far as an engine and its clients can do it."""

    def __init__(self) -> None:
        super().__init__()
        self.edge = Edge(DoorState(0.0, LIMITS))
        self.next_id = 0
        self.is_up = False
        self.is_over = False

    @rule(
        size=st.integers(0, 40),
        weight=st.sampled_from([0, 1, 1, 1, 2, 5]),
        fingerprint=st.sampled_from("abcdefgh"),
        can_continue=st.booleans(),
    )
    def a_client_comes(self, size: int, weight: int, fingerprint: str, can_continue: bool) -> None:
        self.next_id += 1
        self.edge.arrive(self.next_id, Arrival(size, fingerprint, weight, can_continue))

    @precondition(lambda self: self.edge.open_ids())
    @rule(data=st.data())
    def a_client_leaves(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.edge.open_ids()))
        self.edge.clients[number].outcome = "left"
        self.edge.obey(self.edge.door.leave(self.edge.now, number))

    @precondition(lambda self: self.edge.out_ids())
    @rule(data=st.data(), what=st.sampled_from(["begin", "finish", "fail", "error"]))
    def the_engine_answers(self, data: st.DataObject, what: str) -> None:
        edge = self.edge
        number = data.draw(st.sampled_from(edge.out_ids()))
        client = edge.clients[number]
        if what == "begin":
            client.begins += 1
            edge.obey(edge.door.begin(edge.now, number))
        elif what == "finish":
            client.outcome = "finished"
            edge.obey(edge.door.finish(edge.now, number))
        else:
            client.is_out, client.has_error = False, what == "error"
            edge.obey(edge.door.doubt(edge.now, number, has_answer=client.has_error))

    @precondition(lambda self: not self.is_up and not self.is_over)
    @rule(slots=st.integers(1, SLOTS))
    def the_engine_is_ready(self, slots: int) -> None:
        self.is_up = True
        self.edge.obey(self.edge.door.engine_is_ready(self.edge.now, slots))

    @precondition(lambda self: self.is_up)
    @rule(is_death=st.booleans(), convicts=st.booleans())
    def the_engine_goes(self, is_death: bool, convicts: bool) -> None:
        self.is_up = False
        self.edge.obey(self.edge.door.engine_is_down(self.edge.now, "gone", is_death=is_death, convicts=convicts))

    @rule()
    def the_engine_is_doubted(self) -> None:
        self.edge.door.engine_is_doubted()

    @precondition(lambda self: self.is_up)
    @rule()
    def the_engine_drains(self) -> None:
        self.edge.obey(self.edge.door.engine_drains(self.edge.now, "a better plan", 30))

    @precondition(lambda self: not self.is_up)
    @rule(pause=st.sampled_from([0.0, 5.0]))
    def the_engine_starts(self, pause: float) -> None:
        self.edge.door.engine_waits(pause)
        self.edge.door.engine_starts()

    @rule()
    def the_engine_is_given_up(self) -> None:
        self.is_up, self.is_over = False, True
        self.edge.obey(self.edge.door.engine_is_given_up(self.edge.now, "died too often"))
        assert not self.edge.open_ids()

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 15.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.edge.pass_time(seconds)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.edge.door) == len(self.edge.open_ids())

    @invariant()
    def the_bounds_hold(self) -> None:
        door = self.edge.door
        clients = [self.edge.clients[number] for number in self.edge.open_ids()]
        kept = [client.arrival for client in clients if not client.begins or client.arrival.can_continue]
        assert door.kept_bytes == sum(arrival.size for arrival in kept) <= LIMITS.kept_bytes
        assert door.waiting <= LIMITS.waiting + SLOTS + 1 + sum(not client.arrival.weight for client in clients)
        weights = [client.arrival.weight for client in clients if client.is_out]
        assert sum(weights) <= max(SLOTS, *weights, 0)

    def teardown(self) -> None:
        """Whatever happened: an engine that does not come back lets nobody wait for ever."""
        edge = self.edge
        if self.is_up:
            edge.obey(edge.door.engine_is_down(edge.now, "gone", is_death=True))
        edge.pass_time(10_000)
        assert not edge.open_ids()
        assert edge.door.kept_bytes == edge.door.used == edge.door.waiting == 0


TestDoorMachine = DoorMachine.TestCase


@given(
    innocents=st.integers(0, 12),
    slots=st.integers(1, 6),
    position=st.floats(0, 1),
    kills_after=st.sampled_from([0.0, 0.05, 0.4]),
    answers_after=st.sampled_from([0.02, 0.3, 2.0]),
)
def test_one_bad_request_costs_two_restarts_and_harms_nobody(
    innocents: int, slots: int, position: float, kills_after: float, answers_after: float
) -> None:
    """Simulated: each request is answered some time after it was sent, the bad one kills the engine instead."""
    edge = Edge(DoorState(0.0))
    bad = 1 + round(position * innocents)
    for number in range(1, innocents + 2):
        edge.arrive(number, Arrival(10, f"request {number}"))
    deaths = 0
    edge.obey(edge.door.engine_is_ready(edge.now, slots))
    sent_at: dict[int, float] = {}
    while edge.open_ids():
        out = edge.out_ids()
        for number in out:
            sent_at.setdefault(number, edge.now)
        due = {number: sent_at[number] + (kills_after if number == bad else answers_after) for number in out}
        edge.pass_time(max(0.0, min(edge.door.next_time(), *due.values()) - edge.now))
        first = next((number for number in due if due[number] <= edge.now), None)
        if first is None:
            continue  # the door did something of its own
        if first == bad:
            deaths += 1
            edge.obey(edge.door.engine_is_down(edge.now, "died", is_death=True, convicts=True))
            sent_at.clear()
            edge.pass_time(5)
            edge.obey(edge.door.engine_is_ready(edge.now, slots))
        else:
            edge.clients[first].outcome = "finished"
            edge.obey(edge.door.finish(edge.now, first))
    assert deaths <= 2
    assert {number for number, client in edge.clients.items() if client.outcome != "finished"} <= {bad}
    edge.arrive(99, Arrival(10, f"request {bad}"))
    refusal = edge.clients[99].outcome
    assert isinstance(refusal, Refuse) and refusal.status == 422 and "last two deaths" in refusal.message


def _edge(slots: int | None = None, limits: DoorLimits = LIMITS) -> Edge:
    edge = Edge(DoorState(0.0, limits))
    if slots is not None:
        edge.obey(edge.door.engine_is_ready(0.0, slots))
    return edge


def test_a_request_waits_for_the_first_start_and_is_then_sent() -> None:
    edge = _edge()
    edge.arrive(1, Arrival(1, "a"))
    assert edge.out_ids() == []
    edge.pass_time(19)
    edge.obey(edge.door.engine_is_ready(edge.now, 1))
    assert edge.out_ids() == [1]


def test_it_waits_for_one_and_a_half_starts_and_is_told_when_to_come_again() -> None:
    edge = _edge(1)
    edge.pass_time(8)
    edge.obey(edge.door.engine_is_down(edge.now, "died", is_death=True))
    edge.pass_time(10)
    edge.obey(edge.door.engine_is_ready(edge.now, 1))  # it took 10 s
    edge.obey(edge.door.engine_is_down(edge.now, "died again", is_death=True))
    edge.pass_time(2)
    edge.arrive(1, Arrival(1, "a"))
    edge.pass_time(14.9)
    assert edge.open_ids() == [1]
    edge.pass_time(0.2)
    refusal = edge.clients[1].outcome
    assert isinstance(refusal, Refuse) and (refusal.status, refusal.retry_seconds) == (503, 1)
    assert "died again" in refusal.message


def test_too_many_and_too_large_are_refused_with_what_is_left_of_the_start() -> None:
    edge = _edge()
    edge.pass_time(5)
    for number in range(7):
        edge.arrive(number, Arrival(1, "a"))
    refusal = edge.clients[6].outcome
    assert isinstance(refusal, Refuse) and (refusal.status, refusal.retry_seconds) == (503, 15)
    edge = _edge()
    edge.arrive(1, Arrival(60, "a"))
    edge.arrive(2, Arrival(60, "b"))
    assert isinstance(edge.clients[2].outcome, Refuse)


def test_the_oldest_is_sent_first_and_what_generates_nothing_does_not_wait() -> None:
    edge = _edge(1)
    for number in (1, 2, 3):
        edge.arrive(number, Arrival(1, str(number)))
    edge.arrive(4, Arrival(1, "models", weight=0))
    assert edge.out_ids() == [1, 4]
    edge.clients[1].outcome = "finished"
    edge.obey(edge.door.finish(edge.now, 1))
    assert edge.out_ids() == [2, 4]


def test_what_had_not_begun_is_sent_again_once_and_what_had_is_broken_off() -> None:
    edge = _edge(3)
    for number in (1, 2):
        edge.arrive(number, Arrival(1, str(number)))
    edge.clients[1].begins += 1
    edge.obey(edge.door.begin(edge.now, 1))
    edge.obey(edge.door.engine_is_down(edge.now, "died", is_death=True))
    assert edge.clients[1].outcome == Break(1, "died")
    edge.pass_time(1)
    edge.obey(edge.door.engine_is_ready(edge.now, 3))
    assert edge.out_ids() == [2]
    edge.obey(edge.door.engine_is_down(edge.now, "killed", is_death=True))  # by others: nobody is convicted
    refusal = edge.clients[2].outcome
    assert isinstance(refusal, Refuse) and refusal.status == 503


def test_an_answer_that_can_go_on_does_as_long_as_each_part_brings_something() -> None:
    edge = _edge(3)
    edge.arrive(1, Arrival(1, "a", can_continue=True))
    for _ in range(5):
        edge.clients[1].begins += 1
        edge.obey(edge.door.begin(edge.now, 1))
        edge.obey(edge.door.engine_is_down(edge.now, "killed", is_death=True))
        edge.obey(edge.door.engine_is_ready(edge.now, 3))
        assert edge.out_ids() == [1]
    edge.obey(edge.door.engine_is_down(edge.now, "killed", is_death=True))
    edge.obey(edge.door.engine_is_ready(edge.now, 3))
    edge.obey(edge.door.engine_is_down(edge.now, "killed", is_death=True))
    assert isinstance(edge.clients[1].outcome, Break)


def test_an_error_of_a_living_engine_is_handed_on_and_one_of_a_dying_engine_is_not() -> None:
    for dies in (False, True):
        edge = _edge(1)
        edge.arrive(1, Arrival(1, "a"))
        edge.clients[1].is_out, edge.clients[1].has_error = False, True
        edge.obey(edge.door.doubt(edge.now, 1, has_answer=True))
        if dies:
            edge.pass_time(0.5)
            edge.obey(edge.door.engine_is_down(edge.now, "died", is_death=True))
            edge.obey(edge.door.engine_is_ready(edge.now, 1))
            assert edge.out_ids() == [1]
        else:
            edge.pass_time(3)
            assert edge.clients[1].outcome == PassOn(1)


def test_what_a_dying_engine_says_waits_for_the_word_on_it_however_long_that_takes() -> None:
    edge = _edge(1)
    edge.arrive(1, Arrival(1, "a"))
    edge.clients[1].is_out, edge.clients[1].has_error = False, True
    edge.obey(edge.door.doubt(edge.now, 1, has_answer=True))
    edge.door.engine_is_doubted()
    edge.arrive(2, Arrival(1, "b"))
    edge.pass_time(20)
    assert edge.out_ids() == [] and len(edge.open_ids()) == 2
    edge.obey(edge.door.engine_is_down(edge.now, "died", is_death=True))
    edge.obey(edge.door.engine_is_ready(edge.now, 2))
    assert edge.out_ids() == [1, 2]


def test_a_lost_connection_to_a_living_engine_is_tried_once_more() -> None:
    edge = _edge(1)
    edge.arrive(1, Arrival(1, "a"))
    for _ in range(2):
        edge.clients[1].is_out = False
        edge.obey(edge.door.doubt(edge.now, 1))
        edge.pass_time(3)
    refusal = edge.clients[1].outcome
    assert isinstance(refusal, Refuse) and refusal.status == 502
    assert edge.clients[1].sends == 2


def test_a_restart_that_was_wanted_suspects_nobody() -> None:
    edge = _edge(1)
    edge.arrive(1, Arrival(1, "a"))
    for _ in range(2):
        edge.obey(edge.door.engine_drains(edge.now, "a better plan", 5))
        edge.pass_time(5)
        edge.obey(edge.door.engine_is_down(edge.now, "a better plan", is_death=False))
        edge.obey(edge.door.engine_is_ready(edge.now, 1))
    assert not edge.door.suspects.has_marks
