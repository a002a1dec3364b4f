"""The state machine of the door: what happens to engine and requests goes in, orders to the edge come out.

Each method takes the time, in seconds of any clock that never goes back. `tick` is to be called when `next_time` has
come. Rules: what had not begun to answer is sent again once after each death; nothing is sent twice after it began,
except to go on from its tokens; whatever waits has an end.
"""

from __future__ import annotations

import math
from collections import Counter

from nexus_orch.door.core.engine import EngineView
from nexus_orch.door.core.orders import Arrival, Break, DoorLimits, Order, PassOn, Recall, Refuse, Send
from nexus_orch.door.core.requests import ON_THE_ENGINE, DoorRequest, Line, Place
from nexus_orch.door.core.suspects import Suspects

MOST_FRUITLESS = 2
"""A request is sent again while it was sent less often in a row than this without a word of answer."""

BAD_GATEWAY, UNAVAILABLE, UNPROCESSABLE = 502, 503, 422


class DoorState:
    """Engine, requests and what is known of both."""

    def __init__(self, now: float, limits: DoorLimits | None = None) -> None:
        self.limits = limits or DoorLimits()
        self.engine = EngineView(self.limits, now)
        self.suspects = Suspects(self.limits.marks)
        self.counts: Counter[str] = Counter()
        self.waited_seconds: list[float] = []
        """How long each request that was sent had waited, since this list was read last."""
        self.used = 0
        """Sequences on the engine."""
        self.kept_bytes = 0
        self._requests: dict[int, DoorRequest] = {}
        self._line = Line()
        self._spare = self.limits.loose_resends

    def __len__(self) -> int:
        """Requests that are not ended."""
        return len(self._requests)

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def on_engine(self) -> int:
        """Requests that the engine works on."""
        return len(self._requests) - len(self._line)

    @property
    def answering(self) -> int:
        return sum(request.has_begun for request in self._requests.values())

    # What the supervisor tells of the engine

    def engine_starts(self) -> None:
        """Another start has begun; requests wait on."""
        self.engine.start()

    def engine_waits(self, seconds: float) -> None:
        """The next start comes only after a pause."""
        self.engine.pause(seconds)

    def engine_is_ready(self, now: float, slots: int) -> list[Order]:
        """It answers, and its plan can hold so many sequences. Marked requests go behind all that wait now."""
        self.engine.become_ready(now, max(1, slots))
        for number in self._line:
            request = self._requests[number]
            if self.suspects.is_marked(request.arrival.fingerprint):
                self._line.remove(request)
                request.turn = now
                self._line.add(request)
        return self._admit(now)

    def engine_is_doubted(self) -> None:
        """A process is gone that it cannot do without; what it says now is judged when its supervisor has judged it."""
        self.engine.is_doubted = self.engine.serves

    def engine_drains(self, now: float, reason: str, longest_seconds: float) -> list[Order]:
        """It ends what it has and gets nothing new: it will be started again."""
        self.engine.drain(now, reason, longest_seconds)
        return []

    def engine_is_down(self, now: float, reason: str, *, is_death: bool, convicts: bool = False) -> list[Order]:
        """It is gone and will be started again. `convicts`: what was asked of it may have been the cause."""
        self.engine.go_down(now, reason)
        orders: list[Order] = []
        if is_death:
            self.engine.deaths += 1
            orders = self._suspect(now, convicts=convicts)
        for request in list(self._requests.values()):
            if request.place in ON_THE_ENGINE:
                orders += self._take_back(now, request, reason)
        return orders

    def engine_is_given_up(self, now: float, reason: str) -> list[Order]:
        """It is gone for good: nothing waits any longer."""
        self.engine.give_up(now, reason)
        return [self._end(request, reason, UNAVAILABLE) for request in list(self._requests.values())]

    # What becomes of requests

    def arrive(self, now: float, number: int, arrival: Arrival) -> list[Order]:
        """A whole request has come in."""
        refusal = self._why_not(now, number, arrival)
        if refusal is not None:
            self.counts[f"refused_{refusal.status}"] += 1
            return [refusal]
        turn = now if arrival.weight else -math.inf  # what generates nothing need not wait for those that do
        request = DoorRequest(number, arrival, "held", now, turn)
        self._requests[number] = request
        self.kept_bytes += arrival.size
        self.counts["arrived"] += 1
        self._line.add(request)
        return self._admit(now)

    def begin(self, now: float, number: int) -> list[Order]:
        """The first word of its answer, or of the rest of it, goes to the client."""
        request = self._requests[number]
        self._prove(request)
        request.fruitless = 0
        self._move(request, "answering", now)
        if not request.has_begun:
            request.has_begun = True
            self.kept_bytes -= 0 if request.is_kept else request.arrival.size
        return self._admit(now)

    def finish(self, now: float, number: int) -> list[Order]:
        """Its answer has come to a regular end."""
        request = self._requests[number]
        self._prove(request)
        self._spare = min(self.limits.loose_resends, self._spare + 0.1)
        self._drop(request, "finished")
        return self._admit(now)

    def leave(self, now: float, number: int) -> list[Order]:
        """Its client is gone."""
        self._drop(self._requests[number], "left")
        return self._admit(now)

    def doubt(self, now: float, number: int, *, has_answer: bool = False) -> list[Order]:
        """The engine failed it: the connection ended too early, or (`has_answer`) it answered with an error of its own.

        Whether that was the engine's death, its supervisor will tell in a moment."""
        request = self._requests[number]
        request.has_answer = has_answer
        self._move(request, "cut" if request.has_begun and request.place == "answering" else "doubtful", now)
        if not self.engine.serves:
            return self._take_back(now, request, self.engine.reason)
        return []

    def break_off(self, now: float, number: int, message: str) -> list[Order]:
        """It cannot go on: what was to be sent again cannot be made."""
        orders = [self._end(self._requests[number], message, BAD_GATEWAY)]
        return orders + self._admit(now)

    # The passing of time

    def next_time(self) -> float:
        """When `tick` is to be called; infinity when nothing waits for a time."""
        return min((self._deadline(request) for request in self._requests.values()), default=math.inf)

    def tick(self, now: float) -> list[Order]:
        """End what has waited for too long."""
        orders: list[Order] = []
        for request in list(self._requests.values()):
            if self._deadline(request) <= now:
                orders += self._time_out(now, request)
        return orders + self._admit(now)

    def _deadline(self, request: DoorRequest) -> float:
        if request.place == "held":
            return max(request.since, self.engine.since) + self.engine.wait_seconds
        if request.place in ("doubtful", "cut"):
            limits = self.limits
            return request.since + (limits.doubted_seconds if self.engine.is_doubted else limits.verdict_seconds)
        if self._is_probing(request):
            age = 1.5 * self.suspects.age(request.arrival.fingerprint)
            return request.since + min(max(age, self.limits.least_proof_seconds), self.limits.most_proof_seconds)
        return math.inf

    def _time_out(self, now: float, request: DoorRequest) -> list[Order]:
        if request.place == "sent":
            self._prove(request)
            return []
        if request.place == "held":
            return [self._end(request, self._describe_wait(), UNAVAILABLE, self.engine.left_seconds(now))]
        if request.has_answer:
            self._prove(request)
            self._drop(request, "failed")
            return [PassOn(request.id)]
        message = "the engine ended the connection before the answer was complete"
        if request.place == "doubtful" and request.fruitless < MOST_FRUITLESS and self._spare >= 1:
            self._spare -= 1
            self._hold(now, request)
            return []
        return [self._end(request, message, BAD_GATEWAY)]

    # The rules

    def _why_not(self, now: float, number: int, arrival: Arrival) -> Refuse | None:
        reason = self.suspects.why_quarantined(arrival.fingerprint)
        if reason is not None:
            return Refuse(number, UNPROCESSABLE, reason)
        if self.engine.phase == "given up":
            return Refuse(number, UNAVAILABLE, self.engine.reason)
        if len(self._line) >= self.limits.waiting:
            message = f"{len(self._line):,} requests are waiting already"
        elif self.kept_bytes + arrival.size > self.limits.kept_bytes:
            message = f"the requests that wait fill {self.limits.kept_bytes:,} bytes"
        else:
            return None
        return Refuse(number, UNAVAILABLE, message, self.engine.left_seconds(now))

    def _admit(self, now: float) -> list[Order]:
        """Send what the engine can hold, the oldest first; of the marked one at a time."""
        if not self.engine.serves or self.engine.is_doubted or not self._line:
            return []
        orders: list[Order] = []
        is_probing = self.suspects.has_marks and any(map(self._is_probing, self._requests.values()))
        for number in self._line:
            request = self._requests[number]
            is_marked = self.suspects.is_marked(request.arrival.fingerprint)
            if is_marked and is_probing:
                continue
            if not self._fits(request.arrival.weight):
                break
            is_probing = is_probing or is_marked
            orders.append(self._send(now, request))
        return orders

    def _fits(self, weight: int) -> bool:
        """Whether the engine has room now. What is larger than all its room is sent when nothing else is there."""
        return not weight or not self.used or self.used + weight <= self.engine.slots

    def _send(self, now: float, request: DoorRequest) -> Send:
        self.waited_seconds.append(now - request.since)
        if request.fruitless or request.has_begun:
            self.counts["continued" if request.has_begun else "sent_again"] += 1
        request.is_proven, request.has_answer = False, False
        request.fruitless += 1
        request.sent_at = now
        self._move(request, "sent", now)
        return Send(request.id)

    def _is_probing(self, request: DoorRequest) -> bool:
        """Whether it was present at a death and is on the engine again, nothing being known of it yet."""
        on_engine = request.place in ("sent", "doubtful")
        return on_engine and not request.is_proven and self.suspects.is_marked(request.arrival.fingerprint)

    def _prove(self, request: DoorRequest) -> None:
        """It shows that it kills nothing."""
        request.is_proven = True
        self.suspects.clear(request.arrival.fingerprint)

    def _suspect(self, now: float, *, convicts: bool) -> list[Order]:
        """Mark what was present at this death, and convict what alone was present at two and brought nothing forth."""
        present = [request for request in self._requests.values() if request.place in ON_THE_ENGINE]
        twice = {request.arrival.fingerprint for request in present if self._is_probing(request)}
        for request in present:
            if request.arrival.weight:
                self.suspects.mark(request.arrival.fingerprint, now - request.sent_at)
        if not convicts or len(twice) != 1:
            return []
        (guilty,) = twice
        reason = (
            "this request is not sent to the engine again: it was being worked on at both of the engine's last two "
            "deaths, and no other request was"
        )
        self.suspects.convict(guilty, reason)
        self.counts["quarantined"] += 1
        for request in present:  # it was not their doing
            self.suspects.clear(request.arrival.fingerprint)
            request.fruitless = max(0, request.fruitless - 1)
        found = [request for request in self._requests.values() if request.arrival.fingerprint == guilty]
        return [self._end(request, reason, UNPROCESSABLE) for request in found]

    def _take_back(self, now: float, request: DoorRequest, reason: str) -> list[Order]:
        """The engine is gone under it: hold it for the next one, or end it."""
        can_wait = self.engine.phase != "given up" and request.fruitless < MOST_FRUITLESS
        if can_wait and (not request.has_begun or request.arrival.can_continue):
            was_sent = request.place in ("sent", "answering")
            self._hold(now, request)
            return [Recall(request.id)] if was_sent else []
        retry = self.engine.left_seconds(now) if self.engine.phase != "given up" else None
        return [self._end(request, reason, UNAVAILABLE, retry)]

    def _describe_wait(self) -> str:
        if self.engine.serves:
            return "the engine had no room for the request in time"
        return f"the engine is not there: {self.engine.reason or 'it is being started'}"

    # Places

    def _hold(self, now: float, request: DoorRequest) -> None:
        self._move(request, "held", now)
        self._line.add(request)

    def _move(self, request: DoorRequest, place: Place, now: float) -> None:
        if request.place == "held":
            self._line.remove(request)
        was, is_now = request.place in ON_THE_ENGINE, place in ON_THE_ENGINE
        self.used += request.arrival.weight * (is_now - was)
        request.place, request.since = place, now

    def _end(self, request: DoorRequest, message: str, status: int, retry_seconds: int | None = None) -> Order:
        if request.has_begun:
            self._drop(request, "broken")
            return Break(request.id, message)
        self._drop(request, f"refused_{status}")
        return Refuse(request.id, status, message, retry_seconds)

    def _drop(self, request: DoorRequest, outcome: str) -> None:
        if request.is_kept:
            self.kept_bytes -= request.arrival.size
        if request.place == "held":
            self._line.remove(request)
        if request.place in ON_THE_ENGINE:
            self.used -= request.arrival.weight
        del self._requests[request.id]
        self.counts[outcome] += 1
