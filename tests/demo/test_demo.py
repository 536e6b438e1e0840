"""The demo, started and used as a person does: over HTTP, and in Chromium where there is one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from rangeserver.config import ServerConfig
from rangeserver.demo.bucket import samples
from tests.chromium import Page

KOREAN = "한국어 동영상.mp4"
SAMPLES = {file.key: file.path for file in samples()}
GIB = 1024**3

# Read here: before a test runs, every setting in the environment is taken away.
SCREENSHOT = os.environ.get("RANGESERVER_SCREENSHOT")

# What a user's own set-up may hold; none of it may reach the demo.
FOREIGN_ENVIRONMENT = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_PROFILE": "nobody",
    "RANGESERVER_ORIGIN__BUCKET": "another",
    "PYTHONWARNINGS": "error::ResourceWarning",
}


@dataclass
class Demo:
    process: subprocess.Popen[str]
    url: str
    errors: Path

    def stop(self, number: int) -> None:
        """Send a signal, and see the end: one that let streams finish would take twice as long."""
        self.process.send_signal(number)
        self.process.wait(ServerConfig().drain_seconds / 2)

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024


@contextmanager
def running_demo(directory: Path, *options: str) -> Iterator[Demo]:
    errors = directory / "stderr"
    with (
        errors.open("w") as sink,
        subprocess.Popen(
            [sys.executable, "-m", "rangeserver", "demo", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
            # Killed, it leaves its cache where the next tests remove it.
            env=os.environ | FOREIGN_ENVIRONMENT | {"TMPDIR": str(directory)},
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://\S+", line)
            assert found, line + errors.read_text()
            yield Demo(process, found[0], errors)
        finally:
            process.kill()
    assert errors.read_text() == ""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running_demo(tmp_path_factory.mktemp("demo"), "--speed", "0") as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


def address(demo: Demo, key: str) -> str:
    return demo.url + quote(key)


async def records(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    async for line in response.content:
        if line.startswith(b"data: "):
            message = json.loads(line[6:])
            for record in [*message.get("finished", []), *message.get("running", [])]:
                yield record


async def test_page_runs_nothing_but_its_own_script(
    demo: Demo, http: aiohttp.ClientSession
) -> None:
    nonces = set()
    page = ""
    for _ in range(2):
        async with http.get(demo.url) as response:
            assert response.status == 200
            assert response.content_type == "text/html"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            policy = response.headers["Content-Security-Policy"]
            page = await response.text()
        found = re.search(r"script-src 'nonce-([\w-]+)'", policy)
        assert found
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert f'<script nonce="{found[1]}">' in page
        nonces.add(found[1])
    assert len(nonces) == 2
    assert "innerHTML" not in page
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    async with http.head(demo.url) as response:
        assert response.status == 200
        assert int(response.headers["Content-Length"]) == len(page.encode())


async def test_list_names_every_sample(demo: Demo, http: aiohttp.ClientSession) -> None:
    async with http.get(demo.url + "~demo/files") as response:
        files = {file["key"]: file for file in await response.json()}
    assert {key: file["size"] for key, file in files.items()} == {
        key: path.stat().st_size for key, path in SAMPLES.items()
    }
    assert sum(file["size"] for file in files.values()) <= 5_000_000
    assert {key: files[key]["type"] for key in ("one-minute.mp4", "twenty-seconds.webm")} == {
        "one-minute.mp4": "video/mp4",
        "twenty-seconds.webm": "video/webm",
    }
    for key, file in files.items():
        async with http.head(address(demo, key)) as response:
            assert response.headers["Content-Type"] == file["type"]


async def test_every_sample_comes_byte_for_byte(demo: Demo, http: aiohttp.ClientSession) -> None:
    for key, path in SAMPLES.items():
        content = path.read_bytes()
        size = len(content)
        async with http.get(address(demo, key)) as response:
            assert (response.status, await response.read()) == (200, content)
        for asked, start, stop in [
            ("0-0", 0, 1),
            (f"{size // 3}-{size // 2}", size // 3, size // 2 + 1),
            (f"{size - 5}-", size - 5, size),
            ("-100", size - 100, size),
        ]:
            async with http.get(
                address(demo, key), headers={"Range": f"bytes={asked}"}
            ) as response:
                assert response.status == 206
                assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
                assert await response.read() == content[start:stop]


async def test_download_keeps_the_korean_name(demo: Demo, http: aiohttp.ClientSession) -> None:
    async with http.get(address(demo, KOREAN) + "?download") as response:
        kind, name = response.headers["Content-Disposition"].split("; filename*=UTF-8''")
        assert kind.startswith("attachment;")
        assert name == quote(KOREAN)
        assert await response.read() == SAMPLES[KOREAN].read_bytes()


async def test_other_hosts_are_sent_away(demo: Demo, http: aiohttp.ClientSession) -> None:
    for path in ("", "~demo/files", quote(KOREAN)):
        async with http.get(demo.url + path, headers={"Host": "evil.example:80"}) as response:
            assert response.status == 421
        port = demo.url.rpartition(":")[2]
        async with http.get(
            demo.url + path, headers={"Host": f"localhost:{port[:-1]}"}
        ) as response:
            assert response.status == 200


async def test_samples_come_at_the_speed_that_was_asked_for(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    with running_demo(tmp_path, "--speed", "500") as demo:
        began = time.perf_counter()
        async with http.get(address(demo, "twenty-seconds.webm")) as response:
            assert await response.read() == SAMPLES["twenty-seconds.webm"].read_bytes()
        beyond_burst = len(SAMPLES["twenty-seconds.webm"].read_bytes()) - 256 * 1024
        assert time.perf_counter() - began > beyond_burst / 500_000
        async with http.get(demo.url) as page:
            assert "sends the samples at 500 kB/s over each connection" in await page.text()


async def test_other_paths_of_the_page_are_objects(demo: Demo, http: aiohttp.ClientSession) -> None:
    async with http.get(demo.url + "~demo/nothing") as response:
        assert (response.status, response.content_type) == (404, "application/json")
    async with http.post(demo.url + "~demo/files") as response:
        assert response.status == 405


async def test_feed_shows_a_request_and_not_itself(demo: Demo, http: aiohttp.ClientSession) -> None:
    async with http.get(demo.url + "~demo/events") as feed:
        assert feed.content_type == "text/event-stream"
        headers = {"Range": "bytes=1000-2999", "X-Request-Id": "the-one-looked-for"}
        async with http.get(address(demo, KOREAN), headers=headers) as response:
            await response.read()
        async for record in records(feed):
            assert record["key"]
            if record["request_id"] == "the-one-looked-for" and record["outcome"]:
                break
    size = SAMPLES[KOREAN].stat().st_size
    assert record["key"] == KOREAN
    assert record["range"] == "bytes=1000-2999"
    assert record["status"] == 206
    assert record["content_range"] == f"bytes 1000-2999/{size}"
    assert (record["bytes_sent"], record["bytes_promised"]) == (2000, 2000)
    assert record["outcome"] == "complete"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
async def test_own_file_of_4_gb_and_a_quick_end(
    number: int, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    video = tmp_path / "내 영화 100%.mp4"
    with video.open("wb") as file:
        file.truncate(4 * GIB + 5)
        file.seek(4 * GIB - 3)
        file.write(b"the end!")
    with running_demo(tmp_path, "--video", str(video), "--speed", "0") as demo:
        async with http.get(demo.url + "~demo/files") as response:
            first = (await response.json())[0]
        assert (first["key"], first["size"], first["own"]) == (video.name, 4 * GIB + 5, True)
        await (await http.get(address(demo, "one-minute.mp4"))).read()
        before = demo.resident_bytes()
        url = address(demo, video.name)
        for start, content in [(4 * GIB - 3, b"the end!"), (3 * GIB, bytes(1_000_000))]:
            asked = f"bytes={start}-{start + len(content) - 1}"
            async with http.get(url, headers={"Range": asked}) as response:
                assert response.status == 206
                assert await response.read() == content
        async with (
            http.get(demo.url + "~demo/events") as feed,
            http.get(url) as stream,
        ):
            assert stream.content_length == 4 * GIB + 5
            await stream.content.readexactly(64 * 1024 * 1024)
            grown = demo.resident_bytes() - before
            assert grown < 50 * 1024 * 1024
            async for record in records(feed):
                if record["key"] == video.name and record["outcome"] is None:
                    break
            demo.stop(number)
            assert demo.process.returncode == 0
            with pytest.raises(aiohttp.ClientError):
                await stream.read()


# ---- in a browser ----------------------------------------------------------------------------

HOSTILE = "<img src=x onerror=alert(1)>.mp4"

# The colour in the middle of the lower part of the picture, where there is no text.
COLOUR = """(() => {
  const canvas = document.createElement("canvas"), video = document.getElementById("video");
  canvas.width = 96, canvas.height = 54;
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0, 96, 54);
  return [...context.getImageData(80, 40, 1, 1).data].slice(0, 3);
})()"""


def click_file(key: str) -> str:
    return f"""[...document.querySelectorAll("button.pick")]
        .find((button) => button.title === {json.dumps(key)}).click()"""


@pytest.mark.browser
async def test_playing_in_a_browser(page: Page, tmp_path: Path) -> None:
    own = tmp_path / HOSTILE
    own.write_bytes(SAMPLES[KOREAN].read_bytes())
    with running_demo(tmp_path, "--video", str(own)) as demo:
        await page.resize(1280, 900)
        await page.send("Page.navigate", url=demo.url)
        await is_ready_to_play(page, HOSTILE, 10)
        await page.evaluate(click_file(HOSTILE))  # the one that is shown already
        await plays(page)
        await page.evaluate(click_file("one-minute.mp4"))
        await is_picked_and_plays(page, "one-minute.mp4", 60)
        first = await page.evaluate(COLOUR)
        assert max(first) > 30

        await seeks(page)
        assert await page.evaluate(COLOUR) != first
        await shows_ranges(page)
        if SCREENSHOT:
            await page.screenshot(Path(SCREENSHOT))

        await downloads_the_korean_file(page, tmp_path / "downloads")

        await page.evaluate(click_file("twenty-seconds.webm"))
        await is_picked_and_plays(page, "twenty-seconds.webm", 20)
        if await page.evaluate("video.canPlayType('application/vnd.apple.mpegurl')"):
            await page.evaluate(click_file("hls/index.m3u8"))
            await is_picked_and_plays(page, "hls/index.m3u8", 30)
        await page.evaluate(click_file("fractal.jpg"))
        assert await page.until("image.naturalWidth") == 1200

        demo.stop(signal.SIGINT)
        assert demo.process.returncode == 0
        await page.until("document.getElementById('link').dataset.state === 'lost'")
    # Of the end of the demo the browser may well complain.
    assert [text for text in page.problems if "ERR_" not in text] == []


async def is_ready_to_play(page: Page, key: str, seconds: float) -> None:
    await page.until(f"document.getElementById('name')?.textContent === {json.dumps(key)}")
    await page.until("video.readyState >= 2")
    assert await page.evaluate("video.videoWidth") > 0
    assert await page.evaluate("video.duration") == pytest.approx(seconds, abs=0.1)


async def plays(page: Page) -> None:
    await page.until("!video.paused && video.currentTime > 0.2")
    await page.evaluate("video.pause()")


async def is_picked_and_plays(page: Page, key: str, seconds: float) -> None:
    await is_ready_to_play(page, key, seconds)
    await plays(page)


async def seeks(page: Page) -> None:
    """Click the bar at 80 %, as a person would."""
    await page.evaluate("video.addEventListener('seeked', () => { window.sought = true; })")
    box = await page.evaluate(
        "(({x, y, width, height}) => ({x, y, width, height}))"
        "(document.getElementById('map').getBoundingClientRect())"
    )
    point = {"x": box["x"] + 0.8 * box["width"], "y": box["y"] + box["height"] / 2}
    for kind in ("mousePressed", "mouseReleased"):
        await page.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **point)
    await page.until("window.sought && video.readyState >= 2")
    assert await page.evaluate("video.currentTime") == pytest.approx(48, abs=0.2)


async def shows_ranges(page: Page) -> None:
    size = SAMPLES["one-minute.mp4"].stat().st_size
    # First what the browser began with; then what the seek to 80 % asked for.
    rows = await page.until(
        """(() => {
          const rows = [...document.querySelectorAll("#requests tr")].map(
            (row) => [...row.cells].map((cell) => cell.textContent));
          const found = rows.filter(
            (row) => row[1] === "one-minute.mp4" && row[3].startsWith("206"));
          const start = (row) => Number(/bytes (\\d+)-/.exec(row[3])[1]) / SIZE;
          return found.some((row) => 0.7 < start(row) && start(row) < 0.9) && found;
        })()""".replace("SIZE", str(size))
    )
    assert rows[-1][2].startswith("bytes=0-")
    assert re.fullmatch(rf"206bytes 0-\d+/{size}", rows[-1][3])
    await page.until("document.querySelectorAll('#map .sent i').length > 0")


async def downloads_the_korean_file(page: Page, directory: Path) -> None:
    await page.send(
        "Browser.setDownloadBehavior",
        behavior="allow",
        downloadPath=str(directory),
        eventsEnabled=True,
    )
    label = json.dumps(f"Download {KOREAN}")
    await page.evaluate(f"document.querySelector(`a[aria-label={label}]`).click()")
    while (await page.downloads.get())["state"] != "completed":
        pass
    assert (directory / KOREAN).read_bytes() == SAMPLES[KOREAN].read_bytes()
