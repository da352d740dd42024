"""Everything a process needs to know, from GLM4V_ environment variables. Units are in the names."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from glm4v_client.options import Dtype
from worker.errors import InvalidSettings, WebhooksDisabled

PREFIX = "GLM4V_"

#: Read by the test suite alone, which starts our commands with its own environment.
TEST_PREFIX = "GLM4V_TEST_"

#: Read by the service's clients and commands, which may share a process's environment with it.
CLIENT_VARIABLES = frozenset({"GLM4V_URL", "GLM4V_API_KEY"})

MIB = 2**20

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65535)]


class ApiKey(BaseModel):
    """Who may call the API. The key itself is nowhere but with its holder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)


class DatabaseSettings(BaseSettings):
    """What a process needs that only talks to the database, such as a migration."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    database_url: str = Field(
        repr=False, description="postgresql://user:password@host/name, or sqlite:///path/to/file.db"
    )
    database_connections: Count = Field(10, description="connections to the database that one process may hold")
    database_timeout_seconds: Seconds = Field(30, description="time for one statement, or to get a connection")

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        if not url.startswith(("postgresql://", "postgres://", "postgresql+psycopg://", "sqlite:///")):
            raise ValueError("begin it with postgresql:// or sqlite:///")
        return url


class Settings(DatabaseSettings):
    """What workers and the API are told. Both read the same environment, each what concerns it."""

    # The three servers
    store_url: str = Field(
        description="s3://bucket?endpoint=http://host:9000&region=us-east-1, or file:///path/to/directory"
    )
    broker_url: str | None = Field(None, repr=False, description="redis://host:6379/0; not needed by the embedded run")
    broker_timeout_seconds: Annotated[float, Field(ge=2, le=300)] = Field(
        30, description="silence of the broker after which a connection to it counts as lost"
    )
    s3_access_key: SecretStr | None = Field(None, description="access key for the store and for s3:// sources")
    s3_secret_key: SecretStr | None = Field(None, description="secret key for the store and for s3:// sources")
    s3_source_url: str | None = Field(
        None,
        description="where s3:// sources are read: s3://?endpoint=http://host:9000&region=us-east-1; "
        "the endpoint of GLM4V_STORE_URL if not set",
    )
    store_timeout_seconds: Seconds = Field(30, description="silence of the object store that ends a request")
    store_retries: Annotated[int, Field(ge=0)] = Field(4, description="repeats of one request to the object store")
    store_part_bytes: Annotated[int, Field(ge=5 * MIB, le=1024 * MIB)] = Field(
        8 * MIB, description="part size of a multipart upload: what an upload holds in memory, several times over"
    )

    # The model
    model: str = Field("zai-org/GLM-4.1V-9B-Thinking", description="hub id, directory, or random:tiny")
    model_revision: str | None = Field(None, description="commit or tag on the hub")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    dtype: Dtype = Field("bfloat16", description="number format of the model, and of the tokens it stores")
    patch_budget: Count = Field(16_384, description="patches in one forward: fewer need less device memory")
    batch_wait_milliseconds: Annotated[float, Field(ge=0, le=10_000)] = Field(
        5, description="how long a batch that is not full waits for more"
    )

    # What a reference may point at
    allow_private_addresses: bool = Field(False, description="let http(s):// sources reach private addresses")
    file_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="directories that file:// sources may lie in, absolute, separated by ':'"
    )
    max_source_bytes: Count = Field(2**31, description="bytes of one source")
    max_image_pixels: Count = Field(200_000_000, description="pixels of one image before resizing")
    max_frame_pixels: Count = Field(36_000_000, description="pixels of one video frame before resizing")
    max_source_frames: Count = Field(2_000_000, description="frames of one video")
    max_duration_seconds: Seconds = Field(6 * 3600, description="length of one video")
    max_redirects: Annotated[int, Field(ge=0, le=50)] = Field(5, description="redirects followed for one source")
    connect_timeout_seconds: Seconds = Field(10, description="time for a source's host to accept a connection")
    read_timeout_seconds: Seconds = Field(30, description="silence of a source's host that ends its download")
    fetch_timeout_seconds: Seconds = Field(600, description="time for one whole download")
    decode_timeout_seconds: Seconds = Field(900, description="time for decoding one source")

    # How much happens at once
    item_threads: Count = Field(64, description="items under way at once, most of them waiting for a socket")
    decode_processes: Count = Field(
        default_factory=lambda: len(os.sched_getaffinity(0)), description="processes that decode; one per core"
    )
    max_bytes_in_flight: Annotated[int, Field(ge=16 * MIB)] = Field(
        2048 * MIB, description="memory for patches and tokens of all items under way"
    )
    scratch_directory: Path | None = Field(
        None, description="absolute directory for downloads under way; the system's own for temporary files if not set"
    )

    # Attempts and leases
    max_attempts: Annotated[int, Field(ge=1, le=100)] = Field(5, description="attempts at one item")
    charge_outages: bool = Field(
        False, description="count attempts that failed because the store or the database was away"
    )
    retry_base_seconds: Seconds = Field(5, description="longest wait before the second attempt; doubles with each")
    retry_limit_seconds: Seconds = Field(900, description="longest wait before any attempt")
    lease_seconds: Annotated[float, Field(ge=1, le=86_400)] = Field(
        120, description="silence of a worker after which its items go to others"
    )

    # Dispatch and upkeep
    items_per_message: Annotated[int, Field(ge=1, le=1000)] = Field(16, description="items of one broker message")
    outstanding_messages_per_queue: Count = Field(512, description="messages in the broker per model")
    reconcile_interval_seconds: Seconds = Field(5, description="time between two passes over due and lost items")
    redeliver_after_seconds: Seconds = Field(
        600, description="age of a message that no worker claimed, after which it is sent again"
    )
    retention_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        7 * 86_400, description="how long an embedding is kept that no item refers to any more"
    )
    retention_interval_seconds: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        600, description="time between two searches for such embeddings, by one worker at a time"
    )
    drain_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        20, description="time a stopping worker has for what it decoded; below the supervisor's grace period"
    )
    stall_seconds: Seconds = Field(
        900, description="time without a finished item, while work waits, after which the worker ends itself"
    )

    # The API
    api_keys: Annotated[tuple[ApiKey, ...], NoDecode] = Field(
        (),
        repr=False,
        description="who may call the API: name:sha256, separated by ','; `python -m api.keys NAME` makes one. "
        "Without any, only programs of this machine may",
    )
    media_url: str | None = Field(
        None, description="where the API keeps uploads for the workers, as GLM4V_STORE_URL; that store if not set"
    )
    public_store_url: str | None = Field(
        None,
        description="the store as clients reach it, s3://bucket?endpoint=https://host: "
        "they then fetch embeddings from it; through the API if not set",
    )
    public_link_seconds: Annotated[int, Field(ge=1, le=7 * 86_400)] = Field(
        900, description="how long a link to GLM4V_PUBLIC_STORE_URL can be used"
    )
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(
        32 * MIB, description="bytes of one request to the API; an upload may have GLM4V_MAX_SOURCE_BYTES"
    )
    max_unfinished_items: Count = Field(
        10_000_000, description="queued and running items of one API key's jobs; more are refused for a while"
    )

    # Webhooks
    webhook_secret: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        None, description="signs what webhooks are sent, at least 16 characters; no job may have one if not set"
    )
    webhook_attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        16, description="attempts at telling one webhook; 16 take about a day"
    )
    webhook_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = Field(
        10, description="time for one attempt, the receiver's answer included"
    )

    # What an operator sees
    metrics_port: Port | None = Field(None, description="port of the worker's Prometheus page; none if not set")
    log_format: Literal["text", "json"] = Field("text", description="text for people, json for a collector")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")

    @field_validator("store_url")
    @classmethod
    def _known_store(cls, url: str) -> str:
        if not url.startswith(("s3://", "file:///")):
            raise ValueError("begin it with s3:// or file:///")
        return url

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("redis://", "rediss://", "redis+socket://")):
            raise ValueError("begin it with redis://, rediss:// or redis+socket://")
        return url

    @field_validator("media_url")
    @classmethod
    def _known_media_store(cls, url: str | None) -> str | None:
        return None if url is None else cls._known_store(url)

    @field_validator("public_store_url")
    @classmethod
    def _store_with_links(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith("s3://"):
            raise ValueError("begin it with s3://")
        return url

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        entries = [entry.strip().partition(":") for entry in value.split(",") if entry.strip()]
        return [{"name": name, "sha256": sha256} for name, _, sha256 in entries]

    @field_validator("file_roots", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value

    @field_validator("file_roots", "scratch_directory")
    @classmethod
    def _absolute(cls, value: tuple[Path, ...] | Path | None) -> tuple[Path, ...] | Path | None:
        for path in (value,) if isinstance(value, Path) else value or ():
            if not path.is_absolute():
                raise ValueError(f"{path} is relative: give it from /")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.s3_access_key is None) != (self.s3_secret_key is None):
            raise ValueError("set GLM4V_S3_ACCESS_KEY and GLM4V_S3_SECRET_KEY together, or neither")
        if self.retry_base_seconds > self.retry_limit_seconds:
            raise ValueError(
                f"GLM4V_RETRY_BASE_SECONDS ({self.retry_base_seconds:g}) must not be above "
                f"GLM4V_RETRY_LIMIT_SECONDS ({self.retry_limit_seconds:g})"
            )
        if self.connect_timeout_seconds > self.fetch_timeout_seconds:
            raise ValueError(
                f"GLM4V_CONNECT_TIMEOUT_SECONDS ({self.connect_timeout_seconds:g}) must not be above "
                f"GLM4V_FETCH_TIMEOUT_SECONDS ({self.fetch_timeout_seconds:g})"
            )
        return self

    @property
    def source_roots(self) -> tuple[Path, ...]:
        """The directories that file:// sources may lie in: those that were named, and that of uploads."""
        media = self.media_url or self.store_url
        uploads = () if media.startswith("s3://") else (Path(unquote(urlsplit(media).path)) / "uploads",)
        return (*self.file_roots, *uploads)

    def require_broker_url(self) -> str:
        """The broker's URL, for a process that cannot do without.

        Raises:
            InvalidSettings: it is not set.
        """
        if self.broker_url is None:
            raise InvalidSettings(f"set {variable('broker_url')}: {describe(Settings, 'broker_url')}")
        return self.broker_url

    def require_webhook_secret(self) -> str:
        """What signs webhooks; ask before a job with one is accepted.

        Raises:
            WebhooksDisabled: it is not set.
        """
        if self.webhook_secret is None:
            raise WebhooksDisabled
        return self.webhook_secret.get_secret_value()


