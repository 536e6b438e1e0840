"""What the demo's bucket holds: the samples, and a file of the user's own."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from rangeserver.errors import RequestError
from rangeserver.protocol.media_types import media_type
from rangeserver.protocol.object_keys import object_key

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

BUCKET = "demo-bucket"

_SAMPLES = Path(__file__).parent / "samples"

# The others are stored without a type, as many tools leave it: the server's own table names it.
_STORED_TYPES = {"one-minute.mp4": "video/mp4", "fractal.jpg": "image/jpeg"}

# The order on the page; what is not named here follows by name.
_ORDER = ("one-minute.mp4", "twenty-seconds.webm", "한국어 동영상.mp4", "hls/index.m3u8")


class UnusableFile(Exception):
    """The file named on the command line cannot be served; the message says why."""


@dataclass(frozen=True, slots=True)
class BucketFile:
    """A file on disk and the object it is in the bucket."""

    key: str
    path: Path
    size: int
    stored_type: str | None
    own: bool
    """Whether it is the user's: served from disk in place, while a sample is copied."""

    def described(self) -> dict[str, object]:
        """The file as the page lists it."""
        return {
            "key": self.key,
            "size": self.size,
            "type": media_type(self.key, self.stored_type),
            "own": self.own,
        }


def samples() -> list[BucketFile]:
    """The files that come with the demo: none where it was installed from a wheel."""
    found = {
        path.relative_to(_SAMPLES).as_posix(): path
        for path in _SAMPLES.rglob("*")
        if path.is_file()
    }
    order = {key: place for place, key in enumerate(_ORDER)}
    return [
        BucketFile(key, path, path.stat().st_size, _STORED_TYPES.get(key), own=False)
        for key, path in sorted(
            found.items(), key=lambda item: (order.get(item[0], len(order)), item[0])
        )
    ]


def own_file(path: Path) -> BucketFile:
    """The user's file. Raises :class:`UnusableFile`."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):  # first: opening a pipe would wait for its writer
            msg = f"{path}: is not a regular file"
            raise UnusableFile(msg)
        path.open("rb").close()
        key = object_key("/" + quote(os.fsencode(path.name)))
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise UnusableFile(msg) from error
    except RequestError as error:
        # Such a key could be stored, but a URL with it would be refused.
        msg = f"{str(path)!r}: its name cannot be served: {error.detail}"
        raise UnusableFile(msg) from error
    return BucketFile(key, path.resolve(), facts.st_size, None, own=True)


async def fill_bucket(client: S3Client, objects: dict[BucketFile, bytes]) -> None:
    """Make the bucket and store these objects."""
    await client.create_bucket(Bucket=BUCKET)
    for file, content in objects.items():
        if file.stored_type is None:
            await client.put_object(Bucket=BUCKET, Key=file.key, Body=content)
        else:
            await client.put_object(
                Bucket=BUCKET, Key=file.key, Body=content, ContentType=file.stored_type
            )
