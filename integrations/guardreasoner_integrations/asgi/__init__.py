"""A guard in front of the routes of an ASGI application: FastAPI, Starlette, or any other on asyncio."""

from guardreasoner_integrations.asgi._middleware import GuardMiddleware
from guardreasoner_integrations.asgi._routes import GuardedRoute

__all__ = ["GuardMiddleware", "GuardedRoute"]