AnySettings = TypeVar("AnySettings", bound=DatabaseSettings)


def load_settings(kind: type[AnySettings], **values: Any) -> AnySettings:
    """Read the environment; `values` win over it.

    Raises:
        InvalidSettings: names every variable that is unknown, missing or impossible, and what to set.
    """
    unknown = unknown_variables(os.environ)
    if unknown:
        raise InvalidSettings("; ".join(unknown))
    try:
        return kind(**values)
    except ValidationError as error:
        raise InvalidSettings("; ".join(_faults(kind, error))) from error


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """One sentence for each GLM4V_ variable that nothing reads: most often a typing mistake."""
    sentences = []
    for name in sorted(environment):
        field = name.removeprefix(PREFIX).lower()
        is_ours = name.startswith(PREFIX) and not name.startswith(TEST_PREFIX) and name not in CLIENT_VARIABLES
        if is_ours and field not in Settings.model_fields:
            near = difflib.get_close_matches(field, Settings.model_fields, n=1)
            sentences.append(
                f"{name} is not a setting: " + (f"did you mean {variable(near[0])}?" if near else "unset it")
            )
    return sentences


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + field.upper()


def describe(kind: type[DatabaseSettings], field: str) -> str:
    """What a setting is for, in a few words."""
    return kind.model_fields[field].description or ""


def _faults(kind: type[DatabaseSettings], error: ValidationError) -> list[str]:
    return [_fault(kind, str(fault["loc"][0]) if fault["loc"] else None, fault) for fault in error.errors()]


def _fault(kind: type[DatabaseSettings], field: str | None, fault: Mapping[str, Any]) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    if field is None:
        return message
    # The value itself is left out: it may be a secret, or a URL that holds one.
    if fault["type"] == "missing":
        return f"set {variable(field)}: {describe(kind, field)}"
    about = f" ({describe(kind, field)})" if field in kind.model_fields else ""
    return f"{variable(field)}{about}: {message}"
