"""What `dev.py fuzz --faults` asks of the server beside prompts."""

from __future__ import annotations

from aiohttp import web
from server import PromptServer

from .points import PLACES, POINTS, place
from .state import forget, state

routes = PromptServer.instance.routes


@routes.post("/fuzz/fault")
async def set_fault(request: web.Request) -> web.Response:
    """{"fault": [point, which time, kind] or null, "forget": names of nodes of the last prompt that run anew}."""
    wanted = await request.json()
    forget(wanted["forget"])
    fault = wanted["fault"]
    POINTS.set(None if fault is None else (fault[0], fault[1], fault[2]))
    return web.json_response({})


@routes.get("/fuzz/points")
async def points(_: web.Request) -> web.Response:
    """How often each point was passed since, while which nodes ran, and whether the fault came."""
    nodes = {point: sorted(names) for point, names in POINTS.nodes.items()}
    return web.json_response({"counts": POINTS.counts, "nodes": nodes, "came": POINTS.fault is None})


@routes.get("/fuzz/state")
async def of_the_server(request: web.Request) -> web.Response:
    """pack: its folder's name; unloaded: anything, if all models are to be taken out of memory first."""
    return web.json_response(state(request.query["pack"], "unloaded" in request.query))


for entry in PLACES:
    place(*entry)
