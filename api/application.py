"""The application: routes, and what every request passes through on its way to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from api import embeddings, events, fleet, health, items, jobs, pages, preview, uploads
from api.auth import Guard
from api.health import Checks
from api.limits import BodyLimit
from api.metrics import ApiMetrics
from api.openapi import document, methods_of
from api.page_errors import ErrorPages
from api.problems import answer_problem, describe_faults, of_embed_error, of_faults, of_http_error
from api.requests import Requests
from api.service import Service
from api.stopping import told_to_stop
from api.watching import Watches
from worker.errors import EmbedError
from worker.job_answer import job_answer

_ABOUT = "Visual tokens for a lot of media: submit references, watch, fetch embeddings. docs/api.md says every field."

#: Threads for what is streamed from and to stores, a megabyte at a time.
_FILE_THREADS = 16


def create_app(service: Service) -> FastAPI:
    """The API and the status page of a service, which is started and closed with the application."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # More threads than connections would only wait for one; some read files and stores meanwhile.
        threads = anyio.to_thread.current_default_thread_limiter()
        threads.total_tokens = service.settings.database_connections + _FILE_THREADS
        service.start()
        try:
            with told_to_stop(app.state.watches.end):
                yield
        finally:
            app.state.watches.end()
            app.state.checks.close()
            service.close()

    app = FastAPI(
        title="glm4v-embed",
        version="1",
        description=_ABOUT,
        lifespan=lifespan,
        openapi_url="/v1/openapi.json",
        generate_unique_id_function=lambda route: route.name,
        # Their scripts come from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    app.state.service = service
    for module in (jobs, events, items, embeddings, preview, uploads, fleet, health, pages):
        app.include_router(module.router)
    app.state.metrics = ApiMetrics()
    app.state.checks = Checks(service.checks)
    app.state.previews = preview.Previews(service)
    app.state.watches = Watches(lambda job_id: job_answer(service.repository.get_job(job_id)))
    # The last one added is the first that a request meets.
    app.add_middleware(BodyLimit, settings=service.settings)
    app.add_middleware(Guard, keys=service.settings.api_keys)
    app.add_middleware(Requests, metrics=app.state.metrics)
    app.add_middleware(ErrorPages)
    app.add_exception_handler(EmbedError, _embed_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    return app


async def _embed_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EmbedError)
    return answer_problem(of_embed_error(error), request_id=request.state.request_id)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405 and (methods := methods_of(request.app, request.url.path)):
        # The framework names those of one route, and a path may have several.
        error.headers = {"Allow": ", ".join(methods)}
    return answer_problem(of_http_error(error), request_id=request.state.request_id)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return answer_problem(
        of_faults(error.errors()), request_id=request.state.request_id, errors=describe_faults(error.errors())
    )
