"""tiercache for FastAPI: a cache for each worker, handlers whose responses are kept, and routes that tell how
the cache is.

Needs the package ``fastapi``; raises `MissingPackage` without it.
"""

from tiercache.errors import MissingPackage

try:
    import fastapi as _fastapi  # noqa: F401 - to tell of it before a module below does
except ImportError as missing:
    raise MissingPackage("fastapi", "fastapi", __name__) from missing

from tiercache.integrations.fastapi._cached import cached
from tiercache.integrations.fastapi._handlers import CachedHandler
from tiercache.integrations.fastapi._lifespan import Cache, get_cache, lifespan
from tiercache.integrations.fastapi._routes import health_router, metrics_router

__all__ = ["Cache", "CachedHandler", "cached", "get_cache", "health_router", "lifespan", "metrics_router"]
