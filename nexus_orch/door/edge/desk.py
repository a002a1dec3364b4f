"""Where every request is looked at first: a page of the door, a route of the engine, or nothing."""

from __future__ import annotations

from aiohttp import web

from nexus_orch.door.edge import pages
from nexus_orch.door.edge.client import JSON, ClientGoneError, ClientSide
from nexus_orch.door.edge.headers import REQUEST_ID, choose_request_id, has_key
from nexus_orch.door.edge.house import House
from nexus_orch.door.edge.listen import DoorServer
from nexus_orch.door.edge.routes import find_route
from nexus_orch.door.edge.visit import Visit

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Desk:
    """The handler of all requests."""

    def __init__(self, house: House, most_connections: int) -> None:
        self.listener = DoorServer(self.handle, most_connections)
        self._house = house
        self._times = pages.QueueTimes()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer it. The answer has been sent when it is returned."""
        try:
            return await self._answer(request)
        except ClientGoneError:
            raise ConnectionResetError from None  # ends the connection without a word

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        request_id = choose_request_id(request.headers)
        path, house = request.rel_url.raw_path, self._house
        if request.method == "GET" and (page := await self._find_page(path)) is not None:
            status, kind, content = page
            return await ClientSide(request, "openai").answer(
                status, {"Content-Type": kind, REQUEST_ID: request_id}, content
            )
        route = find_route(request.method, path)
        if isinstance(route, int):
            message = f"{request.method} {path[:200]} is no request that this server takes"
            return await ClientSide(request, "openai").refuse(route, message, request_id)
        if house.rules.api_key is not None and not has_key(request.headers, house.rules.api_key):
            return await ClientSide(request, route.style).refuse(401, "the API key is missing or wrong", request_id)
        return await Visit(house, request, route, request_id).run()

    async def _find_page(self, path: str) -> tuple[int, str, bytes] | None:
        """Status, type and content of one of the door's own pages."""
        if path == "/livez":
            return 200, JSON, pages.encode({"door": "alive"})
        if path in ("/readyz", "/health"):
            status, body = pages.describe_readiness(self._house, strictly=path == "/health")
            return status, JSON, pages.encode(body)
        if path == "/metrics":
            own = pages.render_metrics(self._house, self._times, self.listener.refused)
            return 200, _TEXT, (own + await pages.read_engine_metrics(self._house)).encode()
        return None
