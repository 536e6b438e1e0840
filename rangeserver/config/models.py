"""The settings: each with its type, its default and its explanation, and none anywhere else.

Longer than 300 lines, because it is one list.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    StringConstraints,
)

from rangeserver.config import rules
from rangeserver.protocol.freshness import FreshnessRules

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
SecondsOrNone = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65_535)]
BucketName = Annotated[str, AfterValidator(rules.bucket_name)]
HostName = Annotated[str, StringConstraints(to_lower=True), AfterValidator(rules.host_name)]


class Section(BaseModel):
    """A table of settings, none of them unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class ServerConfig(Section):
    """Where clients connect, and what one client may take."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: Port = Field(8080, description="Port to listen on; 0 lets the system choose one.")
    tls_certificate: str = Field(
        "",
        description="Path of a PEM file with the certificate, and after it those that lead to its "
        "issuer: the port speaks HTTPS then. Empty: plain HTTP.",
    )
    tls_key: str = Field(
        "",
        description="Path of a PEM file with the private key of tls_certificate, not encrypted. "
        "SIGHUP has both read again.",
    )
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        4096,
        description="Client connections at once. For one more an idle one has to go, of the client "
        "that has most; if there is none, it is answered 503 and closed.",
    )
    max_connections_per_client: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        0,
        description="The same for one client, which is an IPv4 address or an IPv6 /64; 0 is no "
        "limit (behind a proxy all clients share its address).",
    )
    header_seconds: Seconds = Field(
        20.0,
        description="For a client to send a whole request header, once it has connected or begun "
        "with the next one; over TLS, and before that, for its handshake.",
    )
    keep_alive_seconds: Seconds = Field(
        75.0,
        description="How long a connection is kept on which nothing is asked. Longer than the "
        "proxy in front keeps it (an AWS load balancer: 60), or that will now and then ask on one "
        "that is just being closed.",
    )
    write_idle_seconds: Seconds = Field(
        120.0,
        description="A client that takes no byte for this long is cut off. "
        "A paused player takes none for minutes.",
    )
    min_bytes_per_second: Annotated[ByteSize, Field(ge=0)] = Field(
        ByteSize(1024),
        description="A client that takes less than this on average, counting the time it kept "
        "us waiting, is cut off; 0 is no limit.",
    )
    min_rate_grace_seconds: Seconds = Field(
        30.0, description="Waiting time before min_bytes_per_second is judged."
    )
    drain_seconds: SecondsOrNone = Field(
        20.0, description="On SIGTERM: time for running responses to finish before the cut."
    )
    max_ranges: Annotated[int, Field(ge=1, le=1000)] = Field(
        16, description="Ranges in one request; with more of them the whole object is sent."
    )


class OriginConfig(Section):
    """The bucket, and what a request to it may cost."""

    bucket: BucketName = Field(
        "",
        description="Name of the bucket, or the ARN of an access point. Required, unless there are "
        "mounts.",
    )
    prefix: Annotated[str, AfterValidator(rules.plain_prefix)] = Field(
        "", description='Put before every key: "films/" serves films/a.mp4 as /a.mp4.'
    )
    region: Annotated[str, AfterValidator(rules.region_name)] = Field(
        "", description="AWS region; empty: from AWS's own configuration."
    )
    endpoint_url: Annotated[str, AfterValidator(rules.plain_endpoint)] = Field(
        "",
        description="An S3-compatible server, like https://s3.example.com; empty: AWS.",
    )
    addressing_style: Literal["auto", "path", "virtual"] = Field(
        "auto", description='"path" for most S3-compatible servers, "virtual" for AWS.'
    )
    profile: str = Field("", description="Profile in AWS's configuration files.")
    anonymous: bool = Field(False, description="Send unsigned requests, for a public bucket.")
    signing: Literal["per-object", "per-request"] = Field(
        "per-object",
        description='"per-object" signs once for all ranges of an object asked for within minutes, '
        'which costs a fraction of the time; "per-request" has the AWS library make each request.',
    )
    use_version_ids: bool = Field(
        False,
        description="Read by version id where the bucket has versions, so that a response survives "
        "its object's replacement; needs s3:GetObjectVersion.",
    )
    sse_customer_key_file: str = Field(
        "",
        description="Path of a file with the 256-bit key (SSE-C) of the objects: its 32 bytes, or "
        "their base64. It is sent to https or loopback endpoints only.",
    )
    request_payer: bool = Field(
        False,
        description="Pay for the requests, where the bucket's owner wants it (requester pays).",
    )
    expected_bucket_owner: Annotated[str, AfterValidator(rules.account_id)] = Field(
        "",
        description="AWS account (12 digits) that owns the bucket; the origin refuses if another "
        "does.",
    )
    forbidden_as_not_found: bool = Field(
        False,
        description="Answer 404 where S3 says AccessDenied; S3 says so for missing keys when "
        "it may not list the bucket.",
    )
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = Field(
        256,
        description="Connections to the origin at once; one per body being streamed. Clients that "
        "want more have equal shares.",
    )
    pool_wait_seconds: Seconds = Field(5.0, description="For a free origin connection; then 503.")
    connect_seconds: Seconds = Field(3.0, description="For one connection attempt.")
    response_seconds: Seconds = Field(
        15.0,
        description="From a request to the first byte of its response, whatever it has to wait "
        "for; then 504.",
    )
    idle_seconds: Seconds = Field(
        10.0,
        description="The origin's answer, header or body, is given up when no byte comes for this "
        "long.",
    )
    min_bytes_per_second: Annotated[ByteSize, Field(ge=0)] = Field(
        ByteSize(8 * 1024),
        description="... or when less than this comes, on average over the window below, "
        "while we wait for the origin; 0 is no limit.",
    )
    min_rate_window_seconds: Seconds = Field(
        10.0, description="Waiting time over which min_bytes_per_second is judged."
    )
    max_attempts: Annotated[int, Field(ge=1, le=10)] = Field(
        3, description="Requests at most for one answer of the origin, hedges apart."
    )
    hedge_percent: Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)] = Field(
        2.0,
        description="Requests allowed on top, in percent, for asking a second time where the first "
        "byte is late, and taking what comes first; 0 is none.",
    )
    max_resumes: Annotated[int, Field(ge=0, le=100)] = Field(
        6,
        description="Attempts in a row at continuing a body that broke, at its next byte and of "
        "the same version; 0 aborts the response at once. Six take some seconds, enough for an "
        "origin to be restarted.",
    )

    def endpoint(self) -> OriginConfig:
        """These settings without those that concern one bucket: mounts that have the same share a
        client and its connections.
        """
        return self.model_copy(update={"bucket": "", "prefix": "", "forbidden_as_not_found": False})


class CacheConfig(Section):
    """What is kept of objects: their bytes in a directory, their facts in memory."""

    enabled: bool = Field(
        True, description="Whether to keep bytes at all; else every read goes to the origin."
    )
    directory: str = Field(
        "",
        description="Where to keep them; processes of one machine share it. Empty: the service's "
        "cache directory under systemd (CACHE_DIRECTORY), else ~/.cache/rangeserver.",
    )
    required: bool = Field(
        True,
        description="Whether to refuse to start when the directory cannot be used; if not, serve "
        "without it, and try again from time to time.",
    )
    max_bytes: Annotated[ByteSize, Field(ge=1024 * 1024)] = Field(
        ByteSize(10 * 1024**3),
        description="What the cache may take of the disk; beyond it the objects go that were not "
        "used for longest, those first that were read only once.",
    )
    min_free_bytes: Annotated[ByteSize, Field(ge=0)] = Field(
        ByteSize(1024**3), description="What it leaves free on the disk, whoever takes the rest."
    )
    block_bytes: Annotated[ByteSize, AfterValidator(rules.block_size)] = Field(
        ByteSize(256 * 1024),
        description="The unit of what is kept, 16 KiB to 16 MiB: the least that is fetched of it.",
    )
    read_ahead_bytes: Annotated[ByteSize, Field(ge=1024 * 1024)] = Field(
        ByteSize(128 * 1024**2),
        description="How far to fetch ahead of one reader at most, inside the range it asked for; "
        "it begins with 1 MiB and doubles while the reader has to wait.",
    )
    max_in_flight_bytes: Annotated[ByteSize, Field(ge=1024 * 1024)] = Field(
        ByteSize(512 * 1024**2),
        description="Bytes asked for at the origin that have not come yet, all readers together, "
        "and three quarters of them for one client at most; first less is fetched ahead, then "
        "clients are answered 503.",
    )
    ttl_seconds: SecondsOrNone = Field(
        5.0,
        description="How long facts - size, entity tag - are used without asking; 0 always "
        "asks. Reads are pinned by If-Match whatever it is. An object's own Cache-Control or "
        "Expires can only shorten this and the two below.",
    )
    stale_while_revalidate_seconds: SecondsOrNone = Field(
        10.0,
        description="... and for so much longer while the origin is being asked, which then holds "
        "up nobody; 0 is none. What was replaced or removed may be served for both together.",
    )
    stale_if_error_seconds: Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)] = (
        Field(
            86_400.0,
            description="How long after it was last asked what is kept may be served when the "
            "origin cannot be asked; 0 is not at all. What it has called gone or denied is not.",
        )
    )
    missing_seconds: SecondsOrNone = Field(
        2.0, description="How long a key is taken to be missing once the origin said so (404)."
    )

    @property
    def freshness_rules(self) -> FreshnessRules:
        """For how long facts may be used."""
        return FreshnessRules(
            self.ttl_seconds, self.stale_while_revalidate_seconds, self.stale_if_error_seconds
        )


class AdminConfig(Section):
    """Health, readiness, metrics and status, apart from the public port."""

    enabled: bool = Field(True, description="Whether to listen for them at all.")
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on. Whoever reaches it sees keys and client addresses.",
    )
    port: Port = Field(9090, description="Port to listen on; 0 lets the system choose one.")
    names: tuple[HostName, ...] = Field(
        (),
        description="Host names it goes by, such as metrics.example.com, or .example.com for all "
        "below. It always answers to addresses, to names without a dot, and to those below "
        ".localhost, .local, .internal and .svc; others may be a stranger's page in your browser.",
    )


class AccessConfig(Section):
    """What browsers may do with what they get."""

    inline_types: tuple[Annotated[str, StringConstraints(to_lower=True)], ...] = Field(
        (
            "video/*",
            "audio/*",
            "image/*",
            "text/plain",
            "text/vtt",
            "text/x-ssa",
            "application/json",
            "application/dash+xml",
            "application/ttml+xml",
            "application/vnd.apple.mpegurl",
            "application/x-mpegurl",
            "application/x-subrip",
        ),
        description="Media types shown in place. Others can carry script (HTML, SVG, PDF) and "
        "are sent as downloads in a sandbox.",
    )


class LogConfig(Section):
    """What is written to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(rules.in_lower_case)
    ] = Field("info", description="Least severe messages to write.")
    format: Literal["json", "text"] = Field("json", description="One JSON object a line, or text.")
    access: bool = Field(True, description="One line per response.")
